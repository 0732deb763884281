"""Puts the training service together out of its parts."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from grpc import aio

from mesh.v1 import train_pb2_grpc
from service_kit.audit.log import SCHEMA as AUDIT
from service_kit.audit.log import AuditLog
from service_kit.database import Database, apply_schema, until_available
from service_kit.model_registry import promotion
from service_kit.model_registry.mlflow_token import MlflowToken
from service_kit.model_registry.promotion import Promotions
from service_kit.model_registry.registry import Registry
from service_kit.signing import first_use
from service_kit.signing.first_use import VERSIONS, FirstUse
from service_kit.signing.keys import SigningKey
from training_svc.base_models.hub_download import remove_unlisted
from training_svc.jobs import job_store as store
from training_svc.jobs.caller_actions import CallerActions
from training_svc.jobs.child_process import BASE_MODELS_FOLDER, PythonChildLauncher
from training_svc.jobs.ended_batches import EndedBatches
from training_svc.jobs.folders import JobFolders
from training_svc.jobs.golden_scrub import scrub_golden_sets
from training_svc.jobs.job_changes import JobChanges
from training_svc.jobs.job_runner import JobRunner
from training_svc.jobs.job_store import PostgresJobs
from training_svc.jobs.promoter import MlflowPromoter
from training_svc.jobs.retention import Retention
from training_svc.servicer import TrainServicer
from training_svc.settings import TrainingSettings
from training_svc.upgrade.earlier_versions import EarlierVersions

SIGN_AGAIN_S = 2.0  # seconds until earlier versions are signed while MLflow is away
SCRUB_AGAIN_S = 60.0  # seconds until the golden sets are looked at again while MLflow is away


class TrainingService:
    """Implements service_kit.server.Service."""

    names: Sequence[str] = ("mesh.v1.TrainService",)

    def __init__(self, settings: TrainingSettings) -> None:
        self._settings = settings
        self._database = Database(settings.database_url, "training service")
        self.audit = AuditLog(settings.database_url, "training")
        self._registry = Registry(settings.mlflow_url, auth=MlflowToken.of(settings))
        self._folders = JobFolders(settings.state_dir, settings.keep_failed_jobs)
        self.changes = JobChanges()
        jobs = PostgresJobs(self._database)
        promotions = Promotions(settings.database_url, self._registry)
        self._runner = JobRunner(
            jobs,
            self.changes,
            PythonChildLauncher(settings),
            MlflowPromoter(self._registry, promotions),
            self._folders,
            Retention(self._registry, jobs, settings.keep_versions).apply,
        )
        self.actions = CallerActions(
            *(jobs, self.changes, self._registry, self._runner.wake, self._runner.cancel),
            *(settings.max_examples, settings.allowed_base_models()),
        )
        self._ended_batches = EndedBatches(jobs, self.changes, self._runner.cancel)
        self._key = SigningKey.read(settings.signing_key) if settings.signing_key else None
        self._earlier: EarlierVersions | None = None
        if self._key is not None:
            self._earlier = EarlierVersions(
                self._registry,
                FirstUse(self._database, VERSIONS, self._key.key_id),
                self._key,
                settings.state_dir / "earlier-version",
            )
        self._running: list[asyncio.Task[None]] = []

    def register(self, server: aio.Server) -> None:
        """See Service."""
        train_pb2_grpc.add_TrainServiceServicer_to_server(TrainServicer(self.actions), server)

    async def startup(self) -> None:
        """Apply the schemas, then start the runner, which first resumes interrupted jobs."""
        await apply_schema(self._database, "training jobs", store.SCHEMA)
        await apply_schema(self._database, "promotions", promotion.SCHEMA, first_use.SCHEMA, AUDIT)
        await until_available(self._lock, "the state folder")
        loops = (
            self._runner.run(),
            self._ended_batches.run(),
            self._tend_earlier_versions(),
        )
        self._running = [asyncio.create_task(loop) for loop in loops]

    async def drain(self) -> None:
        """End the watchers' streams, which would otherwise delay the stop."""
        self.changes.close()

    async def shutdown(self) -> None:
        """Stop the job that runs; the next start of the service resumes it."""
        for task in self._running:
            task.cancel()
        for task in self._running:
            with suppress(asyncio.CancelledError):
                await task
        await self._registry.close()
        await self._database.close()
        self._folders.unlock()

    async def _tend_earlier_versions(self) -> None:
        """Sign what a release before signatures has left, and take texts out of golden sets."""
        if self._earlier is not None:
            await until_available(self._earlier.sign, "signing earlier versions", SIGN_AGAIN_S)
        await until_available(
            lambda: scrub_golden_sets(self._registry, self._key), "golden sets", SCRUB_AGAIN_S
        )

    async def _lock(self) -> None:
        self._folders.lock()
        listed = self._settings.allowed_base_models().by_name.values()
        await asyncio.to_thread(
            remove_unlisted, listed, self._settings.state_dir / BASE_MODELS_FOLDER
        )
