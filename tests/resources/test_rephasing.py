"""Moving the phase centre: what was predicted at one centre is what is predicted at the other, turned."""

import numpy as np
import pytest
from simulated_set import copy_set, make_set

from dsa110_assets.science.gain_options import BandpassOptions
from dsa110_assets.science.model import ModelPredictor
from dsa110_resources.caltables import read_caltable
from dsa110_resources.measurement_set import read_column, read_layout, rewriting, write_column
from dsa110_resources.rephasing import rephase_measurement_set
from dsa110_resources.solvers import create_solver


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    return make_set(tmp_path_factory.mktemp("set"), rfi=False)


def test_a_turned_model_is_the_model_at_the_new_centre(simulated, tmp_path):
    ms = copy_set(simulated, tmp_path)
    layout = read_layout(ms)
    model = ModelPredictor.from_layout(simulated.components, layout).predict()
    with rewriting(ms, step="model"):
        write_column(ms, "MODEL_DATA", np.repeat(model[..., None], 2, axis=3))
    ra, dec = layout.phase_center_deg[0] + 0.7, layout.phase_center_deg[1] - 0.5
    moved = rephase_measurement_set(ms, tmp_path / "moved.ms", ra_deg=ra, dec_deg=dec)
    assert moved.phase_center_deg == pytest.approx((ra, dec), abs=1e-9)
    assert moved.dec_app_deg == layout.dec_app_deg
    expected = ModelPredictor.from_layout(simulated.components, moved).predict()
    turned = read_column(moved.path, "MODEL_DATA")[..., 0]
    cross = ~layout.autocorrelations
    # the smearing expansion is truncated at 5e-4 of a source, with either centre
    np.testing.assert_allclose(turned[:, cross], expected[:, cross], atol=2e-2)
    assert np.abs(turned - model)[:, cross].max() > 10


def test_uvw_keep_their_length_and_the_source_file_its_bytes(simulated, tmp_path):
    before = read_column(simulated.ms, "DATA")
    layout = read_layout(simulated.ms)
    moved = rephase_measurement_set(simulated.ms, tmp_path / "moved.ms", ra_deg=344.0, dec_deg=15.5)
    np.testing.assert_allclose(
        np.linalg.norm(moved.uvw_m, axis=2), np.linalg.norm(layout.uvw_m, axis=2), rtol=1e-9, atol=1e-6
    )
    np.testing.assert_array_equal(read_column(simulated.ms, "DATA"), before)
    back = rephase_measurement_set(
        moved.path, tmp_path / "back.ms", ra_deg=layout.phase_center_deg[0], dec_deg=layout.phase_center_deg[1]
    )
    np.testing.assert_allclose(back.uvw_m, layout.uvw_m, atol=1e-4)
    np.testing.assert_allclose(read_column(back.path, "DATA"), before, rtol=1e-4, atol=1e-5)


def test_gains_do_not_depend_on_the_phase_centre(simulated, tmp_path):
    calibrator = simulated.components.select(np.array([int(np.argmax(simulated.components.flux_jy))]))
    moved = rephase_measurement_set(
        simulated.ms, tmp_path / "moved.ms", ra_deg=calibrator.ra_deg[0], dec_deg=calibrator.dec_deg[0]
    )
    tables = []
    for name, ms in (("here", simulated.ms), ("there", moved.path)):
        out = {"bpcal": tmp_path / f"{name}.bpcal"}
        create_solver("native").solve_bandpass(ms, simulated.components, options=BandpassOptions(), out=out)
        tables.append(read_caltable(out["bpcal"]))
    good = ~tables[0].flags & ~tables[1].flags
    ratio = tables[0].gains[good] / tables[1].gains[good]
    assert np.abs(ratio - 1).max() < 2e-3
