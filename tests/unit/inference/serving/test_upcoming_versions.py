"""Preparations are shared, dropped and tried anew."""

import asyncio
from concurrent.futures import Executor
from pathlib import Path

import pytest

from inference_svc.serving.upcoming_versions import State
from inference_svc.versions.preparer import PrepareFailed
from service_kit.errors import Aborted, InvalidArgument
from tests.unit.inference.parts import REVIEWS, TRIAL, HeldRegistry, Parts, filled


async def test_newer_prepare_drops_the_older_one_of_its_slot(parts: Parts) -> None:
    await parts.replica.prepare(REVIEWS, "1")
    await parts.replica.prepare(TRIAL, "1")
    await parts.replica.prepare(REVIEWS, "2")
    upcoming = [(version.slot.role, version.version) for version in parts.upcoming.all()]
    assert upcoming == [("challenger", "1"), ("champion", "2")]


async def test_failed_preparation_is_tried_anew(parts: Parts) -> None:
    parts.engine.fail_with = RuntimeError("no memory")
    with pytest.raises(PrepareFailed, match="load: RuntimeError: no memory"):
        await parts.replica.prepare(REVIEWS, "1")
    assert parts.upcoming.all()[0].state is State.FAILED
    parts.engine.fail_with = None
    await parts.reload("1")
    assert parts.version() == "1"


async def test_cancelled_prepare_leaves_the_preparation_to_others(
    tmp_path: Path, executor: Executor
) -> None:
    registry = HeldRegistry()
    filled(registry, tmp_path)
    parts = Parts(tmp_path / "state", registry, executor)
    first = asyncio.create_task(parts.replica.prepare(REVIEWS, "1"))
    second = asyncio.create_task(parts.replica.prepare(REVIEWS, "1"))
    assert await asyncio.to_thread(registry.downloading.wait, 10)
    first.cancel()
    registry.go.set()
    await second
    assert registry.downloads == [("reviews", "1")]


async def test_abort_stops_a_running_download(tmp_path: Path, executor: Executor) -> None:
    registry = HeldRegistry()
    filled(registry, tmp_path)
    parts = Parts(tmp_path / "state", registry, executor)
    call = asyncio.create_task(parts.replica.prepare(REVIEWS, "1"))
    assert await asyncio.to_thread(registry.downloading.wait, 10)
    await parts.replica.abort(REVIEWS, "1")
    with pytest.raises(Aborted, match="aborted"):
        await call
    assert await asyncio.to_thread(registry.cancelled.wait, 10)
    assert not parts.upcoming.all()


@pytest.mark.parametrize("version", ["", "../1", "a/b", ".", "1" * 65])
async def test_version_that_could_be_a_path_is_refused(parts: Parts, version: str) -> None:
    with pytest.raises(InvalidArgument, match="version"):
        await parts.replica.prepare(REVIEWS, version)
