"""Combining tiles to transits against plain weighted means."""

import numpy as np
import pandas as pd
import pytest

from dsa110_assets.science.errors import ShapeError
from dsa110_assets.science.flags import PhotometryFlag
from dsa110_assets.science.lightcurve import combine_transits, day_of_mjd, transit_mjd

FIRST = 60954.9


def tiles(days: int = 5, per_transit: int = 3, sources: int = 4) -> pd.DataFrame:
    rng = np.random.default_rng(2)
    rows = []
    for s in range(sources):
        for d in range(days):
            for t in range(per_transit):
                response = [0.6, 1.0, 0.7][t]
                rows.append(
                    {
                        "source_id": f"S{s}",
                        "mjd": FIRST + 0.99727 * d + 309.24 / 86400 * t,
                        "flux_jy": rng.normal(1.0, 0.01 / response),
                        "flux_err_jy": 0.01 / response,
                        "normalized_flux_jy": rng.normal(1.0, 0.01),
                        "normalized_flux_err_jy": 0.012 / response,
                        "pb_response": response,
                        "image_path": f"{d}-{t}",
                        "n_references": 20 + t,
                        "flags": 0,
                    }
                )
    return pd.DataFrame(rows)


def test_one_row_per_source_and_transit_with_the_weighted_mean() -> None:
    table = tiles()
    out = combine_transits(table.sample(frac=1.0, random_state=1))
    assert len(out) == 20
    assert (out.n_tiles == 3).all()
    part = table[(table.source_id == "S2") & table.image_path.str.startswith("3-")]
    row = out[(out.source_id == "S2")].iloc[3]
    w = 1 / part.flux_err_jy**2
    assert row.flux_jy == pytest.approx(np.sum(w * part.flux_jy) / np.sum(w), rel=1e-12)
    assert row.flux_err_jy == pytest.approx(1 / np.sqrt(np.sum(w)), rel=1e-12)
    wn = 1 / part.normalized_flux_err_jy**2
    assert row.normalized_flux_jy == pytest.approx(np.sum(wn * part.normalized_flux_jy) / np.sum(wn), rel=1e-12)
    assert row.normalized_flux_err_jy == pytest.approx(1 / np.sqrt(np.sum(wn)), rel=1e-12)
    assert row.image_path == "3-1"
    assert row.n_references == 20
    assert row["flags"] == PhotometryFlag.COMBINED
    assert row.kind == "daily"


def test_weights_are_those_of_beam_and_rms() -> None:
    out = combine_transits(tiles(1, 3, 1))
    p = np.array([0.6, 1.0, 0.7])
    assert out.pb_response[0] == pytest.approx(np.sum(p**3) / np.sum(p**2))


def test_bad_tiles_do_not_enter_and_their_transit_may_vanish() -> None:
    table = tiles(2, 3, 1)
    table.loc[1, "flags"] = int(PhotometryFlag.EDGE)
    table.loc[2, "flux_jy"] = np.nan
    table.loc[3:5, "flags"] = int(PhotometryFlag.FLAGGED_RMS)
    out = combine_transits(table)
    assert out.n_tiles.tolist() == [1]
    assert out.flux_jy[0] == table.flux_jy[0]


def test_a_transit_without_normalised_flux_stays_unknown() -> None:
    table = tiles(2, 2, 1)
    table.loc[:1, ["normalized_flux_jy", "normalized_flux_err_jy"]] = np.nan
    out = combine_transits(table)
    assert np.isnan(out.normalized_flux_jy[0])
    assert np.isnan(out.normalized_flux_err_jy[0])
    assert np.isfinite(out.normalized_flux_jy[1])


def test_the_day_is_that_of_the_meridian_transit() -> None:
    mid = 60955.0  # midnight
    ra = float((0.0 + 360.0 * 0) % 360)
    at = float(transit_mjd(mid, ra)[0])
    assert abs(at - mid) <= 0.5
    # three tiles around a transit that falls 100 s before midnight: all belong to the earlier day
    ra = (ra + (60955.0 - 100 / 86400 - at) * 360.98564736629) % 360
    assert float(transit_mjd(60955.0, ra)[0]) == pytest.approx(60955.0 - 100 / 86400, abs=2 / 86400)
    table = tiles(1, 3, 1).assign(mjd=60955.0 + np.array([-1.0, 0.0, 1.0]) * 309.24 / 86400, ra_deg=ra)
    assert combine_transits(table).epoch.tolist() == [day_of_mjd(60954.5)[0]]


def test_days_are_calendar_days() -> None:
    assert day_of_mjd([40587.0, 60954.99999, 60955.0]).tolist() == ["1970-01-01", "2025-10-06", "2025-10-07"]


def test_empty_tables_and_missing_columns() -> None:
    assert len(combine_transits(tiles().iloc[:0])) == 0
    with pytest.raises(ShapeError, match="mjd"):
        combine_transits(tiles().drop(columns="mjd"))
