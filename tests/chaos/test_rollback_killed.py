"""A control plane that is killed in the middle of a rollback.

Fault: SIGKILL to the process that rolls back, after each of its writes to MLflow; then a new
control plane gets the same rollback again, or another one.
Invariant: the Champion and the previous Champion have changed places exactly once, and the new
Champion is served.
"""

import asyncio
import signal
import sys
import uuid
from collections.abc import AsyncIterator

import pytest

from control_plane.models.chosen_version import TAG_CHOSEN
from control_plane.reload.rollback_intent import TAG_ROLLBACK
from service_kit.model_registry.promotion import SCHEMA, Promotions
from service_kit.model_registry.records import CHAMPION, PREVIOUS, SERVING
from service_kit.model_registry.registry import Registry
from tests.chaos.conftest import Hold
from tests.chaos.rollback_process import rollback
from tests.real_parts.mlflow_server import create_versions
from tests.real_parts.postgres import execute
from tests.real_parts.trigger_service import query
from tests.unit.control_plane.twins import TwinReplica

ONCE = "a rollback happens once and whole"
RESTART_TIMEOUT_S = 120


@pytest.fixture
async def registry(mlflow_url: str) -> AsyncIterator[Registry]:
    registry = Registry(mlflow_url)
    yield registry
    await registry.close()


@pytest.fixture
async def model(postgres_url: str, mlflow_url: str, registry: Registry) -> str:
    """A model whose version 2 is the Champion and served; version 1 was the Champion before."""
    name = f"m{uuid.uuid4().hex[:12]}"
    execute(postgres_url, SCHEMA.read_text())
    await registry.ensure_model(name)
    await create_versions(mlflow_url, name, 2)
    promotions = Promotions(postgres_url, registry)
    await promotions.promote(name, "1", "")
    await promotions.promote(name, "2", "1")
    await registry.set_alias(name, SERVING, "2")
    return name


async def killed(
    postgres_url: str, mlflow_url: str, model: str, last: str, request_id: str = "a"
) -> None:
    """Run a rollback in a process that dies right after its write to the alias or tag `last`."""
    arguments = (postgres_url, mlflow_url, model, "2", request_id, last)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.chaos.rollback_process", *arguments
    )
    try:
        async with asyncio.timeout(RESTART_TIMEOUT_S):
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == -signal.SIGKILL


async def check(hold: Hold, postgres_url: str, registry: Registry, model: str, to: str) -> None:
    """Hold that version `to` is served and the Champion, by MLflow and by PostgreSQL.

    One rollback leads to version 1, a second one back to version 2.
    """
    registered = await registry.find_model(model)
    assert registered is not None
    aliases = dict(registered.aliases)
    other, epoch = ("2", 3) if to == "1" else ("1", 4)
    (recorded,) = query(
        postgres_url,
        "SELECT champion, previous, epoch FROM mesh.promotions WHERE model = %s",
        model,
    )
    hold(
        ONCE,
        aliases == {CHAMPION: to, PREVIOUS: other, SERVING: to} and recorded == (to, other, epoch),
        f"{aliases}, recorded {recorded}",
    )


@pytest.mark.parametrize(
    "last",
    [
        pytest.param(SERVING, marks=pytest.mark.chaos_full),
        pytest.param(TAG_ROLLBACK, marks=pytest.mark.chaos_full),
        pytest.param(TAG_CHOSEN, marks=pytest.mark.chaos_full),
        CHAMPION,
        PREVIOUS,
    ],
)
async def test_the_same_request_again_completes_the_rollback(
    postgres_url: str, mlflow_url: str, registry: Registry, model: str, hold: Hold, last: str
) -> None:
    await killed(postgres_url, mlflow_url, model, last)
    # At the first try the replica still serves version 2; the second one finds all done already.
    for served in ("2", "1"):
        replica = TwinReplica("r1", **{model: served})
        await rollback(postgres_url, registry, model, "a", replica)
        assert replica.serving[model].partition("@")[0] == "1"
        await check(hold, postgres_url, registry, model, "1")
    # A new request rolls back again, to version 2.
    await rollback(postgres_url, registry, model, "b", TwinReplica("r1", **{model: "1"}))
    await check(hold, postgres_url, registry, model, "2")


async def test_a_rollback_that_is_cut_twice_counts_once(
    postgres_url: str, mlflow_url: str, registry: Registry, model: str, hold: Hold
) -> None:
    await killed(postgres_url, mlflow_url, model, CHAMPION)
    # Another request completes it and is killed as well, before anybody has heard an answer.
    await killed(postgres_url, mlflow_url, model, PREVIOUS, "b")
    for request_id in ("a", "b", "a"):
        await rollback(postgres_url, registry, model, request_id, TwinReplica("r1", **{model: "1"}))
        await check(hold, postgres_url, registry, model, "1")


async def test_another_request_completes_the_rollback(
    postgres_url: str, mlflow_url: str, registry: Registry, model: str, hold: Hold
) -> None:
    await killed(postgres_url, mlflow_url, model, CHAMPION)
    await rollback(postgres_url, registry, model, "b", TwinReplica("r1", **{model: "1"}))
    await check(hold, postgres_url, registry, model, "1")
