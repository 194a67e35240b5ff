"""Tables with one partition per tile (or mosaic): what one subband group leaves behind."""

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
    source_id,
    text,
)

GROUP_ID = text(
    "group_id", "Subband group (start of the observation, UTC) or mosaic name", ucd="meta.id;obs", required=True
)
RUN_ID = text("run_id", "Dagster run that wrote the row", ucd="meta.id")
TABLE_SET = text("table_set", "Names of the bandpass and gain tables applied, joined by +", ucd="meta.ref;instr.calib")
QUALITY = text("quality", "Verdict of the checks: good, warn or bad", ucd="meta.code.qual")
CREATED_AT = instant("created_at", "When the row was written", ucd="time.creation")
FIELD_NAME = text("field_name", "Name of the pointing (declination strip and start)", ucd="meta.id;obs.field")

BEAM = (
    number("beam_major_arcsec", "arcsec", "phys.angSize.smajAxis;instr.beam", "Synthesized beam, major FWHM"),
    number("beam_minor_arcsec", "arcsec", "phys.angSize.sminAxis;instr.beam", "Synthesized beam, minor FWHM"),
    number("beam_pa_deg", "deg", "pos.posAng;instr.beam", "Synthesized beam, position angle east of north"),
)

MS_INDEX = TableSchema(
    name="ms_index",
    partition="tile",
    key=("path",),
    description="Measurement Sets: one row per subband group",
    columns=(
        text("path", "Measurement Set directory, relative to the data root", ucd="meta.ref;meta.file", required=True),
        GROUP_ID,
        mjd("start_mjd", "Start of the first integration", ucd="time.start", required=True),
        mjd("end_mjd", "End of the last integration", ucd="time.end", required=True),
        mjd("mid_mjd", "Middle of the observation", required=True),
        instant("processed_at", "When conversion finished", ucd="time.processing"),
        text("status", "completed, partial or failed", ucd="meta.code.status"),
        text("stage", "Last stage that finished", ucd="meta.code.status"),
        instant("stage_updated_at", "When that stage finished", ucd="time.processing"),
        flag("cal_applied", "Whether CORRECTED_DATA holds calibrated visibilities"),
        text("imagename", "Image made from it, relative to the data root", ucd="meta.ref;meta.file"),
        FIELD_NAME,
        *position("pointing_", "the meridian at the middle of the observation"),
        count("n_rows", "Rows (integrations × baselines)"),
        count("n_antennas", "Antennas with data"),
        count("n_channels", "Channels"),
        count("n_subbands", "Subbands present (16 when complete)"),
        number("flagged_fraction", "", "meta.code.qual;arith.ratio", "Flagged fraction of working receptors (0–1)"),
        number("zero_fraction", "", "meta.code.qual;arith.ratio", "Fraction of exactly zero visibilities (0–1)"),
        text("kind", "calibrators or science", ucd="meta.code.class"),
        text("writer_type", "Converter: direct or pyuvdata", ucd="meta.id;meta.software"),
        TABLE_SET,
        count("attempt", "Attempt of the group (a late subband bumps it)"),
        RUN_ID,
    ),
)

IMAGES = TableSchema(
    name="images",
    partition="tile or mosaic",
    key=("path",),
    description="FITS images: one row per file",
    columns=(
        text("path", "FITS file, relative to the data root", ucd="meta.ref;meta.file", required=True),
        text("ms_path", "Measurement Set it was made from", ucd="meta.ref;meta.file"),
        GROUP_ID,
        CREATED_AT,
        text("type", "image, pb, pbcor, residual, rms, model, psf or mosaic", ucd="meta.code.class", required=True),
        text("format", "File format", ucd="meta.code.mime"),
        *BEAM,
        number("noise_jy", "Jy/beam", "stat.stdev;phot.flux.density;em.radio", "Robust rms of the image"),
        number("noise_ratio", "", "stat.stdev;arith.ratio", "rms over the thermal expectation"),
        number("dynamic_range", "", "stat.snr", "Peak over rms"),
        number("peak_jy", "Jy/beam", "phot.flux.density;em.radio;stat.max", "Highest pixel"),
        flag("pbcor", "Whether the image is corrected for the primary beam"),
        FIELD_NAME,
        *position("center_", "the image centre"),
        count("imsize_x", "Pixels along RA", ucd="meta.number;pos"),
        count("imsize_y", "Pixels along Dec", ucd="meta.number;pos"),
        number("cellsize_arcsec", "arcsec", "pos.angDistance;instr.pixel", "Pixel size"),
        number("freq_ghz", "GHz", "em.freq;stat.mean", "Effective frequency"),
        number("bandwidth_mhz", "MHz", "instr.bandwidth", "Bandwidth used"),
        number("integration_sec", "s", "time.duration;obs.exposure", "Time on sky"),
        mjd("mid_mjd", "Middle of the exposure", required=True),
        text("imager", "wsclean, native or tclean", ucd="meta.id;meta.software"),
        text("tier", "quicklook, development, standard or high_precision", ucd="meta.code.class"),
        text("weighting", "Visibility weighting", ucd="meta.note"),
        text("state", "staged, validated or published", ucd="meta.code.status"),
        text("bp_table", "Bandpass table applied", ucd="meta.ref;instr.calib"),
        number("bp_age_hours", "h", "time.interval;instr.calib", "Age of the bandpass table at mid-exposure"),
        text("g_table", "Gain table applied", ucd="meta.ref;instr.calib"),
        number("g_age_hours", "h", "time.interval;instr.calib", "Age of the gain table at mid-exposure"),
        text("flux_anchor", "What the flux scale rests on", ucd="meta.ref;instr.calib"),
        count("n_subbands", "Subbands used"),
        TABLE_SET,
        QUALITY,
        text("checksum", "SHA-256 of the file", ucd="meta.checksum"),
        RUN_ID,
    ),
)

_PHOTOMETRY_COLUMNS: tuple[Column, ...] = (
    source_id(),
    text("image_path", "Image measured, relative to the data root", ucd="meta.ref;meta.file", required=True),
    GROUP_ID,
    text("method", "residual or clean", ucd="meta.code.class", required=True),
    *position("", "the position measured"),
    number("nvss_flux_jy", "Jy", "phot.flux.density;em.radio", "NVSS flux density at 1.4 GHz"),
    number("catalog_flux_jy", "Jy", "phot.flux.density;em.radio", "Catalogue flux density at freq_ghz"),
    number(
        "peak_jyb", "Jy/beam", "phot.flux.density;em.radio;stat.max", "Peak flux, primary-beam corrected, at freq_ghz"
    ),
    number("peak_err_jyb", "Jy/beam", "stat.error;phot.flux.density;em.radio", "1σ statistical error of peak_jyb"),
    number("flux_jy", "Jy", "phot.flux.density;em.radio", "Flux density, primary-beam corrected, at freq_ghz"),
    number("flux_err_jy", "Jy", "stat.error;phot.flux.density;em.radio", "1σ statistical error of flux_jy"),
    number("apparent_jyb", "Jy/beam", "phot.flux.density;em.radio", "Peak flux as in the image, not corrected"),
    number("err_rms", "Jy/beam", "stat.error;phot.flux.density;em.radio", "Error from the rms alone, corrected"),
    number("err_cal", "Jy/beam", "stat.error.sys;phot.flux.density;em.radio", "f_cal × flux, absolute scale only"),
    number("err_stat_jyb", "Jy/beam", "stat.error;phot.flux.density;em.radio", "Statistical error, corrected"),
    number("err_total_jyb", "Jy/beam", "stat.error;phot.flux.density;em.radio", "Statistical and scale error combined"),
    number("local_rms_jyb", "Jy/beam", "stat.stdev;phot.flux.density;em.radio", "Local rms of the image measured"),
    number("local_background_jyb", "Jy/beam", "instr.background;phot.flux.density;em.radio", "Local background"),
    number("snr", "", "stat.snr", "peak_jyb / peak_err_jyb"),
    number("chi2", "", "stat.fit.chi2", "χ² of the beam fit"),
    count("dof", "Degrees of freedom of the beam fit", ucd="stat.fit.dof"),
    number("ra_offset_arcsec", "arcsec", "pos.eq.ra;arith.diff", "Fitted minus catalogue position, × cos Dec"),
    number("dec_offset_arcsec", "arcsec", "pos.eq.dec;arith.diff", "Fitted minus catalogue position"),
    number("ra_offset_err_arcsec", "arcsec", "stat.error;pos.eq.ra", "1σ error of ra_offset_arcsec"),
    number("dec_offset_err_arcsec", "arcsec", "stat.error;pos.eq.dec", "1σ error of dec_offset_arcsec"),
    number("freq_ghz", "GHz", "em.freq;stat.mean", "Effective frequency of the measurement"),
    Column(
        "subband_fluxes_jyb",
        "list<float64>",
        "Jy/beam",
        "phot.flux.density;em.radio",
        "In-band sub-image fluxes, ascending frequency; NaN where not measured",
    ),
    Column("subband_freqs_ghz", "list<float64>", "GHz", "em.freq", "Frequencies of subband_fluxes_jyb"),
    instant("measured_at", "When the measurement was made", ucd="time.processing"),
    mjd("mjd", "Middle of the exposure", required=True),
    number("sep_from_center_deg", "deg", "pos.angDistance", "Distance from the image centre"),
    number("x_deg", "deg", "pos.eq.ra;arith.diff", "Offset east of the image centre (direction cosine)"),
    number("y_deg", "deg", "pos.eq.dec;arith.diff", "Offset north of the image centre (direction cosine)"),
    number("pb_response", "", "arith.factor;instr.beam", "Drift-averaged primary-beam response (0–1)"),
    count("flags", "PhotometryFlag bits; 0 is good", ucd="meta.code.qual", required=True),
    TABLE_SET,
    QUALITY,
    text("catalogue_version", "Version of the reference catalogue used", ucd="meta.version"),
    RUN_ID,
)

PHOTOMETRY = TableSchema(
    name="photometry",
    partition="tile or mosaic",
    key=("image_path", "source_id", "method"),
    sort_by=("method", "source_id"),
    description="Forced measurements: one row per source, image and method, non-detections included",
    columns=_PHOTOMETRY_COLUMNS,
    aliases=millijansky(_PHOTOMETRY_COLUMNS, "nvss_flux_jy", "flux_jy", "flux_err_jy"),
)

POINTING_HISTORY = TableSchema(
    name="pointing_history",
    partition="tile",
    key=("group_id",),
    description="Where the telescope pointed: one row per subband group",
    columns=(
        GROUP_ID,
        instant("timestamp", "Middle of the observation", ucd="time.epoch"),
        mjd("mjd", "Middle of the observation", required=True),
        *position("", "the meridian"),
        number("alt_deg", "deg", "pos.az.alt", "Altitude"),
        number("az_deg", "deg", "pos.az.azi", "Azimuth, north through east"),
        number("lst_hours", "h", "time.epoch;pos.eq.ra", "Apparent local sidereal time"),
        FIELD_NAME,
    ),
)

_SECONDS = "time.duration;time.processing"

PERFORMANCE_METRICS = TableSchema(
    name="performance_metrics",
    partition="tile",
    key=("group_id",),
    description="What each stage cost: one row per subband group, the last attempt",
    columns=(
        GROUP_ID,
        text("writer_type", "Converter: direct or pyuvdata", ucd="meta.id;meta.software"),
        number("conversion_time", "s", _SECONDS, "Conversion to the Measurement Set"),
        number("concat_time", "s", _SECONDS, "Concatenation (null: subbands are written into one set)"),
        number("flagging_time", "s", _SECONDS, "Flagging"),
        number("k_solve_time", "s", _SECONDS, "Delay solve"),
        number("bp_solve_time", "s", _SECONDS, "Bandpass solve"),
        number("g_solve_time", "s", _SECONDS, "Gain solve"),
        number("apply_time", "s", _SECONDS, "Applying calibration"),
        number("imaging_time", "s", _SECONDS, "Imaging"),
        number("photometry_time", "s", _SECONDS, "Photometry"),
        number("total_time", "s", _SECONDS, "All stages"),
        number("latency_sec", "s", "time.interval", "From the last subband's arrival to the photometry"),
        number("peak_memory_gb", "Gbyte", "meta.number", "Largest resident memory"),
        instant("recorded_at", "When the row was written", ucd="time.creation"),
        count("attempt", "Attempt of the group"),
        RUN_ID,
    ),
)

QA_ARTIFACTS = TableSchema(
    name="qa_artifacts",
    partition="tile or day",
    key=("group_id", "name"),
    description="Plots and reports of quality checks",
    columns=(
        GROUP_ID,
        text("name", "Name of the artifact, unique within the group", ucd="meta.id", required=True),
        text("path", "File, relative to the data root", ucd="meta.ref;meta.file", required=True),
        text("type", "png, json, html or fits", ucd="meta.code.mime"),
        text("category", "conversion, flagging, calibration, imaging, photometry, variability", ucd="meta.code.class"),
        CREATED_AT,
    ),
)

TILE_TABLES = (MS_INDEX, IMAGES, PHOTOMETRY, POINTING_HISTORY, PERFORMANCE_METRICS, QA_ARTIFACTS)
