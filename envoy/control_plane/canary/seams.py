"""The parts that a canary uses: time, traffic, live numbers, promotions, the fleet's reload."""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from control_plane.canary.judge import Judge
from control_plane.canary.live_numbers import Numbers
from control_plane.models.registry_protocol import ModelRegistry
from control_plane.reload.coordinator import ReloadResult
from control_plane.topology import Split
from service_kit.model_registry.promotion import Promoted


class Clock(Protocol):
    """Time, which a test may make go faster."""

    def now(self) -> datetime:
        """Return the time of day."""

    def monotonic(self) -> float:
        """Return seconds that only grow."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""


class SystemClock:
    """The time of this machine."""

    def now(self) -> datetime:
        """See Clock."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """See Clock."""
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        """See Clock."""
        await asyncio.sleep(seconds)


class Traffic(Protocol):
    """control_plane.traffic.traffic_control.TrafficControl, or a twin."""

    async def set(self, model: str, split: Split) -> Split:
        """Change a model's split; returns when every replica serves the Challenger."""

    def in_force(self, model: str) -> Split:
        """Return the split that Envoy has; a Challenger that no replica serves gets nothing."""


class Promotions(Protocol):
    """service_kit.model_registry.promotion.Promotions, or a twin."""

    async def promote(
        self, model: str, version: str, expected_champion: str, *, serve: bool
    ) -> Promoted:
        """Make `version` the Champion if `expected_champion` still is. Raises Aborted."""


class Reloader(Protocol):
    """control_plane.reload.coordinator.ReloadCoordinator, or a twin."""

    async def reload(self, model: str, version: str, request_id: str) -> ReloadResult:
        """Bring the fleet to a version."""


@dataclass(frozen=True)
class CanaryParts:
    """The parts, put together."""

    registry: ModelRegistry
    traffic: Traffic
    numbers: Numbers
    promotions: Promotions
    reloader: Reloader
    judge: Judge = field(default_factory=Judge)
    clock: Clock = field(default_factory=SystemClock)
