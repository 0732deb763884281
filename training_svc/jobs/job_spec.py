"""The order that the service gives to the child process of a job: a file in the job's folder."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from training_svc.base_models.allow_list import BaseModel
from training_svc.jobs.job import Params
from training_svc.learning.whole_files import write_whole

FILE = "job.json"

# URLs may hold passwords, so the child gets them in its environment and not in the file.
DATABASE_URL_VARIABLE = "TRAINING_DATABASE_URL"
MLFLOW_URL_VARIABLE = "TRAINING_MLFLOW_URL"
MLFLOW_TOKEN_VARIABLE = "TRAINING_MLFLOW_TOKEN_FILE"  # noqa: S105  a variable's name
MLFLOW_ARTIFACTS_VARIABLE = "TRAINING_MLFLOW_ARTIFACTS_URL"
# The file of the key; only its path is in the environment.
SIGNING_KEY_VARIABLE = "TRAINING_SIGNING_KEY"
MODEL_KEYS_VARIABLE = "TRAINING_MODEL_KEYS"


@dataclass(frozen=True)
class JobSpec:
    """One attempt of one job, with the service's settings for it."""

    job_id: str
    request_id: str
    model: str
    attempt: int
    params: Params
    promote: bool
    base: BaseModel  # what the training starts from
    base_models_dir: str  # downloads of hub models
    base_model_mib: int  # see TrainingSettings, as for the one below
    base_model_seconds: float
    device: Literal["auto", "cpu", "cuda"]
    promotion_p_value: float  # see TrainingSettings, as for the two below
    checkpoint_seconds: float
    nice: int

    def write(self, folder: Path) -> None:
        """Write the spec into the job's folder."""
        write_whole(folder / FILE, json.dumps(asdict(self)))

    @classmethod
    def read(cls, folder: Path) -> "JobSpec":
        """Read the spec of the job's folder."""
        values = json.loads((folder / FILE).read_text())
        params, base = Params(**values["params"]), BaseModel(**values["base"])
        return cls(**values | {"params": params, "base": base})
