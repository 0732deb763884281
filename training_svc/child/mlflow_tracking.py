"""Everything that a training leaves in MLflow; for the child process.

Every step can be done again: a resumed training finds its run, its logged model and its version.
"""

import logging
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
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema

from service_kit.errors import Unavailable
from service_kit.model_registry.records import TAG_BATCH_ID, TAG_JOB_ID
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
HEALTH_TIMEOUT_S = 5.0
MAX_FAILURES = 5  # times that one step may fail on MLflow's side while MLflow is there
MAX_DATASET_DIGEST = 36  # characters that MLflow takes
MODEL_ID_FILE = "logged_model.txt"
PACKAGED_ENCODER_NAME = "sentence-transformers/all-MiniLM-L6-v2"
PACKAGED_ENCODER_LICENSE = "apache-2.0"

# A list of texts in, one label and its score a text out.
SIGNATURE = ModelSignature(
    inputs=Schema([ColSpec("string")]),
    outputs=Schema([ColSpec("string", "label"), ColSpec("double", "score")]),
)


class MlflowTracker:
    """The MLflow run of one attempt."""

    def __init__(self, url: str, spec: JobSpec, folder: Path) -> None:
        mlflow.set_tracking_uri(url)
        self._url = url
        self._spec = spec
        self._folder = folder
        self._client = MlflowClient(url)
        self._http = httpx.Client(timeout=HEALTH_TIMEOUT_S)
        self._losses: list[Metric] = []
        self._lock = threading.Lock()
        self._uploader = ThreadPoolExecutor(1, thread_name_prefix="loss")
        self._upload: Future[None] | None = None
        self._uploaded = time.monotonic()
        self.run_id = self._persist(self._find_or_create_run)

    def log_progress(self, progress: Progress) -> None:
        """Note the training loss; it is uploaded beside the training, every few seconds."""
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
        """Log hyperparameters, final metrics and the dataset; waits while MLflow is away."""
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

    def log_model(self, model_dir: Path, extras: Path, base_model: str) -> str:
        """Log the model and the files in `extras` as a LoggedModel, once; return its id."""
        noted = self._folder / MODEL_ID_FILE
        if not noted.exists():
            model_id = self._persist(lambda: self._log_model(model_dir, base_model))
            self._persist(lambda: self._client.log_model_artifacts(model_id, str(extras)))
            write_whole(noted, model_id)
        return noted.read_text()

    def register(self, model_id: str) -> str:
        """Create the model version with its tags in one call, unless it is there; return it."""
        return self._persist(lambda: self._find_or_create_version(model_id))

    def tags(self) -> dict[str, str]:
        """What marks run, logged model and version as this job's."""
        spec = self._spec
        return {TAG_BATCH_ID: spec.request_id, TAG_JOB_ID: spec.job_id, "model": spec.model}

    def _find_or_create_run(self) -> str:
        spec = self._spec
        experiment = self._experiment()
        attempt = str(spec.attempt)
        found = self._client.search_runs(
            [experiment],
            f"tags.`{TAG_JOB_ID}` = '{spec.job_id}' and tags.`{TAG_ATTEMPT}` = '{attempt}'",
            max_results=1,
        )
        if found:
            return str(found[0].info.run_id)
        run = self._client.create_run(
            experiment, run_name=spec.request_id, tags=self.tags() | {TAG_ATTEMPT: attempt}
        )
        return str(run.info.run_id)

    def _experiment(self) -> str:
        found = self._client.get_experiment_by_name(self._spec.model)
        if found is None:
            return str(self._client.create_experiment(self._spec.model))
        if found.lifecycle_stage == LifecycleStage.DELETED:
            self._client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def _find_or_create_version(self, model_id: str) -> str:
        spec = self._spec
        if (found := self._only_version()) is not None:
            return found
        self._client.create_model_version(
            spec.model,
            source=f"models:/{model_id}",
            run_id=self.run_id,
            model_id=model_id,
            tags=self.tags(),
            await_creation_for=0,
        )
        created = self._only_version()
        assert created is not None
        return created

    def _only_version(self) -> str | None:
        """The job's version. An earlier request that MLflow was slow to carry out may have made
        another one beside it: the first stays.
        """
        spec = self._spec
        found = self._client.search_model_versions(
            f"name = '{spec.model}' and tags.`{TAG_JOB_ID}` = '{spec.job_id}'"
        )
        versions = sorted(int(version.version) for version in found)
        for version in versions[1:]:
            self._client.delete_model_version(spec.model, str(version))
        return str(versions[0]) if versions else None

    def _log_model(self, model_dir: Path, base_model: str) -> str:
        model, tokenizer = load_trained(model_dir)
        model.name_or_path = base_model or PACKAGED_ENCODER_NAME
        licence = "see the base model" if base_model else PACKAGED_ENCODER_LICENSE
        with quiet(), mlflow.start_run(run_id=self.run_id):
            logged = mlflow.transformers.log_model(
                {"model": model, "tokenizer": tokenizer},
                name="model",
                task="text-classification",
                signature=SIGNATURE,
                # Given, so that MLflow neither loads the model to guess them nor asks the hub.
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
            # They stay in the list; the end of the training waits for MLflow.
            log.warning("the loss was not uploaded", extra={"why": type(error).__name__})

    def _upload_losses(self) -> None:
        with self._lock:
            losses = list(self._losses)
        self._client.log_batch(self.run_id, metrics=losses)
        with self._lock:
            del self._losses[: len(losses)]

    def _persist(self, step: Callable[[], T]) -> T:
        """Do a step; again when MLflow was away meanwhile, or failed on its own side."""
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
        try:
            self._http.get(f"{self._url}/health").raise_for_status()
        except httpx.HTTPError as error:
            raise Unavailable(f"MLflow is away: {type(error).__name__}") from error


def _is_server_side(error: Exception) -> bool:
    return isinstance(error, MlflowException) and int(error.get_http_status_code()) >= 500  # type: ignore[no-untyped-call]
