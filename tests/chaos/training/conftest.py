"""A training service on tiny data, and the checks of its results in MLflow."""

import uuid
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TypeAlias

import pytest

from mesh.v1 import train_pb2
from service_kit.model_registry.records import CHAMPION
from service_kit.model_registry.registry import Registry
from tests.chaos.conftest import Hold
from tests.real_parts.training_service import Service, make_tiny_bert, running_service
from training_svc.jobs.promoter import TAG_DECISION

# Starts the service against PostgreSQL and MLflow at these URLs, with more settings.
Start: TypeAlias = Callable[..., AbstractAsyncContextManager[Service]]


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_bert(tmp_path_factory.mktemp("tiny-base"))


@pytest.fixture
def model() -> str:
    """A model's name that no other test has used in the session's MLflow."""
    return f"m{uuid.uuid4().hex[:12]}"


@pytest.fixture
def start(tiny_base: Path, tmp_path: Path) -> Start:
    def started(
        postgres: str, mlflow: str, more: Mapping[str, str] | None = None
    ) -> AbstractAsyncContextManager[Service]:
        settings = {
            "database_url": postgres,
            "mlflow_url": mlflow,
            "state_dir": str(tmp_path / "state"),
            "base_model": str(tiny_base),
            "device": "cpu",
            "drain_seconds": "0",
            "checkpoint_seconds": "0.5",
        }
        return running_service(settings | dict(more or {}), tmp_path / "training.log")

    return started


async def check(hold: Hold, mlflow: str, job: train_pb2.TrainingJob) -> None:
    """Hold the invariants of a job that succeeded: one version, Champion, with its decision."""
    registry = Registry(mlflow)
    versions = await registry.list_versions(job.model)
    model = await registry.find_model(job.model)
    await registry.close()
    assert model is not None
    hold(
        "the job ends well",
        job.state == train_pb2.TRAINING_STATE_SUCCEEDED,
        f"{train_pb2.TrainingState.Name(job.state)} {job.error}",
    )
    hold("one version", len(versions) == 1, f"{len(versions)} versions")
    hold(
        "no Champion without a decision",
        model.aliases == {CHAMPION: job.version} and versions[0].tags[TAG_DECISION] == "PROMOTED",
        f"{dict(model.aliases)}, {versions[0].tags.get(TAG_DECISION)}",
    )
