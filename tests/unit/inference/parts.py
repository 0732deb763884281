"""A replica without gRPC, around a registry in memory and engines that a test steers."""

import asyncio
import threading
from concurrent.futures import Executor
from pathlib import Path

from inference_svc.batching.batcher import Batcher
from inference_svc.batching.cutting import BatchLimits
from inference_svc.batching.text_queue import TextQueue
from inference_svc.serving.replica import Answer, Replica
from inference_svc.serving.restorer import Restorer
from inference_svc.serving.slots import CHALLENGER, ServedVersion, SlotKey, Slots
from inference_svc.serving.unserved_models import UnservedModels
from inference_svc.serving.upcoming_versions import UpcomingVersions
from inference_svc.versions.cache import ModelCache
from inference_svc.versions.golden_check import check_still_works
from inference_svc.versions.preparer import Preparer
from inference_svc.versions.remembered_versions import RememberedVersions
from service_kit.model_registry.artifacts import Choose
from service_kit.model_registry.records import SERVING
from tests.twins.replica import (
    FakeRegistry,
    SteeredClassifier,
    SteeredEngine,
    write_steered_version,
)

REVIEWS = SlotKey("reviews")
TRIAL = SlotKey("reviews", CHALLENGER)


class HeldRegistry(FakeRegistry):
    """A registry whose downloads wait, without an end when `go` is never set."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()
        self.downloading = threading.Event()
        self.cancelled = threading.Event()

    async def download(
        self, name: str, version: str, target: Path, choose: Choose | None = None
    ) -> None:
        self.downloading.set()
        try:
            while not self.go.is_set():
                await asyncio.sleep(0.001)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        await super().download(name, version, target, choose)


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
        self.batcher = Batcher(TextQueue(64, BatchLimits(256, 8)), lambda: None, check_still_works)
        self.replica = Replica(
            self.slots,
            self.upcoming,
            self.batcher,
            registry,
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

    def served(self, slot: SlotKey = REVIEWS) -> ServedVersion:
        """The version in a slot that is not empty."""
        served = self.slots.served(slot)
        assert served is not None
        return served

    async def held(self) -> tuple[SteeredClassifier, asyncio.Task[Answer]]:
        """The Champion's engine, and the request that it works on until `go` is set."""
        champion = self.engine.loaded[0]
        champion.go.clear()
        call = asyncio.create_task(self.replica.predict(REVIEWS, ["good"]))
        assert await asyncio.to_thread(champion.started.acquire, timeout=10)
        return champion, call


def filled(registry: FakeRegistry, folder: Path) -> FakeRegistry:
    files = write_steered_version(folder / "files")
    for version in ("1", "2", "3", "4"):
        registry.add("reviews", version, files)
    registry.add("other", "1", files)
    registry.models["reviews"][SERVING] = "1"
    return registry
