"""Calls that are tried again while a part is away."""

import asyncio
import logging

import pytest

from control_plane.changes.retries import retrying
from service_kit.errors import Aborted, Unavailable

log = logging.getLogger(__name__)


class Part:
    """Fails with these errors, one at each call, and then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.pauses: list[float] = []

    async def call(self) -> str:
        if self.errors:
            raise self.errors.pop(0)
        return "done"

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)

    async def call_patiently(self) -> str:
        attempts = retrying(Unavailable, 0.5, log, "it waits", {"model": "reviews"}, self.sleep)
        answer: str = await attempts(self.call)
        return answer


async def test_a_part_that_is_away_is_called_again_after_each_pause(
    caplog: pytest.LogCaptureFixture,
) -> None:
    part = Part(Unavailable("MLflow is away"), Unavailable("MLflow is away"))
    assert await part.call_patiently() == "done"
    assert part.pauses == [0.5, 0.5]
    logged = [(r.getMessage(), vars(r)["model"], vars(r)["why"]) for r in caplog.records]
    assert logged == [("it waits", "reviews", "MLflow is away")] * 2


async def test_another_error_ends_the_attempts() -> None:
    part = Part(Unavailable("MLflow is away"), Aborted("another Champion"))
    with pytest.raises(Aborted, match="another Champion"):
        await part.call_patiently()
    assert part.pauses == [0.5]


async def test_a_call_that_is_cancelled_is_not_tried_again() -> None:
    calls = 0
    called = asyncio.Event()

    async def hang() -> None:
        nonlocal calls
        calls += 1
        called.set()
        await asyncio.Event().wait()

    async def wait() -> None:
        await retrying(Unavailable, 0.0, log, "it waits", {})(hang)

    task = asyncio.create_task(wait())
    await called.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert calls == 1
