"""Two promotions at once, and a promotion that loses its lock before it writes the Champion.

Fault: two trainings promote in the same moment; the connection that holds the lock is cut between
a promotion's check and its write, as when PostgreSQL restarts while the training service is
stopped.
Invariants: of two promotions against the same Champion one succeeds and the other is refused with
ABORTED, so that its job compares again; the Champion is the version of the one that succeeded.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from service_kit.errors import Aborted, Unavailable
from service_kit.model_registry.promotion import SCHEMA, Promoted, Promotions
from service_kit.model_registry.records import CHAMPION
from service_kit.model_registry.registry import Registry
from tests.chaos.conftest import Hold
from tests.real_parts.mlflow_server import create_versions
from tests.real_parts.postgres import execute

ROUNDS = 5
CUT = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'promotion'"


class HeldUp(Registry):
    """A registry whose writes of the Champion wait until `go` is set; `reached`: one waits."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.reached = asyncio.Event()
        self.go = asyncio.Event()

    async def set_alias(self, name: str, alias: str, version: str) -> None:
        if alias == CHAMPION:
            self.reached.set()
            await self.go.wait()
        await super().set_alias(name, alias, version)


@pytest.fixture
async def model(postgres_url: str, mlflow_url: str) -> AsyncIterator[str]:
    """A model with versions 1 to 3, of which version 1 is the Champion."""
    name = f"m{uuid.uuid4().hex[:12]}"
    execute(postgres_url, SCHEMA.read_text())
    registry = Registry(mlflow_url)
    await registry.ensure_model(name)
    await create_versions(mlflow_url, name, 3)
    await Promotions(postgres_url, registry).promote(name, "1", "")
    yield name
    await registry.close()


async def aliases(url: str, name: str) -> dict[str, str]:
    registry = Registry(url)
    model = await registry.find_model(name)
    await registry.close()
    assert model is not None
    return dict(model.aliases)


@pytest.mark.parametrize("round_", range(ROUNDS))
async def test_two_finish_at_once(
    postgres_url: str, mlflow_url: str, model: str, hold: Hold, round_: int
) -> None:
    registries = [Registry(mlflow_url), Registry(mlflow_url)]
    ends = await asyncio.gather(
        *(
            Promotions(postgres_url, registry).promote(model, version, "1")
            for registry, version in zip(registries, ("2", "3"), strict=True)
        ),
        return_exceptions=True,
    )
    for registry in registries:
        await registry.close()
    won = [end for end in ends if isinstance(end, Promoted)]
    lost = [end for end in ends if isinstance(end, Aborted)]
    found = await aliases(mlflow_url, model)
    hold(
        "one promotion wins, the other learns it",
        (len(won), len(lost)) == (1, 1)
        and found == {"Champion": won[0].champion, "Previous": "1"}
        and won[0].epoch == 2,
        f"{found}, {ends}",
    )


async def overtaken(
    postgres_url: str,
    mlflow_url: str,
    model: str,
    attempt: Callable[[Promotions], Coroutine[Any, Any, Promoted]],
    champion: str,
) -> tuple[Promoted, Aborted]:
    """Hold `attempt` up at its write, cut its lock, and meanwhile promote version 3.

    The attempt fails as its lock is gone, and is made again, as the services do. Returns the
    result of version 3's promotion, and the error of the second try.
    """
    slow, quick = HeldUp(mlflow_url), Registry(mlflow_url)
    held_up = Promotions(postgres_url, slow)
    first_try = asyncio.create_task(attempt(held_up))
    await slow.reached.wait()
    execute(postgres_url, CUT)
    won = await Promotions(postgres_url, quick).promote(model, "3", champion)
    slow.go.set()
    # The attempt wrote the Champion too late: without its connection it cannot commit.
    with pytest.raises(Unavailable):
        await first_try
    with pytest.raises(Aborted) as lost:
        await attempt(held_up)
    await slow.close()
    await quick.close()
    return won, lost.value


async def test_held_up_promotion(
    postgres_url: str, mlflow_url: str, model: str, hold: Hold
) -> None:
    won, lost = await overtaken(
        postgres_url, mlflow_url, model, lambda late: late.promote(model, "2", "1"), champion="1"
    )
    found = await aliases(mlflow_url, model)
    hold(
        "one promotion wins, the other learns it",
        found == {"Champion": "3", "Previous": "1"} and won.epoch == 2,
        f"{found}; the other promotion: {lost}",
    )


async def test_promotion_that_lost_its_lock_is_done_by_the_next_try(
    postgres_url: str, mlflow_url: str, model: str, hold: Hold
) -> None:
    registry = HeldUp(mlflow_url)
    promotions = Promotions(postgres_url, registry)
    first_try = asyncio.create_task(promotions.promote(model, "2", "1"))
    await registry.reached.wait()
    execute(postgres_url, CUT)
    registry.go.set()
    with pytest.raises(Unavailable):
        await first_try
    again = await promotions.promote(model, "2", "1")
    found = await aliases(mlflow_url, model)
    await registry.close()
    hold(
        "one promotion wins, the other learns it",
        found == {"Champion": "2", "Previous": "1"} and again.epoch == 2,
        f"{found}, epoch {again.epoch}",
    )


async def test_held_up_demotion(postgres_url: str, mlflow_url: str, model: str, hold: Hold) -> None:
    registry = Registry(mlflow_url)
    await Promotions(postgres_url, registry).promote(model, "2", "1")
    await registry.close()
    won, lost = await overtaken(
        postgres_url, mlflow_url, model, lambda late: late.demote(model, "2", "1"), champion="2"
    )
    found = await aliases(mlflow_url, model)
    hold(
        "one promotion wins, the other learns it",
        found == {"Champion": "3", "Previous": "2"} and won.epoch == 3,
        f"{found}; the demotion: {lost}",
    )
