"""The settings that every service has; each service adds its own and its environment prefix."""

from pydantic_settings import BaseSettings, SettingsConfigDict


class ServiceSettings(BaseSettings):
    """Read from environment variables `<PREFIX>_<FIELD>`; each subclass sets its prefix."""

    model_config = SettingsConfigDict(extra="ignore", use_attribute_docstrings=True)

    host: str = "127.0.0.1"
    """Address to listen on."""

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
