"""Slots, upcoming versions and the start: the rules that need no model and no network."""

import asyncio
import gc
import os
import threading
import weakref
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

import pytest

from inference_svc.batching.batcher import Batcher
from inference_svc.batching.cutting import BatchLimits
from inference_svc.batching.text_queue import TextQueue
from inference_svc.model.loaded_model import Tokenizers
from inference_svc.serving.replica import Replica
from inference_svc.serving.restorer import Restorer
from inference_svc.serving.slots import CHALLENGER, SlotKey, Slots
from inference_svc.serving.unserved_models import UnservedModels
from inference_svc.serving.upcoming_versions import State, UpcomingVersions
from inference_svc.versions.cache import ModelCache
from inference_svc.versions.preparer import PrepareFailed, Preparer
from inference_svc.versions.remembered_versions import RememberedVersions
from inference_svc.versions.thread_priority import PREPARE_NICE, background_executor
from service_kit.errors import Aborted, InvalidArgument
from service_kit.model_registry.records import SERVING
from tests.twins.replica import (
    FakeRegistry,
    SteeredEngine,
    until,
    write_steered_version,
    write_tokenizer,
)

REVIEWS = SlotKey("reviews")


class HeldRegistry(FakeRegistry):
    """A registry whose downloads wait, without an end when `go` is never set."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()
        self.downloading = threading.Event()
        self.cancelled = threading.Event()

    async def download(self, name: str, version: str, target: Path) -> None:
        self.downloading.set()
        try:
            while not self.go.is_set():
                await asyncio.sleep(0.001)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        await super().download(name, version, target)


class Parts:
    """A replica without gRPC."""

    def __init__(self, folder: Path, registry: FakeRegistry, executor: Executor) -> None:
        self.engine = SteeredEngine()
        self.registry = registry
        self.executor = executor
        self.freed: list[None] = []
        self.remembered = RememberedVersions(folder / "serving.json")
        self.cache = ModelCache(folder / "models", keep_versions=2)
        self.cache.open()
        preparer = Preparer(self.cache, self.engine, lambda: registry)
        self.upcoming = UpcomingVersions(preparer, executor, lambda: self.freed.append(None))
        self.slots = Slots(lambda: self.freed.append(None))
        self.batcher = Batcher(TextQueue(64, BatchLimits(256, 8)), lambda: None)
        self.replica = Replica(
            self.slots,
            self.upcoming,
            self.batcher,
            UnservedModels(registry, timeout_s=1),
            self.cache,
            self.remembered,
        )
        self.restorer = Restorer(self.replica, registry, self.remembered, first_pause_s=0.01)

    async def reload(self, version: str, slot: SlotKey = REVIEWS) -> None:
        await self.replica.prepare(slot, version)
        await self.replica.activate(slot, version)

    def version(self) -> str:
        served = self.slots.served(REVIEWS)
        return served.version if served else ""


@pytest.fixture
def executor() -> Iterator[Executor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


@pytest.fixture
def registry(tmp_path: Path) -> FakeRegistry:
    return filled(FakeRegistry(), tmp_path)


def filled(registry: FakeRegistry, folder: Path) -> FakeRegistry:
    files = write_steered_version(folder / "files")
    for version in ("1", "2", "3", "4"):
        registry.add("reviews", version, files)
    registry.add("other", "1", files)
    registry.models["reviews"][SERVING] = "1"
    return registry


@pytest.fixture
async def parts(tmp_path: Path, registry: FakeRegistry, executor: Executor) -> AsyncIterator[Parts]:
    parts = Parts(tmp_path / "state", registry, executor)
    parts.batcher.start()
    yield parts
    await parts.batcher.close()


async def test_request_in_flight_finishes_on_the_version_it_began_on(parts: Parts) -> None:
    await parts.reload("1")
    old = parts.engine.loaded[0]
    old.go.clear()
    call = asyncio.create_task(parts.replica.predict(REVIEWS, ["good"]))
    assert await asyncio.to_thread(old.started.acquire, timeout=10)
    await parts.replica.prepare(REVIEWS, "2")
    swap = await parts.replica.activate(REVIEWS, "2")
    assert (swap.from_version, swap.drained_requests) == ("1", 1)
    assert not parts.freed
    old.go.set()
    assert (await call).served.version == "1"
    assert len(parts.freed) == 1
    assert (await parts.replica.predict(REVIEWS, ["good"])).served.version == "2"


async def test_newer_prepare_drops_the_older_one_of_its_slot(parts: Parts) -> None:
    await parts.replica.prepare(REVIEWS, "1")
    challenger = SlotKey("reviews", CHALLENGER)
    await parts.replica.prepare(challenger, "1")
    await parts.replica.prepare(REVIEWS, "2")
    found = [(known.slot.role, known.version) for known in parts.upcoming.all()]
    assert found == [("challenger", "1"), ("champion", "2")]


async def test_failed_preparation_is_tried_anew(parts: Parts) -> None:
    parts.engine.fail_with = RuntimeError("no memory")
    with pytest.raises(PrepareFailed, match="load: RuntimeError: no memory"):
        await parts.replica.prepare(REVIEWS, "1")
    assert parts.upcoming.all()[0].state is State.FAILED
    parts.engine.fail_with = None
    await parts.reload("1")
    assert parts.version() == "1"


async def test_damaged_cache_is_downloaded_anew(parts: Parts, registry: FakeRegistry) -> None:
    await parts.reload("1")
    await parts.reload("2")
    parts.engine.fail_with = OSError("truncated file")
    with pytest.raises(PrepareFailed):
        await parts.replica.prepare(REVIEWS, "1")
    parts.engine.fail_with = None
    await parts.replica.prepare(REVIEWS, "1")
    assert registry.downloads == [("reviews", "1"), ("reviews", "2"), ("reviews", "1")]


async def test_version_number_used_again_is_not_taken_from_the_cache(
    parts: Parts, registry: FakeRegistry, tmp_path: Path
) -> None:
    await parts.reload("1")
    await parts.reload("2")
    registry.add("reviews", "1", write_steered_version(tmp_path / "another registry"))
    await parts.reload("1")
    assert registry.downloads.count(("reviews", "1")) == 2


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
    parts.replica.abort(REVIEWS, "1")
    with pytest.raises(Aborted, match="aborted"):
        await call
    assert await asyncio.to_thread(registry.cancelled.wait, 10)
    assert not parts.upcoming.all()


@pytest.mark.parametrize("version", ["", "../1", "a/b", ".", "1" * 65])
async def test_version_that_could_be_a_path_is_refused(parts: Parts, version: str) -> None:
    with pytest.raises(InvalidArgument, match="version"):
        await parts.replica.prepare(REVIEWS, version)


async def test_served_versions_survive_in_a_file(parts: Parts) -> None:
    await parts.reload("1")
    await parts.reload("2")
    await parts.reload("3", SlotKey("reviews", CHALLENGER))
    assert parts.remembered.read() == {"reviews": "2"}


async def test_damaged_file_of_served_versions_counts_as_none(tmp_path: Path) -> None:
    path = tmp_path / "serving.json"
    assert RememberedVersions(path).read() == {}
    path.write_text('{"serving": ["')
    assert RememberedVersions(path).read() == {}


async def test_half_downloaded_versions_are_cleared_at_start(tmp_path: Path) -> None:
    for leftover in ("2.incoming", "3.incoming.partial", "1.old.incoming"):
        (tmp_path / "reviews" / leftover).mkdir(parents=True)
    (tmp_path / "reviews" / "1").mkdir()
    ModelCache(tmp_path, keep_versions=1).open()
    assert [path.name for path in (tmp_path / "reviews").iterdir()] == ["1"]


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


async def test_idle_threads_have_the_lowest_priority_and_others_keep_theirs() -> None:
    own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    with background_executor("test") as executor:
        nice = executor.submit(
            lambda: os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
        ).result()
    assert nice == PREPARE_NICE
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == own


async def test_unknown_models_are_looked_up_seldom(registry: FakeRegistry) -> None:
    unserved = UnservedModels(registry, timeout_s=1)
    await asyncio.gather(*(unserved.explain("films", []) for _ in range(20)))
    assert registry.lookups <= 4  # those that were under way at once
    for number in range(1000):
        await unserved.explain(f"films_{number}", [])
    assert len(unserved._remembered) <= 256


async def test_a_challenger_that_becomes_the_champion_is_not_loaded_again(parts: Parts) -> None:
    trial = SlotKey("reviews", CHALLENGER)
    await parts.reload("1")
    await parts.reload("2", trial)
    await parts.reload("2")
    assert parts.version() == "2"
    assert len(parts.engine.loaded) == 2
    parts.replica.abort(trial, "2")
    assert (await parts.replica.predict(REVIEWS, ["good"])).served.slot == REVIEWS


async def test_a_challenger_that_is_aborted_leaves_the_champion_to_answer(parts: Parts) -> None:
    trial = SlotKey("reviews", CHALLENGER)
    await parts.reload("1")
    await parts.reload("2", trial)
    assert (await parts.replica.predict(trial, ["good"])).served.version == "2"
    parts.replica.abort(trial, "3")
    assert (await parts.replica.predict(trial, ["good"])).served.version == "2"
    parts.replica.abort(trial, "2")
    assert (await parts.replica.predict(trial, ["good"])).served.version == "1"


def test_versions_with_equal_tokenizers_share_one(tmp_path: Path) -> None:
    tokenizers = Tokenizers()
    for name in ("1", "2"):
        (tmp_path / name).mkdir()
        write_tokenizer(tmp_path / name / "tokenizer.json")
    first = tokenizers.load(tmp_path / "1" / "tokenizer.json", 16)
    assert tokenizers.load(tmp_path / "2" / "tokenizer.json", 16) is first
    assert tokenizers.load(tmp_path / "2" / "tokenizer.json", 8) is not first
    # One that nobody uses is not kept.
    known = weakref.ref(first)
    del first
    gc.collect()
    assert known() is None
