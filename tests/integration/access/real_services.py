"""The real training and trigger services, without MLflow and Airflow, for tests of who may what."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from service_kit.server import GrpcServer
from tests.real_parts.trigger_service import NOWHERE, query, settings
from training_svc.service import TrainingService
from training_svc.settings import TrainingSettings
from trigger_svc.bridge.airflow_memory import MemoryAirflow
from trigger_svc.service import TriggerService


@dataclass
class RealServices:
    """Addresses of the services, and the database that they share."""

    training: str
    trigger: str
    database_url: str

    def add_ended_job(self, job_id: str, model: str) -> None:
        """Put a training into the database that has ended."""
        query(
            self.database_url,
            "INSERT INTO mesh.training_jobs (id, request_id, model, state, params, promotion,"
            " serve, ended_at) VALUES (%s, %s, %s, 'SUCCEEDED', '{}', 'AUTO', false, now())",
            *(job_id, f"request-of-{job_id}", model),
        )

    def audit(self) -> list[tuple[str, ...]]:
        """Subject, token, method, model and outcome of each entry, the oldest first."""
        return query(
            self.database_url,
            "SELECT subject, token_id, split_part(method, '/', 2), model, outcome FROM mesh.audit"
            " ORDER BY at",
        )


@asynccontextmanager
async def real_services(folder: Path, database_url: str) -> AsyncIterator[RealServices]:
    """Run both."""
    for_training = TrainingSettings(
        database_url=database_url,
        mlflow_url=NOWHERE,
        state_dir=folder / "training",
        drain_seconds=0,
        grace_seconds=1,
    )
    (folder / "training").mkdir()
    for_trigger = settings(database_url, grace_seconds=1)
    async with (
        GrpcServer(TrainingService(for_training), for_training) as training,
        GrpcServer(TriggerService(for_trigger, MemoryAirflow()), for_trigger) as trigger,
    ):
        yield RealServices(training.address, trigger.address, database_url)
