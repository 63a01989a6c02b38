"""Settings from the environment and from `.env`; see INTERFACE section 2 in the README.

Belongs here: what a deployment may choose. Does not belong here: what a tenant may choose (thresholds, webhooks: rows).
"""

from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Literal, Self

from cryptography.fernet import Fernet
from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from storage.errors import UsageError

PROJECT_ROOT = Path(__file__).resolve().parent.parent
Port = Annotated[int, Field(ge=1, le=65535)]
Networks = Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode]


class Settings(BaseSettings):
    """Everything a deployment can set, each as `TIDEMARK_<NAME>`."""

    model_config = SettingsConfigDict(
        env_prefix="TIDEMARK_", env_file=PROJECT_ROOT / ".env", extra="ignore", frozen=True, env_ignore_empty=True
    )

    home: Path = Field(PROJECT_ROOT / ".tidemark", description="embedded server's data, Dagster home, secret key")
    database_url: SecretStr | None = Field(None, description="the platform's database; embedded PostgreSQL if unset")
    dagster_database_url: SecretStr | None = Field(None, description="Dagster's storage; database dagster if unset")
    # For ever, because what was dropped can't be had again, and only a deployment knows how long it must keep records.
    evaluations_retention_days: int | None = Field(
        None, ge=31, description="days that evaluations themselves are kept; for ever if unset, aggregates always"
    )
    audit_retention_days: int = Field(
        90, ge=30, description="days that entries of the audit log are kept; seals always"
    )
    dagster_retention_days: int = Field(30, ge=1, description="days that Dagster's finished runs and events are kept")
    webhook_bodies_retention_days: int = Field(
        30, ge=1, description="days that bodies of events are kept; later no delivery of them can be sent again"
    )
    webhook_attempts_retention_days: int = Field(90, ge=1, description="days that the log of webhook attempts is kept")
    # A dry run looks back at 61 of them.
    alert_log_retention_days: int = Field(
        180, ge=62, description="days that the log of what was told of alerts is kept; alerts themselves always"
    )
    drop_folder: str = Field(
        "", description="whose TENANT/*.ndjson|csv|parquet are landed: a path or an fsspec URL; HOME/drop if unset"
    )
    gateway_host: str = Field("127.0.0.1", min_length=1, description="address on which the HTTP door listens")
    gateway_port: Port = Field(8000, description="its port")
    gateway_max_in_flight_bytes: int = Field(
        64 * 1024 * 1024, ge=8 * 1024 * 1024, description="bytes of unanswered requests at once; above it 503"
    )
    gateway_records_a_second: int | None = Field(
        None, ge=1, description="what a tenant may push through one gateway; any number if unset, above it 429"
    )
    admin_networks: Networks = Field(
        (), description="CIDRs beside loopback that may read /metrics; if set, admin keys open from there alone"
    )
    forecast_executor: Literal["in_process", "multiprocess", "celery"] = Field(
        "in_process", description="where forecasts run: with the refresh, in processes of this machine, on workers"
    )
    forecast_shards: int | None = Field(
        None,
        ge=1,
        le=1000,
        description="parts of the fleet that are learnt apart; if unset, 1 in process, else 8",
    )
    forecast_hindsight: int = Field(
        200_000,
        ge=0,
        description="so many past days of templates, that nobody has judged, are judged in hindsight a day; 0 for none",
    )
    celery_broker: SecretStr | None = Field(
        None, description="the broker of Celery's workers; Dagster's database serves as one if unset"
    )
    celery_backend: SecretStr | None = Field(None, description="where they answer; Dagster's database if unset")
    dagster_port: Port = Field(3000, description="Dagster's web page, on 127.0.0.1")
    secret_keys: SecretStr | None = Field(None, description="comma-separated Fernet keys; generated if unset")
    webhook_allowed_networks: Networks = Field((), description="CIDRs that webhooks may reach although not public")
    page_url: str | None = Field(
        None, pattern=r"^https?://[!-~]{1,1000}$", description="where people look at alerts; linked in Slack and Teams"
    )
    log_format: Literal["console", "json", "auto"] = Field("auto", description="console on a terminal, else json")

    @field_validator("home", mode="after")
    @classmethod
    def _absolute_home(cls, value: Path) -> Path:
        return value.expanduser().resolve()

    @field_validator("webhook_allowed_networks", "admin_networks", mode="before")
    @classmethod
    def _split_networks(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(ip_network(part.strip(), strict=False) for part in value.split(",") if part.strip())
        return value

    @field_validator("secret_keys", mode="after")
    @classmethod
    def _valid_fernet_keys(cls, value: SecretStr | None) -> SecretStr | None:
        for key in value.get_secret_value().split(",") if value else ():
            try:
                Fernet(key.strip())
            except ValueError:
                raise ValueError("each key must be 32 url-safe base64-encoded bytes") from None
        return value

    @model_validator(mode="after")
    def _dagster_storage_is_apart(self) -> Self:
        if self.database_url and self.dagster_database_url == self.database_url:
            raise ValueError("TIDEMARK_DAGSTER_DATABASE_URL must name another database than TIDEMARK_DATABASE_URL")
        return self

    @model_validator(mode="after")
    def _log_outlives_bodies(self) -> Self:
        if self.webhook_attempts_retention_days < self.webhook_bodies_retention_days:
            raise ValueError(
                "TIDEMARK_WEBHOOK_ATTEMPTS_RETENTION_DAYS must not be less than TIDEMARK_WEBHOOK_BODIES_RETENTION_DAYS"
            )
        return self

    @property
    def drop_folder_address(self) -> str:
        """Where files are dropped: a local path, or a URL that fsspec knows."""
        return self.drop_folder or str(self.home / "drop")

    @property
    def forecast_parts(self) -> int:
        """Into how many parts the fleet is cut for its replays."""
        return self.forecast_shards or (1 if self.forecast_executor == "in_process" else 8)

    @property
    def dagster_home(self) -> Path:
        """Where Dagster's instance configuration lives."""
        return self.home / "dagster"


def load_settings() -> Settings:
    """Read the settings.

    Raises:
        UsageError: a variable has a value that can't be used; the message names it.
    """
    try:
        return Settings()
    except ValidationError as error:
        problems = "; ".join(
            f"{'_'.join(('TIDEMARK', *(str(part).upper() for part in issue['loc'][:1])))}: {issue['msg']}"
            for issue in error.errors(include_input=False)
        )
        raise UsageError(f"settings: {problems}. `tidemark settings` lists what each variable means.") from None
