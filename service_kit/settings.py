"""The settings that every service has; each service adds its own and its environment prefix."""

from pathlib import Path

from pydantic import AliasChoices, Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class ServiceSettings(BaseSettings):
    """Read from environment variables `<PREFIX>_<FIELD>`; each subclass sets its prefix."""

    model_config = SettingsConfigDict(extra="ignore", use_attribute_docstrings=True)

    host: str = "127.0.0.1"
    """Address to listen on."""

    identity_folder: Path | None = Field(
        default=None, validation_alias=AliasChoices("MESH_IDENTITY_FOLDER", "identity_folder")
    )
    """Folder with cert.pem, key.pem and ca.pem, the certificate that names this part: its servers
    and its calls of other parts then use mutual TLS. Empty: plain text."""

    plain_text: bool = Field(
        default=False, validation_alias=AliasChoices("MESH_PLAIN_TEXT", "plain_text")
    )
    """Whether a part without an identity may listen where other machines reach it. For networks
    that let nobody else in."""

    port: int = 0
    """gRPC port; 0 lets the system choose a free one."""

    metrics_port: int = 0
    """Port of the Prometheus page; 0 switches it off."""

    log_level: str = "INFO"
    """DEBUG, INFO, WARNING or ERROR."""

    drain_seconds: float = 1.5
    """Seconds between saying NOT_SERVING and refusing calls: one health-check interval of Envoy."""

    grace_seconds: float = 30.0
    """Seconds that calls in flight have to finish at shutdown."""

    @field_validator("identity_folder", mode="before")
    @classmethod
    def _empty_is_no_folder(cls, value: object) -> object:
        return value or None


class MlflowSettings(ServiceSettings):
    """The settings of a service that calls MLflow."""

    mlflow_url: str = "http://127.0.0.1:5001"
    """MLflow's tracking server, whose registry says which version is the Champion."""

    mlflow_token_file: Path | None = None
    """File with the token that this service sends to MLflow; read again when it changes. Not set:
    none is sent."""

    mlflow_artifacts_url: str = ""
    """Artifact server, where it is another than MLflow: the token goes to these two only."""
