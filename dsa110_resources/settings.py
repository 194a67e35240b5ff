"""Settings: the only reader of the environment.

Order of precedence: ``DSA110_*`` environment, the customer's older names, ``dsa110.toml``, the default.
"""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from dsa110_resources.errors import PermanentError

SETTINGS_FILE_VARIABLE = "DSA110_SETTINGS"
DEFAULT_SETTINGS_FILE = "dsa110.toml"
PREFIX = "DSA110_"

ALIASES: dict[str, str] = {
    "CONTIMG_STAGE_TO_TMPFS": "staging",
    "CONTIMG_SLACK_WEBHOOK_URL": "slack_webhook_url",
    "CONTIMG_QA_MS_MAX_FLAGGED": "qa_ms_max_flagged",
    "CONTIMG_QA_MS_MAX_ZEROS": "qa_ms_max_zeros",
    "CONTIMG_QA_MS_MIN_AMP": "qa_ms_min_amplitude",
    "CONTIMG_QA_CAL_MAX_FLAGGED": "qa_cal_max_flagged",
    "CONTIMG_QA_CAL_MAX_PHASE_CHANGE_DEG": "qa_cal_max_phase_change_deg",
    "CONTIMG_QA_IMG_MIN_DYNAMIC_RANGE": "qa_img_min_dynamic_range",
    "CONTIMG_QA_IMG_MIN_PEAK_SNR": "qa_img_min_peak_snr",
    "CONTIMG_QA_IMG_MAX_RMS_RATIO": "qa_img_max_rms_ratio",
    "EXPECTED_SUBBANDS": "expected_subbands",
    "CHUNK_MINUTES": "chunk_minutes",
    "MONITOR_INTERVAL": "monitor_interval_s",
    "LOG_LEVEL": "log_level",
}
"""The customer's names, accepted as they are; ``DSA110_*`` wins."""


class Settings(BaseModel):
    """Every setting of the platform, validated at start.

    Each field is the environment variable ``DSA110_`` + its name in capitals, or a key of ``dsa110.toml``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    data_root: Path = Field(Path("data-root"), description="folder of all products")
    state_root: Path | None = Field(None, description="operations database and catalogues; default: the data root")
    incoming: Path | None = Field(None, description="folder of arriving subbands; default: DATA_ROOT/incoming")
    partitions_start: datetime = Field(
        datetime(2025, 1, 1, tzinfo=UTC), description="campaign start (UTC): first tile partition"
    )
    operations_url: str | None = Field(None, description="operations database; default: SQLite under the state root")
    catalogue: Path | None = Field(None, description="component CSV used as sky model, targets and references")
    nvss_catalogue: Path | None = Field(None, description="NVSS file from which `sources` is built")
    vlass_catalogue: Path | None = Field(None, description="VLASS file (optional)")
    first_catalogue: Path | None = Field(None, description="FIRST file (optional)")
    racs_catalogue: Path | None = Field(None, description="RACS file (optional)")
    racs_survey: Literal["racs_low", "racs_mid", "racs_high"] = Field("racs_mid", description="which RACS that is")
    nvss_flux_unit: Literal["jy", "mjy", "ujy"] | None = Field(None, description="if the file's header says none")
    vlass_flux_unit: Literal["jy", "mjy", "ujy"] | None = Field(None, description="if the file's header says none")
    first_flux_unit: Literal["jy", "mjy", "ujy"] | None = Field(None, description="if the file's header says none")
    racs_flux_unit: Literal["jy", "mjy", "ujy"] | None = Field(None, description="if the file's header says none")
    known_variables: Path | None = Field(None, description="CSV of sources that are never references")

    expected_subbands: int = Field(16, ge=1, le=16, description="subbands of a complete group")
    min_subbands: int = Field(14, ge=1, le=16, description="fewest subbands of a partial group that is processed")
    group_wait_s: float = Field(600.0, ge=0, description="how long an incomplete group is waited for, s")
    chunk_minutes: float = Field(5.0, ge=5, le=5, description="length of a tile partition, min (fixed by the schedule)")
    monitor_interval_s: float = Field(30.0, ge=1, le=3600, description="interval of the subband sensor, s")
    period_quiet_s: float = Field(1800.0, gt=0, description="an hour or day with no arrival for so long is closed, s")
    sensor_max_requests: int = Field(25, ge=1, le=100, description="run requests per sensor tick")
    waiting_calibration_warn_h: float = Field(48.0, gt=0, description="a group waiting longer gives a WARN, h")

    staging: Literal["auto", "tmpfs", "disk"] = Field("disk", description="where an MS is built before publication")
    tmpfs: Path = Field(Path(os.sep, "dev", "shm"), description="RAM disk used by staging=tmpfs")
    writer: Literal["auto", "direct", "pyuvdata"] = Field("auto", description="Measurement Set writer")
    flagging_strategy: Literal["array_wide", "aoflagger", "flagdata"] = Field(
        "array_wide", description="RFI flagging after zeros and dead receptors"
    )
    solver: Literal["native", "casa"] = Field("native", description="calibration solver")
    calibration_preset: Literal["full", "fast"] = Field("full", description="options of B and G solves")
    apply_delay_table: bool = Field(False, description="apply K as well (it is always solved for QA)")
    bandpass_validity_h: float = Field(24.0, gt=0, description="validity of K and BP either side, h")
    gain_validity_h: float = Field(1.0, gt=0, description="validity of G either side, h")
    calibrator_min_flux_jy: float = Field(1.0, gt=0, description="faintest calibrator for a bandpass, Jy")
    imager: Literal["auto", "wsclean", "native", "tclean"] = Field(
        "auto", description="auto: wsclean if installed, else native"
    )
    imaging_tier: Literal["quicklook", "development", "standard", "high_precision"] = Field(
        "standard", description="depth and size of images; quicklook makes residual photometry only"
    )
    seed_min_mjy: float = Field(10.0, ge=0, description="faintest catalogue source that seeds the sky model, mJy")
    photometry_min_mjy: float = Field(0.0, ge=0, description="faintest catalogue source that is measured, mJy")
    imaging_slots: int = Field(1, ge=1, le=64, description="images made at the same time")

    qa_ms_max_flagged: float = Field(0.5, ge=0, le=1, description="flagged fraction of an MS above which it stops")
    qa_ms_max_zeros: float = Field(0.3, ge=0, le=1, description="zero fraction of an MS above which it stops")
    qa_ms_min_amplitude: float = Field(1e-6, ge=0, description="least median raw amplitude of an MS")
    qa_cal_max_flagged: float = Field(0.3, ge=0, le=1, description="flagged fraction of working receptors' solutions")
    qa_cal_max_phase_change_deg: float = Field(90.0, gt=0, le=180, description="phase change from the last table, deg")
    qa_cal_max_delay_gradient: float = Field(0.02, gt=0, description="delay plane across the array, ns/m")
    qa_img_min_dynamic_range: float = Field(5.0, ge=0, description="least peak / rms of an image")
    qa_img_min_peak_snr: float = Field(5.0, ge=0, description="least signal-to-noise of the brightest pixel")
    qa_img_max_rms_ratio: float = Field(3.0, ge=1, description="rms / thermal expectation above which it is WARN")

    slack_webhook_url: str | None = Field(
        None, description="Slack webhook (secret)", json_schema_extra={"secret": True}
    )
    disk_warning_gb: float = Field(200.0, ge=0, description="free disk below which there is a warning, GB")
    disk_critical_gb: float = Field(100.0, ge=0, description="free disk below which it is critical, GB")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = Field("INFO", description="log level")

    @field_validator("staging", mode="before")
    @classmethod
    def _stage_flag(cls, value: object) -> object:
        """Read the customer's CONTIMG_STAGE_TO_TMPFS, which is a truth value."""
        truths = {"1": "auto", "true": "auto", "yes": "auto", "on": "auto"}
        falses = {"0": "disk", "false": "disk", "no": "disk", "off": "disk"}
        return (truths | falses).get(str(value).lower(), value)

    @field_validator("partitions_start")
    @classmethod
    def _utc(cls, value: datetime) -> datetime:
        aware = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        return aware.replace(hour=0, minute=0, second=0, microsecond=0)

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @model_validator(mode="after")
    def _consistent(self) -> "Settings":
        if self.min_subbands > self.expected_subbands:
            raise ValueError(f"min_subbands {self.min_subbands} exceeds expected_subbands {self.expected_subbands}")
        if self.disk_critical_gb > self.disk_warning_gb:
            raise ValueError("disk_critical_gb exceeds disk_warning_gb")
        return self

    @property
    def incoming_dir(self) -> Path:
        """Folder of arriving subbands."""
        return self.incoming or self.data_root / "incoming"

    @property
    def state_dir(self) -> Path:
        """Folder of the state that must survive."""
        return self.state_root or self.data_root

    @property
    def database_url(self) -> str:
        """SQLAlchemy URL of the operations database."""
        return self.operations_url or f"sqlite:///{(self.state_dir / 'operations.sqlite3').absolute()}"


@dataclass(frozen=True)
class DescribedSetting:
    """One setting as an operator reads it: secrets are masked."""

    name: str
    value: str
    default: str
    allowed: str
    source: str
    description: str


def load_settings(
    environment: Mapping[str, str] | None = None, *, file: Path | None = None, **overrides: object
) -> Settings:
    """Read and validate the settings.

    Parameters
    ----------
    environment
        Default: the process environment.
    file
        TOML file; default: ``DSA110_SETTINGS`` or ``dsa110.toml`` in the working directory, if it exists.
    overrides
        Settings given by a command line; they win.

    Raises
    ------
    PermanentError
        Naming each wrong setting, where it came from and what is allowed.
    """
    values, sources = _collect(os.environ if environment is None else environment, file)
    for name, value in overrides.items():
        if value is not None:
            values[name], sources[name] = value, "command line"
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        lines = [_explain(problem, sources) for problem in error.errors()]
        raise PermanentError(
            "; ".join(lines), cure="correct them; `dsa110 doctor --settings` lists every setting with its range"
        ) from error


def describe_settings(
    environment: Mapping[str, str] | None = None, *, file: Path | None = None
) -> list[DescribedSetting]:
    """Every setting with its value, default, range and source, secrets masked."""
    environment = os.environ if environment is None else environment
    settings = load_settings(environment, file=file)
    _, sources = _collect(environment, file)
    described = []
    schema = Settings.model_json_schema()["properties"]
    for name, field in Settings.model_fields.items():
        secret = schema[name].get("secret", False)
        value = getattr(settings, name)
        described.append(
            DescribedSetting(
                name=f"{PREFIX}{name.upper()}",
                value="(set)" if secret and value else str(value),
                default=str(field.default),
                allowed=_allowed(schema[name]),
                source=sources.get(name, "default"),
                description=field.description or "",
            )
        )
    return described


def _collect(environment: Mapping[str, str], file: Path | None) -> tuple[dict[str, Any], dict[str, str]]:
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    path = file or Path(environment.get(SETTINGS_FILE_VARIABLE, DEFAULT_SETTINGS_FILE))
    if path.is_file():
        for name, value in _read_toml(path).items():
            values[name.lower()], sources[name.lower()] = value, str(path)
    elif file is not None or SETTINGS_FILE_VARIABLE in environment:
        raise PermanentError("the settings file does not exist", path=path, cure="create it or unset DSA110_SETTINGS")
    for alias, name in ALIASES.items():
        if alias in environment:
            values[name], sources[name] = environment[alias], alias
    for name in Settings.model_fields:
        variable = f"{PREFIX}{name.upper()}"
        if variable in environment:
            values[name], sources[name] = environment[variable], variable
    return values, sources


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise PermanentError(f"not valid TOML: {error}", path=path, cure="correct the file") from error


def _explain(problem: Mapping[str, Any], sources: Mapping[str, str]) -> str:
    name = str(problem["loc"][0]) if problem["loc"] else ""
    source = sources.get(name, "")
    shown = source if source.isupper() else f"{name} (in {source})"
    return f"{shown}={problem.get('input')!r}: {problem['msg']}" if name else str(problem["msg"])


def _allowed(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    bounds = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits = [f"{sign} {schema[key]:g}" for key, sign in bounds.items() if key in schema]
    return ", ".join(limits) or str(schema.get("type", "text"))
