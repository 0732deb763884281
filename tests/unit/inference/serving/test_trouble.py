"""A replica that cannot compute says so, waits, and ends; and hangs are found out."""

import asyncio
from pathlib import Path

import pytest

from inference_svc.serving.slots import SlotKey
from inference_svc.serving.trouble import (
    EXIT_CODE,
    LONGEST_PAUSE_S,
    REMEMBERED_S,
    PastTroubles,
    Trouble,
)
from inference_svc.serving.watchdog import PREPARE_LOOKS, Watchdog
from tests.twins.replica import Clock, FakeRegistry, until
from tests.unit.inference.parts import REVIEWS, Parts


class Ending:
    """Notes what a Trouble does."""

    def __init__(self, path: Path, clock: Clock, first_pause_s: float = 0.0) -> None:
        self.withdrawn: list[str] = []
        self.codes: list[int] = []
        past = PastTroubles(path, clock)
        self.trouble = Trouble(past, self.withdraw, self.codes.append, first_pause_s)

    async def withdraw(self, why: str) -> None:
        self.withdrawn.append(why)

    async def ended(self) -> bool:
        return bool(self.codes)


async def test_trouble_is_told_before_the_process_ends_once(tmp_path: Path) -> None:
    ending = Ending(tmp_path / "troubles.json", Clock())
    ending.trouble.declare("the engine computes nothing")
    ending.trouble.declare("and another thing")
    await until(ending.ended)
    ending.trouble.end_now()
    assert ending.codes == [EXIT_CODE]
    assert ending.withdrawn == [ending.trouble.why]
    assert ending.trouble.why.startswith("the engine computes nothing; this replica restarts")


async def test_a_replica_that_ends_again_and_again_waits_longer_each_time(tmp_path: Path) -> None:
    clock = Clock()
    waits = []
    for _ in range(8):
        ending = Ending(tmp_path / "troubles.json", clock, first_pause_s=3.0)
        ending.trouble.declare("it hangs")
        waits.append(float(ending.trouble.why.split()[-6]))
        ending.trouble.end_now()
        clock.now += 1
    assert waits == [3, 6, 12, 24, 48, 96, LONGEST_PAUSE_S, LONGEST_PAUSE_S]
    clock.now += REMEMBERED_S
    ending = Ending(tmp_path / "troubles.json", clock, first_pause_s=3.0)
    ending.trouble.declare("it hangs")
    assert "restarts 3 s" in ending.trouble.why


@pytest.mark.parametrize("content", ["", "{}", '["x"]', "[1e999]"])
def test_a_damaged_file_of_past_troubles_counts_as_empty(tmp_path: Path, content: str) -> None:
    path = tmp_path / "troubles.json"
    path.write_text(content)
    past = PastTroubles(path, Clock())
    assert past.recent() == []
    past.add()
    assert past.recent() == [100.0]


async def computes(parts: Parts) -> None:
    async def so() -> bool:
        return parts.batcher.computing > 0

    await until(so)


async def test_a_batch_that_does_not_return_is_found_out(parts: Parts) -> None:
    await parts.reload("1")
    found: list[str] = []
    watchdog = Watchdog(parts.batcher, parts.upcoming, 30, found.append)
    champion, call = await parts.held()
    await computes(parts)
    for _ in range(30):
        watchdog.look()
    assert found == []
    watchdog.look()
    assert found == ["a batch has been computed for more than 30 s"]
    champion.go.set()
    await call


async def test_batches_that_return_are_none_of_its_business(parts: Parts) -> None:
    await parts.reload("1")
    found: list[str] = []
    watchdog = Watchdog(parts.batcher, parts.upcoming, 5, found.append)
    for _ in range(10):
        watchdog.look()
        champion, call = await parts.held()
        await computes(parts)
        watchdog.look()
        champion.go.set()
        await call
    assert found == []


async def test_a_preparation_that_does_not_end_is_found_out(
    parts: Parts, registry: FakeRegistry
) -> None:
    found: list[str] = []
    watchdog = Watchdog(parts.batcher, parts.upcoming, 30, found.append)
    preparing = asyncio.create_task(parts.replica.prepare(SlotKey("reviews"), "1"))

    async def is_under_way() -> bool:
        return bool(parts.upcoming.all())

    await until(is_under_way)
    upcoming = parts.upcoming.all()[0]
    await preparing
    upcoming.outcome = asyncio.get_running_loop().create_future()
    upcoming.progress.step = "warm-up"
    for _ in range(PREPARE_LOOKS + 1):
        watchdog.look()
    assert found == ["a version has been loaded and checked for more than 600 s"]
    parts.upcoming.close()


async def test_a_thread_that_has_ended_is_found_out(parts: Parts) -> None:
    await parts.reload("1", REVIEWS)
    found: list[str] = []
    watchdog = Watchdog(parts.batcher, parts.upcoming, 30, found.append)
    watchdog.look()
    assert found == []
    await parts.batcher.close()
    watchdog.look()
    assert found == ["a thread that answers requests has ended; the log says why"]
