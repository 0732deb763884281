"""Writes a training's run, model and version to MLflow, from the child process.

Every step can be repeated: a resumed training finds its run, its logged model and its version.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import httpx
import mlflow
import torch
import transformers
from huggingface_hub import ModelCard
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, LifecycleStage, Metric, Param
from mlflow.environment_variables import MLFLOW_TRACKING_TOKEN
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, Schema

from service_kit.errors import Unavailable
from service_kit.model_registry.mlflow_token import MlflowToken
from service_kit.model_registry.records import TAG_BATCH_ID, TAG_JOB_ID
from training_svc.child.registered_versions import RegisteredVersions
from training_svc.child.signed_model import SignedModel, source_of
from training_svc.child.waiting import until_available
from training_svc.jobs.job_spec import JobSpec
from training_svc.learning.model_loading import load_trained, quiet
from training_svc.learning.trainer import Progress
from training_svc.learning.whole_files import write_whole

log = logging.getLogger(__name__)

T = TypeVar("T")

TAG_ATTEMPT = "mesh.attempt"
TAG_ROWS_DIGEST = "mesh.rows_digest"
LOSS_EVERY_S = 5.0  # seconds between two uploads of the training loss
HEALTH_TIMEOUT_S = 5.0  # seconds
MAX_FAILURES = 5  # failures of one step on MLflow's side while its health check answers
MAX_DATASET_DIGEST = 36  # characters that MLflow accepts
MODEL_ID_FILE = "logged_model.txt"
PACKAGED_ENCODER_NAME = "sentence-transformers/all-MiniLM-L6-v2"
PACKAGED_ENCODER_LICENSE = "apache-2.0"

# The model takes a list of texts and returns one label with its score for each text.
SIGNATURE = ModelSignature(
    inputs=Schema([ColSpec("string")]),
    outputs=Schema([ColSpec("string", "label"), ColSpec("double", "score")]),
)


class MlflowTracker:
    """The MLflow run of one attempt."""

    def __init__(
        self,
        url: str,
        spec: JobSpec,
        folder: Path,
        versions: RegisteredVersions,
        token: MlflowToken | None = None,
    ) -> None:
        """`token` is sent with each request; None: none is."""
        self._token = token
        mlflow.set_tracking_uri(url)
        self._url = url
        self._spec = spec
        self._folder = folder
        self._versions = versions
        self._client = MlflowClient(url)
        self._http = httpx.Client(timeout=HEALTH_TIMEOUT_S)
        self._losses: list[Metric] = []
        self._lock = threading.Lock()
        self._uploader = ThreadPoolExecutor(1, thread_name_prefix="loss")
        self._upload: Future[None] | None = None
        self._uploaded = time.monotonic()
        self.run_id = self._persist(self._find_or_create_run)

    def log_progress(self, progress: Progress) -> None:
        """Note the training loss. A thread uploads the losses every LOSS_EVERY_S seconds."""
        now = int(time.time() * 1000)
        with self._lock:
            self._losses.append(Metric("loss", progress.loss, now, progress.step))
        idle = self._upload is None or self._upload.done()
        if idle and time.monotonic() - self._uploaded >= LOSS_EVERY_S:
            self._uploaded = time.monotonic()
            self._upload = self._uploader.submit(self._try_upload_losses)

    def log_results(
        self, params: Mapping[str, Any], metrics: Mapping[str, float], rows: Mapping[str, Any]
    ) -> None:
        """Log hyperparameters, final metrics and the dataset; wait while MLflow is away."""
        self._uploader.shutdown()
        self._persist(self._upload_losses)
        now = int(time.time() * 1000)
        finals = [Metric(name, value, now, 0) for name, value in metrics.items()]
        values = [Param(name, str(value)) for name, value in params.items()]
        dataset = DatasetInput(
            Dataset(
                name=f"training.{self._spec.model}",
                digest=rows["digest"][:MAX_DATASET_DIGEST],
                source_type="postgresql",
                source=f'{{"table": "training.{self._spec.model}"}}',
                profile=f'{{"train": {rows["train"]}, "test": {rows["test"]}}}',
            ),
            [InputTag("mlflow.data.context", "training")],
        )

        def log_all() -> None:
            self._client.log_batch(self.run_id, metrics=finals, params=values)
            self._client.log_inputs(self.run_id, [dataset])
            self._client.set_tag(self.run_id, TAG_ROWS_DIGEST, rows["digest"])

        self._persist(log_all)

    def log_model(self, model_dir: Path, files: SignedModel, base_model: str) -> str:
        """Log the model and the files beside it as one LoggedModel, once; return its id."""
        noted = self._folder / MODEL_ID_FILE
        if not noted.exists():
            model_id = self._persist(lambda: self._log_model(model_dir, files, base_model))
            write_whole(noted, model_id)
        return noted.read_text()

    def register(self, model_id: str) -> str:
        """Return the job's version, which is created with its tags unless it exists."""
        return self._persist(lambda: self._find_or_create_version(model_id))

    def tags(self) -> dict[str, str]:
        """The tags that mark a run, a logged model and a version as this job's."""
        spec = self._spec
        return {TAG_BATCH_ID: spec.request_id, TAG_JOB_ID: spec.job_id, "model": spec.model}

    def _find_or_create_run(self) -> str:
        spec = self._spec
        experiment = self._experiment()
        attempt = str(spec.attempt)
        runs = self._client.search_runs(
            [experiment],
            f"tags.`{TAG_JOB_ID}` = '{spec.job_id}' and tags.`{TAG_ATTEMPT}` = '{attempt}'",
            max_results=1,
        )
        if runs:
            return str(runs[0].info.run_id)
        run = self._client.create_run(
            experiment, run_name=spec.request_id, tags=self.tags() | {TAG_ATTEMPT: attempt}
        )
        return str(run.info.run_id)

    def _experiment(self) -> str:
        experiment = self._client.get_experiment_by_name(self._spec.model)
        if experiment is None:
            return str(self._client.create_experiment(self._spec.model))
        if experiment.lifecycle_stage == LifecycleStage.DELETED:
            self._client.restore_experiment(experiment.experiment_id)
        return str(experiment.experiment_id)

    def _find_or_create_version(self, model_id: str) -> str:
        spec = self._spec
        if (registered := self._versions.of_job(spec.job_id)) is not None:
            return registered.version
        self._client.create_model_version(
            spec.model,
            source=source_of(model_id),
            run_id=self.run_id,
            model_id=model_id,
            tags=self.tags(),
            await_creation_for=0,
        )
        created = self._versions.of_job(spec.job_id)
        assert created is not None
        return created.version

    def _log_model(self, model_dir: Path, files: SignedModel, base_model: str) -> str:
        model, tokenizer = load_trained(model_dir)
        model.name_or_path = base_model or PACKAGED_ENCODER_NAME
        licence = "see the base model" if base_model else PACKAGED_ENCODER_LICENSE
        with quiet(), mlflow.start_run(run_id=self.run_id):
            logged = Model.log(
                artifact_path=None,
                name="model",
                flavor=files,
                transformers_model={"model": model, "tokenizer": tokenizer},
                task="text-classification",
                signature=SIGNATURE,
                # With these given, MLflow neither loads the model to guess them nor calls the hub.
                pip_requirements=[
                    f"torch=={torch.__version__.partition('+')[0]}",
                    f"transformers=={transformers.__version__}",
                ],
                model_card=ModelCard(
                    f"---\nlicense: {licence}\n---\n{self._spec.model}, fine-tuned from "
                    f"{model.name_or_path} by Champion Mesh\n"
                ),
                tags=self.tags(),
            )
        return str(logged.model_id)

    def _try_upload_losses(self) -> None:
        try:
            self._upload_losses()
        except Exception as error:
            # The losses stay in the list, and log_results uploads them at the end.
            log.warning("the loss was not uploaded", extra={"why": type(error).__name__})

    def _upload_losses(self) -> None:
        with self._lock:
            losses = list(self._losses)
        self._client.log_batch(self.run_id, metrics=losses)
        with self._lock:
            del self._losses[: len(losses)]

    def _persist(self, step: Callable[[], T]) -> T:
        """Return `step()`, repeated while MLflow is away, and when MLflow failed on its own side.

        Raises an error of MLflow's side when it is the MAX_FAILURES-th, any other error at once.
        """
        failures = 0

        def attempt() -> T:
            nonlocal failures
            self._check_reachable()
            try:
                return step()
            except Exception as error:
                self._check_reachable()
                failures += 1
                if failures < MAX_FAILURES and _is_server_side(error):
                    raise Unavailable(f"MLflow failed: {error}") from error
                raise

        return until_available(attempt, "MLflow")

    def _check_reachable(self) -> None:
        if self._token is not None:
            # MLflow's client reads it before each request, and it may have been renewed.
            os.environ[MLFLOW_TRACKING_TOKEN.name] = self._token.text
        try:
            self._http.get(f"{self._url}/health").raise_for_status()
        except httpx.HTTPError as error:
            raise Unavailable(f"MLflow is away: {type(error).__name__}") from error


def _is_server_side(error: Exception) -> bool:
    return isinstance(error, MlflowException) and int(error.get_http_status_code()) >= 500  # type: ignore[no-untyped-call]
