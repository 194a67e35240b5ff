"""Tables that the platform learns from its own light curves: positions, and what the detector would find."""

from __future__ import annotations

from dsa110_assets.science.schema.columns import TableSchema, count, flag, number, position, source_id, text

_DAY = text("day", "UTC day of the partition, YYYY-MM-DD", ucd="time.epoch", required=True)

SOURCE_POSITIONS = TableSchema(
    name="source_positions",
    partition="day",
    key=("source_id",),
    description="Positions learned over the epochs, as of that day; held fixed once they are good",
    columns=(
        source_id(),
        _DAY,
        *position("", "the source, mean of the fitted positions"),
        number("ra_err_arcsec", "arcsec", "stat.error;pos.eq.ra", "1σ error along RA, × cos Dec"),
        number("dec_err_arcsec", "arcsec", "stat.error;pos.eq.dec", "1σ error along Dec"),
        number("ra_offset_arcsec", "arcsec", "pos.eq.ra;arith.diff", "Learned minus catalogue, × cos Dec"),
        number("dec_offset_arcsec", "arcsec", "pos.eq.dec;arith.diff", "Learned minus catalogue"),
        count("n_epochs", "Epochs behind the position"),
        flag("is_held", "Whether photometry holds it fixed"),
        text("catalogue_version", "Version of the master catalogue", ucd="meta.version"),
    ),
)

INJECTION_RECOVERY = TableSchema(
    name="injection_recovery",
    partition="day",
    key=("depth", "width_days", "lens_strength", "snr"),
    description="Lenses injected into that day's real light curves: how many the detector finds",
    columns=(
        _DAY,
        number("depth", "", "src.var.amplitude;arith.ratio", "Fractional depth, middle of the bin", required=True),
        number("width_days", "d", "time.duration", "Full width, middle of the bin", required=True),
        number("lens_strength", "", "stat.fit.param", "Lens strength a, middle of the bin", required=True),
        number("snr", "", "stat.snr", "Epoch signal-to-noise ratio of the source, middle of the bin", required=True),
        number("cadence_days", "d", "time.interval", "Median interval between epochs"),
        count("n_injected", "Events injected"),
        count("n_recovered", "Events found above the threshold"),
        number("completeness", "", "stat.probability", "n_recovered / n_injected"),
        number("threshold", "", "stat.likelihood", "Detection threshold (score)"),
        number("median_delay_days", "d", "time.interval", "From onset to detection"),
        number("source_years", "yr", "time.duration", "Source-years searched without injections"),
        count("n_false_alarms", "Candidates in them"),
        number("false_alarms_per_source_year", "yr**-1", "arith.rate", "n_false_alarms / source_years"),
    ),
)

DERIVED_TABLES = (SOURCE_POSITIONS, INJECTION_RECOVERY)
