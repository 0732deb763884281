"""Memory goes back to the system a while after versions were let go."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor

import pytest

from inference_svc.serving.memory_release import MemoryRelease
from tests.twins.replica import SteeredEngine, until


@pytest.fixture
def executor() -> Iterator[Executor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


async def test_versions_let_go_together_are_released_once(executor: Executor) -> None:
    engine = SteeredEngine()
    release = MemoryRelease(engine, executor, delay_s=0.05)
    for _ in range(3):
        release.schedule()
    assert engine.released == 0

    async def is_released() -> bool:
        return engine.released > 0

    await until(is_released)
    await asyncio.wrap_future(executor.submit(lambda: None))
    assert engine.released == 1


async def test_nothing_is_released_after_closing(executor: Executor) -> None:
    engine = SteeredEngine()
    release = MemoryRelease(engine, executor, delay_s=0.0)
    release.schedule()
    release.close()
    release.schedule()
    await asyncio.sleep(0.01)  # both timers would be due
    await asyncio.wrap_future(executor.submit(lambda: None))
    assert engine.released == 0


async def test_idle_models_are_looked_for_again_and_again_until_closing(executor: Executor) -> None:
    engine = SteeredEngine()
    release = MemoryRelease(engine, executor, idle_check_s=0.001)
    release.start()

    async def looked_twice() -> bool:
        return engine.released_idle >= 2

    await until(looked_twice)
    release.close()
    await asyncio.wrap_future(executor.submit(lambda: None))
    looks = engine.released_idle
    await asyncio.sleep(0.01)  # several looks would be due
    assert engine.released_idle == looks
