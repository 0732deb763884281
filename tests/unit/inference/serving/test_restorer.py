"""A replica that has just started comes to serve what the fleet serves."""

import asyncio
from concurrent.futures import Executor
from pathlib import Path

from tests.twins.replica import FakeRegistry, until
from tests.unit.inference.parts import HeldRegistry, Parts, filled


async def test_restoring_never_undoes_what_the_control_plane_activated(
    tmp_path: Path, executor: Executor
) -> None:
    registry = HeldRegistry()
    filled(registry, tmp_path)
    parts = Parts(tmp_path / "state", registry, executor)
    restoring = asyncio.create_task(parts.restorer.restore(executor))
    assert await asyncio.to_thread(registry.downloading.wait, 10)
    registry.go.set()
    await parts.reload("2")
    await restoring
    await parts.restorer.follow()
    assert parts.version() == "2"


async def test_restoring_goes_on_until_the_registry_was_seen(
    parts: Parts, registry: FakeRegistry, executor: Executor
) -> None:
    registry.away = True
    await parts.restorer.restore(executor)
    following = asyncio.create_task(parts.restorer.follow())

    async def served() -> bool:
        return parts.version() == "1"

    assert not await served()
    registry.away = False
    await until(served)
    await asyncio.wait_for(following, 10)
