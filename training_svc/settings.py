"""Settings of the training service, from the environment: `TRAINING_<FIELD>`."""

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from service_kit.model_registry.retention import KEEP_VERSIONS
from service_kit.settings import ServiceSettings


class TrainingSettings(ServiceSettings):
    """See the fields."""

    model_config = SettingsConfigDict(env_prefix="TRAINING_", populate_by_name=True)

    database_url: str = "postgresql:///training"
    """URL of PostgreSQL database `training`; its password may come by PGPASSFILE instead."""

    mlflow_url: str = "http://127.0.0.1:5001"
    """URL of the MLflow tracking server."""

    state_dir: Path = Path(".mesh/training")
    """A folder of this service's own, for rows, checkpoints and models of the jobs under way."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """What to train on; `auto` takes a CUDA device when there is one. With `cuda` and no such
    device the service refuses to start."""

    base_model: str = ""
    """Hub id or folder that trainings start from unless asked otherwise; empty: the packaged
    MiniLM encoder, which needs no network."""

    promotion_p_value: float = Field(default=0.05, gt=0, le=1)
    """Largest p-value of the paired test with which the training service promotes a better
    challenger at once. A canary has a limit of its own, CONTROL_CANARY_P_VALUE."""

    keep_failed_jobs: int = Field(default=3, ge=0)
    """Folders of failed jobs that are kept for a look; those of other ended jobs are removed."""

    keep_versions: int = Field(default=KEEP_VERSIONS, ge=1)
    """Newest versions of a model that are kept, besides those with an alias."""

    checkpoint_seconds: float = Field(default=30.0, gt=0)
    """Seconds of training that an interruption may cost; a checkpoint takes about 0.3 s."""

    nice: int = Field(default=0, ge=0, le=19)
    """How far a training gives way to whatever else wants the CPU, such as replicas beside it: from
    0, not at all, to 19."""
