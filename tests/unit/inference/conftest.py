"""Replicas without gRPC: one that serves nothing yet, and one with Champion and Challenger."""

from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.twins.replica import FakeRegistry
from tests.unit.inference.parts import TRIAL, Parts, filled


@pytest.fixture
def executor() -> Iterator[Executor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


@pytest.fixture
def registry(tmp_path: Path) -> FakeRegistry:
    return filled(FakeRegistry(), tmp_path)


@pytest.fixture
async def parts(tmp_path: Path, registry: FakeRegistry, executor: Executor) -> AsyncIterator[Parts]:
    parts = Parts(tmp_path / "state", registry, executor)
    parts.batcher.start()
    yield parts
    await parts.batcher.close()


@pytest.fixture
async def both(parts: Parts) -> AsyncIterator[Parts]:
    """Version 1 of `reviews` is the Champion, version 2 the Challenger."""
    await parts.reload("1")
    await parts.reload("2", TRIAL)
    yield parts
    await parts.replica.comparisons.close()
