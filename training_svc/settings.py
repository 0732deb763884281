"""Settings of the training service, from the environment: `TRAINING_<FIELD>`."""

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from service_kit.model_registry.expired_versions import KEEP_VERSIONS
from service_kit.settings import MlflowSettings
from training_svc.base_models.allow_list import BaseModels


class TrainingSettings(MlflowSettings):
    """The settings; each field says what it sets."""

    model_config = SettingsConfigDict(env_prefix="TRAINING_", populate_by_name=True)

    database_url: str = "postgresql:///training"
    """URL of PostgreSQL database `training`; its password may come by PGPASSFILE instead."""

    state_dir: Path = Path(".mesh/training")
    """Folder that no other service uses, for rows, checkpoints and models of unfinished jobs."""

    signing_key: Path | None = None
    """PEM file of the Ed25519 private key that signs each version. Not set: none is signed, and
    replicas that ask for signatures refuse them."""

    model_keys: Path | None = None
    """PEM file of the public keys with which versions are trusted besides that of the own key. With
    a signing key, a Champion that none of them has signed is neither compared with nor started
    from."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device to train on; `auto` takes a CUDA device when there is one, else the CPU. With `cuda`
    and no CUDA device the service refuses to start."""

    base_models: str = ""
    """The models that callers may name to start from, besides the packaged encoder `minilm`:
    entries between commas, each `NAME=/FOLDER`, `HUB_ID@COMMIT` or `NAME=HUB_ID@COMMIT` with the
    40 hexadecimal digits of a commit. A hub model without a name has its hub id as its name."""

    base_model: str = ""
    """What trainings start from unless the caller names another model of the list: a name of the
    list, or a folder or hub model as in `base_models`; empty: `minilm`, which needs no network."""

    base_model_mib: int = Field(default=4096, ge=1)
    """Largest hub model in MiB that is downloaded, the files of its weights and tokenizer
    together."""

    base_model_seconds: float = Field(default=1800.0, gt=0)
    """Seconds that the download of a hub model may take; it happens once."""

    max_examples: int = Field(default=100_000, ge=2)
    """Newest rows of a table that a training takes unless its caller says how many."""

    promotion_p_value: float = Field(default=0.05, gt=0, le=1)
    """Largest p-value of the paired test with which the training service promotes a better
    challenger at once. A canary has a limit of its own, CONTROL_CANARY_P_VALUE."""

    keep_failed_jobs: int = Field(default=3, ge=0)
    """Newest folders of failed jobs that are kept for inspection; folders of other ended jobs are
    removed."""

    keep_versions: int = Field(default=KEEP_VERSIONS, ge=1)
    """Newest versions of a model that are kept, besides those with an alias."""

    checkpoint_seconds: float = Field(default=30.0, gt=0)
    """Seconds of training that an interruption may cost; a checkpoint takes about 0.3 s."""

    nice: int = Field(default=0, ge=0, le=19)
    """Niceness of the child process that trains, 0 to 19. A higher one leaves more CPU time to
    other processes, such as replicas on the same machine."""

    def allowed_base_models(self) -> BaseModels:
        """Return the list of base models. Raises ValueError."""
        return BaseModels.parse(self.base_models, self.base_model)
