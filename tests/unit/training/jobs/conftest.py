"""The runner of jobs, running."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from tests.unit.training.fakes import FakePromoter, ScriptedChild, ScriptedLauncher
from tests.unit.training.jobs.bench import Bench, Running
from training_svc.jobs import job_runner


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Running:
    """`async with running(child, …, promoter=…, before=…) as bench`."""
    monkeypatch.setattr(job_runner, "PAUSE_S", 0.01)

    @asynccontextmanager
    async def run(
        *children: ScriptedChild,
        promoter: FakePromoter | None = None,
        before: Callable[[Bench], None] = lambda bench: None,
    ) -> AsyncIterator[Bench]:
        bench = Bench(tmp_path, ScriptedLauncher(*children), promoter or FakePromoter())
        before(bench)
        task = asyncio.create_task(bench.runner.run())
        try:
            yield bench
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            bench.folders.unlock()

    return run
