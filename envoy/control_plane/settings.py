"""Settings of the control plane, from the environment: CONTROL_<FIELD>."""

from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from control_plane.judge import Rules
from control_plane.topology import Address
from service_kit.settings import ServiceSettings


class ControlPlaneSettings(ServiceSettings):
    """What the control plane has to know."""

    model_config = SettingsConfigDict(env_prefix="CONTROL_")

    replicas: Annotated[tuple[str, ...], NoDecode] = ()
    """gRPC addresses of the inference replicas, host:port, separated by commas."""

    mlflow_url: str = "http://127.0.0.1:5001"
    """The MLflow server, whose registry says which version is best and which is served."""

    database_url: str = "postgresql:///training"
    """The PostgreSQL database whose locks order promotions and rollbacks."""

    prepare_seconds: float = 300.0
    """Longest preparation of a version by a replica before a Reload is given up."""

    upkeep_seconds: float = 1.0
    """Between two looks at the fleet."""

    canary_p_value: float = Field(default=Rules.promotion_p_value, gt=0, le=1)
    """Largest p-value of the comparison on held-out rows with which a canary promotes."""

    @field_validator("replicas", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(str(Address.parse(part)) for part in value.split(",") if part.strip())
