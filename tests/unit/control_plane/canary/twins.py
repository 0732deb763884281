"""Twins of the parts of a canary: fast time, scripted numbers, a split in memory."""

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random

from control_plane.canary.canaries import Canaries
from control_plane.canary.live_numbers import Reading, Source
from control_plane.canary.record import Canary, CanaryState, Plan
from control_plane.canary.seams import CanaryParts
from control_plane.fleet.replica_client import Role
from control_plane.fleet.slot_stats import NOTHING, KeyBucket, SlotStats
from control_plane.reload.coordinator import ReloadResult
from control_plane.topology import ALL_TO_THE_CHAMPION, Split
from service_kit.errors import Aborted, MeshError
from service_kit.histogram import bucket_of
from service_kit.model_registry.promotion import Promoted
from service_kit.model_registry.records import (
    CHALLENGER,
    CHAMPION,
    PREVIOUS,
    SERVING,
    TAG_COMPARED_WITH,
    TAG_DISAGREEMENT,
    TAG_HELD_OUT_ROWS,
    TAG_P_VALUE,
)
from tests.unit.control_plane.twins import TwinRegistry

PLAN = Plan((5, 25, 50), 10.0, 10)
REQUESTS_A_SECOND = 300
KEY_BUCKETS = 64
BETTER = {
    TAG_COMPARED_WITH: "1",
    TAG_P_VALUE: "0.001",
    TAG_DISAGREEMENT: "0.08",
    TAG_HELD_OUT_ROWS: "1000",
}


class TwinClock:
    """Sleeping moves it forward at once, except while it is frozen."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.frozen_at: float | None = None
        self._thawed = asyncio.Event()

    def thaw(self) -> None:
        """Go on."""
        self.frozen_at = None
        self._thawed.set()

    def go_on_until(self, seconds: float) -> None:
        """Go on, and freeze again at this time."""
        self.frozen_at = seconds
        self._thawed.set()
        self._thawed = asyncio.Event()

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        if self.frozen_at is not None and self.seconds >= self.frozen_at:
            await self._thawed.wait()
        self.seconds += seconds
        await asyncio.sleep(0)


class TwinTraffic:
    """Remembers every split."""

    def __init__(self) -> None:
        self.splits: list[Split] = []
        self.failure: MeshError | None = None
        self.away: MeshError | None = None
        """What every change fails with, also one that gives all traffic to the Champion."""

    @property
    def split(self) -> Split:
        """The split now."""
        return self.splits[-1] if self.splits else ALL_TO_THE_CHAMPION

    def in_force(self, model: str) -> Split:
        return self.split

    async def set(self, model: str, split: Split) -> Split:
        if self.away:
            raise self.away
        if self.failure and split != ALL_TO_THE_CHAMPION:
            raise self.failure
        self.splits.append(split)
        return split


def answered(
    requests: int, ms: float = 5.0, failed: int = 0, good: float = 0.6, dice: Random | None = None
) -> SlotStats:
    """Return the numbers of equal requests with one text each, every one with a key of its own."""
    times, dice = (0,) * bucket_of(ms), dice or Random(requests)
    positive = round(requests * good)
    buckets = []
    for mine, others, failures in zip(
        spread(positive, dice), spread(requests - positive, dice), spread(failed, dice), strict=True
    ):
        counts = (*times, mine + others)
        labels = {"good": mine, "bad": others}
        buckets.append(KeyBucket(mine + others, failures, counts, counts, labels))
    return SlotStats(tuple(buckets))


def compared(texts: int, disagreement: float, dice: Random | None = None) -> SlotStats:
    """Return the numbers of mirrored requests with one text each."""
    disagreed, dice = round(texts * disagreement), dice or Random(texts)
    counts = zip(spread(texts - disagreed, dice), spread(disagreed, dice), strict=True)
    return SlotStats(tuple(KeyBucket(agreed=agreed, disagreed=not_) for agreed, not_ in counts))


def spread(count: int, dice: Random) -> list[int]:
    """Put every one of a count into a key bucket at random."""
    chosen = Counter(dice.choices(range(KEY_BUCKETS), k=count))
    return [chosen[bucket] for bucket in range(KEY_BUCKETS)]


def of_one_key(bucket: int, counts: KeyBucket) -> SlotStats:
    """Return the numbers of a caller whose requests have one key."""
    return SlotStats((NOTHING,) * bucket + (counts,))


class TwinNumbers:
    """Grows at every reading by a second's traffic under the current split."""

    def __init__(self, traffic: TwinTraffic) -> None:
        self._traffic = traffic
        self._dice = Random(3)
        self.rate = REQUESTS_A_SECOND
        self.challenger_ms = 5.0
        self.challenger_fails = 0.0
        self.disagreement = 0.05
        self.champion, self.challenger = answered(100_000), SlotStats()

    async def read(self, model: str) -> Reading:
        split = self._traffic.split
        mine = self.rate * split.challenger // 100
        mirrored = (self.rate - mine) * split.mirror_percent // 100
        self.champion += answered(self.rate - mine, dice=self._dice)
        failed = round(mine * self.challenger_fails)
        self.challenger += answered(mine - failed, self.challenger_ms, failed, dice=self._dice)
        self.challenger += compared(mirrored, self.disagreement, self._dice)
        return {
            Source("r1:1", Role.CHAMPION, "1"): self.champion,
            Source("r1:1", Role.CHALLENGER, "2"): self.challenger,
        }


class TwinPromotions:
    """Promotes in a TwinRegistry."""

    def __init__(self, registry: TwinRegistry) -> None:
        self._registry = registry
        self.count = 0

    async def promote(
        self, model: str, version: str, expected_champion: str, *, serve: bool = True
    ) -> Promoted:
        assert serve, "the fleet is to serve what a canary promotes"
        aliases = self._registry.aliases
        if aliases[CHAMPION] not in (version, expected_champion):
            raise Aborted("another version became the Champion")
        self.count += 1
        aliases[PREVIOUS], aliases[CHAMPION] = expected_champion, version
        aliases.pop(CHALLENGER, None)
        return Promoted(version, expected_champion, self.count)


class TwinReloader:
    """Moves the alias Serving, and no replica."""

    def __init__(self, registry: TwinRegistry) -> None:
        self._registry = registry
        self.failure: MeshError | None = None
        self.requests: list[tuple[str, str]] = []

    async def reload(self, model: str, version: str, request_id: str) -> ReloadResult:
        if self.failure:
            raise self.failure
        self.requests.append((version, request_id))
        before = self._registry.aliases[SERVING]
        self._registry.aliases[SERVING] = version
        return ReloadResult(model, before, version, ())


class TwinCanaries:
    """Canaries over twins: version 1 is Champion, version 2 Challenger, of model reviews."""

    def __init__(self, **aliases: str) -> None:
        self.registry = TwinRegistry(**(aliases or {
            CHAMPION: "1", SERVING: "1", CHALLENGER: "2",
        }))  # fmt: skip
        self.registry.tags["2"].update(BETTER)
        self.clock, self.traffic = TwinClock(), TwinTraffic()
        self.numbers = TwinNumbers(self.traffic)
        self.promotions = TwinPromotions(self.registry)
        self.reloader = TwinReloader(self.registry)
        self.restart()

    def restart(self) -> None:
        """Start a new control plane, as after a crash."""
        parts = CanaryParts(
            self.registry,
            self.traffic,
            self.numbers,
            self.promotions,
            self.reloader,
            clock=self.clock,
        )
        self.canaries = Canaries(parts)

    async def start(self, plan: Plan = PLAN, request_id: str = "a") -> Canary:
        return await self.canaries.start("reviews", plan, request_id)

    async def until(self, condition: Callable[[Canary], bool]) -> Canary:
        """Wait until this holds."""
        async with asyncio.timeout(60):
            while not condition(canary := await self.canaries.get("reviews")):
                await asyncio.sleep(0)
        return canary

    async def end(self) -> Canary:
        """Wait until the canary does not run any more and its outcome is noted."""
        canary = await self.until(lambda canary: canary.state is not CanaryState.RUNNING)
        await asyncio.gather(*self.canaries.running, return_exceptions=True)
        return canary
