"""The training service, killed with -9 while it trains, evaluates, or has just registered.

Fault: SIGKILL to the service, whose child ends with it; then the service is started again.
Invariants: the job goes on in the same attempt and ends well, with one version.
"""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from mesh.v1 import train_pb2
from service_kit.model_registry.registry import Registry
from tests.chaos.conftest import Hold
from tests.chaos.training.conftest import Start, check
from tests.real_parts.training_service import Service, import_rows, make_rows

LONG = train_pb2.TrainParams(epochs=60)
Reach = Callable[[Service, str, str], Awaitable[None]]


async def training(service: Service, model: str, mlflow: str) -> None:
    await service.trained_on("r1", steps=1)


async def evaluating(service: Service, model: str, mlflow: str) -> None:
    async for job in service.watch("r1"):
        if job.state == train_pb2.TRAINING_STATE_EVALUATING:
            return
    raise AssertionError("the job ended before it was evaluated")


async def registered(service: Service, model: str, mlflow: str) -> None:
    registry = Registry(mlflow)
    async with asyncio.timeout(120):
        while not await registry.list_versions(model):
            await asyncio.sleep(0.01)
    await registry.close()


@pytest.mark.parametrize(
    "reach",
    [
        pytest.param(training, marks=pytest.mark.chaos_full),
        pytest.param(evaluating, marks=pytest.mark.chaos_full),
        registered,
    ],
)
async def test_job_goes_on_in_the_same_attempt(
    start: Start, postgres_url: str, mlflow_url: str, model: str, hold: Hold, reach: Reach
) -> None:
    import_rows(postgres_url, model, make_rows(80), new=True)
    async with start(postgres_url, mlflow_url) as service:
        await service.train(model, "r1", params=LONG)
        await reach(service, model, mlflow_url)
        service.process.kill()
        await service.process.wait()
    async with start(postgres_url, mlflow_url) as service:
        job = await service.ended("r1")
    hold("resumed in the same attempt", job.attempt == 1, f"attempt {job.attempt}")
    await check(hold, mlflow_url, job)
