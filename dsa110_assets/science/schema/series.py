"""Tables of time series and of what is found in them (day partitions), mosaics, monitoring and the catalogue."""

from __future__ import annotations

from dsa110_assets.science.schema.columns import (
    Column,
    TableSchema,
    count,
    flag,
    instant,
    millijansky,
    mjd,
    number,
    position,
    renamed,
    source_id,
    text,
)
from dsa110_assets.science.schema.tiles import BEAM, CREATED_AT, QUALITY, RUN_ID, TABLE_SET

_FLUX = "phot.flux.density;em.radio"
_FLUX_ERROR = "stat.error;phot.flux.density;em.radio"
_DAY = text("day", "UTC day of the partition, YYYY-MM-DD", ucd="time.epoch", required=True)
_REFERENCE_VERSION = text("reference_version", "Version of the reference set and baselines", ucd="meta.version")
_CATALOGUE_VERSION = text("catalogue_version", "Version of the master catalogue", ucd="meta.version")

PHOTOMETRY_TIMESERIES = TableSchema(
    name="photometry_timeseries",
    partition="day",
    key=("source_id", "epoch", "kind"),
    sort_by=("source_id", "mjd", "kind"),
    description="Light curves: one row per source and tile, and one combined row per source and day",
    columns=(
        source_id(),
        mjd("mjd", "Middle of the exposure (weighted for combined rows)", required=True),
        text(
            "epoch", "Image of the measurement, or the day of a combined one", ucd="meta.id;time.epoch", required=True
        ),
        text("kind", "tile or daily", ucd="meta.code.class", required=True),
        number("flux_jy", "Jy", _FLUX, "Flux density as measured"),
        number("flux_err_jy", "Jy", _FLUX_ERROR, "1σ statistical error of flux_jy"),
        number("flux_err_total_jy", "Jy", _FLUX_ERROR, "Error of flux_jy with the absolute scale included"),
        number("normalized_flux_jy", "Jy", _FLUX, "Flux density after ensemble normalisation"),
        number("normalized_flux_err_jy", "Jy", _FLUX_ERROR, "1σ error of normalized_flux_jy"),
        number("correction_factor", "", "arith.factor;instr.calib", "Epoch scale divided out"),
        number("correction_err", "", "stat.error;instr.calib", "1σ error of correction_factor"),
        count("n_references", "References behind the correction"),
        count("n_tiles", "Tiles behind the row (1 for kind tile)"),
        text("image_path", "Image measured (the one of highest weight for combined rows)", ucd="meta.ref;meta.file"),
        text("group_id", "Subband group (of highest weight for combined rows)", ucd="meta.id;obs"),
        text("method", "residual or clean", ucd="meta.code.class"),
        number("freq_ghz", "GHz", "em.freq;stat.mean", "Effective frequency"),
        number("pb_response", "", "arith.factor;instr.beam", "Primary-beam response (0–1)"),
        number("x_deg", "deg", "pos.eq.ra;arith.diff", "Offset east of the image centre"),
        number("y_deg", "deg", "pos.eq.dec;arith.diff", "Offset north of the image centre"),
        instant("measured_at", "When the photometry was made", ucd="time.processing"),
        count("flags", "PhotometryFlag bits; 0 is good", ucd="meta.code.qual", required=True),
        TABLE_SET,
        _REFERENCE_VERSION,
        _CATALOGUE_VERSION,
    ),
)

ENSEMBLE_CORRECTION = TableSchema(
    name="ensemble_correction",
    partition="day",
    key=("epoch",),
    sort_by=("mjd", "epoch"),
    description="Flux scale of each image relative to the references: one row per epoch",
    columns=(
        _DAY,
        text("epoch", "Image path of the epoch", ucd="meta.id;time.epoch", required=True),
        mjd("mjd", "Middle of the exposure", required=True),
        number("correction", "", "arith.factor;instr.calib", "Factor by which the epoch is too bright"),
        number("err", "", "stat.error;instr.calib", "1σ error of correction"),
        count("n_refs", "References used"),
        number("scatter", "", "stat.stdev;arith.ratio", "Robust scatter of the references about the correction"),
        number("held_out", "", "stat.stdev;arith.ratio", "Robust scatter of bright sources left out of the ensemble"),
        count("n_held_out", "Sources behind held_out"),
        number("gradient_x_per_deg", "deg**-1", "arith.rate", "East–west gradient of ln scale"),
        number("gradient_y_per_deg", "deg**-1", "arith.rate", "North–south gradient of ln scale"),
        text("method", "honeycutt or median", ucd="meta.code.class"),
        count("flags", "PhotometryFlag bits of the epoch", ucd="meta.code.qual"),
        TABLE_SET,
        _REFERENCE_VERSION,
        _CATALOGUE_VERSION,
    ),
)

_STATISTICS: tuple[Column, ...] = (
    source_id(),
    _DAY,
    *position("", "the source"),
    number("nvss_flux_jy", "Jy", _FLUX, "NVSS flux density at 1.4 GHz"),
    count("n_obs", "Good epochs"),
    number("mean_flux_jy", "Jy", f"{_FLUX};stat.mean", "Mean flux density"),
    number("weighted_mean_flux_jy", "Jy", f"{_FLUX};stat.mean", "Inverse-variance weighted mean"),
    number("median_flux_jy", "Jy", f"{_FLUX};stat.median", "Median flux density"),
    number("std_flux_jy", "Jy", f"{_FLUX};stat.stdev", "Standard deviation (ddof 1)"),
    number("min_flux_jy", "Jy", f"{_FLUX};stat.min", "Smallest flux density"),
    number("max_flux_jy", "Jy", f"{_FLUX};stat.max", "Largest flux density"),
    number("chi2_nu", "", "stat.fit.chi2;src.var", "Reduced χ² against constancy (equal to eta)"),
    number("eta", "", "src.var.index", "η of Swinbank+15"),
    number("v", "", "src.var.index", "V = std / mean"),
    number("debiased_modulation", "", "src.var.amplitude", "Modulation index with the errors taken out"),
    number("vs_max", "", "src.var.index", "Largest |Vs| of pairs of epochs"),
    number("m_max", "", "src.var.amplitude", "|m| of that pair"),
    number("sigma_deviation", "", "src.var.index", "Largest leave-one-out deviation in σ"),
    number("p_value", "", "stat.probability", "χ² probability of a constant source"),
    number("significance", "", "stat.snr;src.var", "The same in Gaussian σ"),
    number("ese_score", "", "src.var.index", "Composite score (0–1)"),
    flag("is_variable", "χ²_ν > 3 or V > 0.05"),
    mjd("first_mjd", "First good epoch"),
    instant("last_measured_at", "When the last measurement was made", ucd="time.processing"),
    mjd("last_mjd", "Last good epoch"),
    instant("updated_at", "When the row was computed", ucd="time.processing"),
    _REFERENCE_VERSION,
    _CATALOGUE_VERSION,
)

_BY_NAME = {column.name: column for column in _STATISTICS}

VARIABILITY_STATS = TableSchema(
    name="variability_stats",
    partition="day",
    key=("source_id",),
    description="Variability of every source as of that day",
    columns=_STATISTICS,
    aliases=(
        *millijansky(
            _STATISTICS,
            "nvss_flux_jy",
            "mean_flux_jy",
            "median_flux_jy",
            "std_flux_jy",
            "min_flux_jy",
            "max_flux_jy",
        ),
        renamed(_BY_NAME["n_obs"], "n_epochs"),
        renamed(_BY_NAME["chi2_nu"], "chi2_reduced"),
        renamed(_BY_NAME["v"], "fractional_variability"),
        renamed(_BY_NAME["eta"], "eta_metric"),
    ),
)

ESE_CANDIDATES = TableSchema(
    name="ese_candidates",
    partition="day",
    key=("candidate_id",),
    sort_by=("ese_score", "candidate_id"),
    description="Extreme scattering event candidates as of that day",
    columns=(
        text("candidate_id", "Name of the candidate, the same from day to day", ucd="meta.id", required=True),
        source_id(),
        _DAY,
        mjd("mjd_start", "Onset: the template departs by 10 % of its depth", ucd="time.start"),
        mjd("mjd_end", "End of the event (last epoch while it lasts)", ucd="time.end"),
        number("depth", "", "src.var.amplitude;arith.ratio", "Fractional depth of the dip"),
        number("timescale_days", "d", "time.duration", "Full width of the event"),
        number("asymmetry", "", "stat.param", "Asymmetry of the event (−1…1)"),
        number("lens_strength", "", "stat.fit.param", "Lens strength a at freq_ghz"),
        number("source_fwhm", "", "stat.fit.param", "Source size in lens units"),
        number("freq_ghz", "GHz", "em.freq", "Frequency of lens_strength"),
        number("score", "", "stat.likelihood", "Matched-filter score of the detector"),
        number("ese_score", "", "src.var.index", "1 − local false-alarm probability, or the composite of a seed"),
        number("significance", "", "stat.snr;src.var", "Significance in Gaussian σ"),
        number("false_alarm_probability", "", "stat.probability", "Look-elsewhere false-alarm probability"),
        number("false_alarms_per_source_year", "yr**-1", "arith.rate", "Rate at this score from injections"),
        number("completeness", "", "stat.probability", "Recovered fraction of such events from injections"),
        number("colour_score", "", "stat.likelihood", "Agreement with a ∝ ν⁻² across the band"),
        text("flag_type", "variability, rapid_change, ese_template or user", ucd="meta.code.class", required=True),
        instant("flagged_at", "When it was first raised", ucd="time.creation"),
        text("flagged_by", "auto or a name", ucd="meta.curation"),
        instant("first_detection_at", "Time of the first epoch it was found in", ucd="time.epoch"),
        instant("last_detection_at", "Time of the last epoch it was found in", ucd="time.epoch"),
        number("max_sigma_dev", "", "src.var.index", "Largest leave-one-out deviation in σ"),
        count("n_epochs", "Good epochs of the light curve"),
        flag("ongoing", "Whether the event had not ended on that day"),
        text("vetoes", "Vetoes that apply, joined by commas; empty when none", ucd="meta.code.qual"),
        text("notes", "Remarks", ucd="meta.note"),
        _REFERENCE_VERSION,
    ),
)

_PAIRS: tuple[Column, ...] = (
    source_id(),
    _DAY,
    *position("", "the source"),
    number("spectral_index", "", "spect.index;em.radio", "α of S ∝ ν^α; null when the frequencies are too near"),
    number("spectral_index_err", "", "stat.error;spect.index", "1σ error of spectral_index"),
    number("curvature", "", "spect.index;stat.fit.param", "Log-parabola curvature (≥ 4 frequencies)"),
    number("freq1_ghz", "GHz", "em.freq", "Lower frequency"),
    number("freq2_ghz", "GHz", "em.freq", "Higher frequency"),
    number("flux1_jy", "Jy", _FLUX, "Flux density at freq1_ghz"),
    number("flux2_jy", "Jy", _FLUX, "Flux density at freq2_ghz"),
    number("flux1_err_jy", "Jy", _FLUX_ERROR, "1σ error of flux1"),
    number("flux2_err_jy", "Jy", _FLUX_ERROR, "1σ error of flux2"),
    text("catalog1", "Catalogue of flux1, or the first of several", ucd="meta.bib", required=True),
    text("catalog2", "Catalogue of flux2, or the last of several", ucd="meta.bib", required=True),
    number("match_separation_arcsec", "arcsec", "pos.angDistance", "Largest separation of the match"),
    count("n_frequencies", "Frequencies in the fit"),
    text("fit_quality", "good, fair or poor", ucd="meta.code.qual"),
    text("spectral_class", "steep, normal, flat or inverted", ucd="meta.code.class"),
    text("catalogue_version", "Version of the master catalogue", ucd="meta.version"),
    instant("calculated_at", "When the row was computed", ucd="time.processing"),
    text("notes", "Why a value is missing, and remarks", ucd="meta.note"),
)

SPECTRAL_INDICES = TableSchema(
    name="spectral_indices",
    partition="day",
    key=("source_id", "catalog1", "catalog2"),
    description="Spectral indices: one row per source and pair of catalogues as of that day",
    columns=_PAIRS,
    aliases=millijansky(_PAIRS, "flux1_jy", "flux2_jy", "flux1_err_jy", "flux2_err_jy"),
)

MOSAICS = TableSchema(
    name="mosaics",
    partition="hour or day",
    key=("path",),
    description="Mosaics: one row per hourly, transit or custom mosaic and per nightly panel",
    columns=(
        text("path", "FITS file, relative to the data root", ucd="meta.ref;meta.file", required=True),
        text("name", "Mosaic name", ucd="meta.id;meta.main", required=True),
        CREATED_AT,
        mjd("start_mjd", "Start of the first tile", ucd="time.start", required=True),
        mjd("end_mjd", "End of the last tile", ucd="time.end", required=True),
        number("integration_sec", "s", "time.duration;obs.exposure", "Sum of the tiles' time on sky"),
        count("n_images", "Tiles used"),
        *position("center_", "the mosaic centre"),
        number("dec_min_deg", "deg", "pos.eq.dec;stat.min", "Southern edge"),
        number("dec_max_deg", "deg", "pos.eq.dec;stat.max", "Northern edge"),
        number("noise_jy", "Jy/beam", "stat.stdev;phot.flux.density;em.radio", "Median rms where covered"),
        number("noise_ratio", "", "stat.stdev;arith.ratio", "rms over (Σ w P²)^(−1/2)"),
        *BEAM,
        count("n_sources", "Sources above 5σ"),
        text("thumbnail_path", "PNG preview, relative to the data root", ucd="meta.ref;meta.file"),
        text("method", "Coaddition: weights, regridding and beam", ucd="meta.code.class"),
        text("kind", "hourly, nightly, transit or custom", ucd="meta.code.class"),
        text("state", "staged, validated or published", ucd="meta.code.status"),
        number("freq_ghz", "GHz", "em.freq;stat.mean", "Effective frequency"),
        text("projection", "SIN, HPX or CAR", ucd="meta.code;pos.projection"),
        text("tiles", "Group ids used, joined by commas", ucd="meta.ref"),
        QUALITY,
        text("checksum", "SHA-256 of the file", ucd="meta.checksum"),
        RUN_ID,
    ),
)

CALIBRATION_MONITORING = TableSchema(
    name="calibration_monitoring",
    partition="hour or day",
    key=("calibrator_name", "mjd", "table_path"),
    sort_by=("mjd", "calibrator_name"),
    description="What every bandpass and gain solve says of the flux scale",
    columns=(
        text("calibrator_name", "Calibrator, or field_ensemble", ucd="meta.id;src", required=True),
        text("ms_path", "Measurement Set solved", ucd="meta.ref;meta.file"),
        text("table_path", "Calibration table", ucd="meta.ref;meta.file", required=True),
        text("table_type", "K, BP or G", ucd="meta.code.class"),
        number("observed_flux_jy", "Jy", _FLUX, "Flux density observed"),
        number("observed_flux_err_jy", "Jy", _FLUX_ERROR, "1σ error of observed_flux_jy"),
        number("catalog_flux_jy", "Jy", _FLUX, "Flux density of the model"),
        number(
            "flux_ratio", "", "phot.flux.density;em.radio;arith.ratio", "observed / catalogue; reported, never applied"
        ),
        number(
            "ensemble_ratio", "", "phot.flux.density;em.radio;arith.ratio", "Median observed / catalogue of the field"
        ),
        count("n_ensemble", "Sources behind ensemble_ratio"),
        number("frequency_ghz", "GHz", "em.freq", "Frequency of the fluxes"),
        mjd("mjd", "Middle of the data solved", required=True),
        text("timestamp_iso", "The same time as ISO 8601, UTC", ucd="time.epoch"),
        number("phase_rms_deg", "deg", "stat.stdev;phys.angSize", "rms change of the phases"),
        number("amp_rms", "", "stat.stdev;arith.ratio", "rms of the amplitudes over their median"),
        number("flagged_fraction", "", "meta.code.qual;arith.ratio", "Flagged solutions of working receptors (0–1)"),
        text("flux_anchor", "What the flux scale rests on", ucd="meta.ref;instr.calib"),
        text("solver", "native or casa", ucd="meta.id;meta.software"),
        CREATED_AT,
        text("notes", "Remarks", ucd="meta.note"),
    ),
)

SERIES_TABLES = (
    PHOTOMETRY_TIMESERIES,
    ENSEMBLE_CORRECTION,
    VARIABILITY_STATS,
    ESE_CANDIDATES,
    SPECTRAL_INDICES,
    MOSAICS,
    CALIBRATION_MONITORING,
)
