"""A control plane over in-memory twins of the parts around it."""

import asyncio
from datetime import UTC, datetime

from control_plane.changes.model_locks import ModelLocks
from control_plane.changes.version_marks import Marks
from control_plane.fleet.fleet import Fleet
from control_plane.fleet.version_change import Timings
from control_plane.models.catalog import Catalog
from control_plane.reload.coordinator import ReloadCoordinator
from control_plane.reload.pending_switches import PendingSwitches
from control_plane.reload.repairs import Repairs
from control_plane.reload.upkeep import Upkeep
from control_plane.traffic.envoy_targets import EnvoyTargets
from control_plane.traffic.traffic_control import TrafficControl
from tests.unit.control_plane.twin_envoy import TOPOLOGY, TwinEnvoy
from tests.unit.control_plane.twin_parts import TwinAnswers, TwinDemotions, TwinRegistry
from tests.unit.control_plane.twin_replica import KILLED, TwinReplica

__all__ = [
    "KILLED",
    "QUICK",
    "TOPOLOGY",
    "TwinAnswers",
    "TwinDemotions",
    "TwinEnvoy",
    "TwinMesh",
    "TwinRegistry",
    "TwinReplica",
    "moment",
    "two_replicas",
]

QUICK = Timings(prepare_s=1, activate_s=0.2, forward_s=0.5, abort_s=0.2, record_s=0.3, pause_s=0.01)


class TwinMesh:
    """A control plane over twins."""

    def __init__(self, registry: TwinRegistry, *replicas: TwinReplica) -> None:
        self.registry = registry
        self.replicas = replicas
        self.demotions = TwinDemotions(registry)
        self.answers = TwinAnswers()
        self.now = 0.0
        self.start()

    def start(self) -> None:
        """Start a new control plane, as after a crash."""
        locks = ModelLocks()
        self.envoy = TwinEnvoy()
        self.targets = EnvoyTargets(TOPOLOGY, self.envoy, locks, lambda: self.now)
        self.fleet = Fleet(self.replicas)
        self.repairs = Repairs(self.registry, locks, QUICK)
        self.catalog = Catalog(self.registry, max_age_s=0)
        marks = Marks(self.registry)
        self.coordinator = ReloadCoordinator(
            self.fleet,
            self.registry,
            self.demotions,
            locks,
            self.repairs,
            marks,
            QUICK,
            self.catalog,
            self.targets,
            self.answers,
        )
        self.switches = PendingSwitches(self.coordinator.close_gap, grace_s=0)
        self.upkeep = Upkeep(
            self.fleet,
            self.catalog,
            locks,
            self.repairs,
            marks,
            self.targets,
            self.switches,
            0.01,
        )
        self.traffic = TrafficControl(
            self.registry, self.catalog, self.fleet, locks, self.targets, QUICK, self.answers
        )

    @property
    def served(self) -> list[str]:
        """Version of reviews that each replica serves."""
        return [replica.serving.get("reviews", "") for replica in self.replicas]

    async def settle(self) -> None:
        """Run the upkeep, its repairs and its switches until they are done."""
        await self.upkeep.look()
        async with asyncio.timeout(60):
            while running := [*self.repairs.running, *self.switches.running]:
                await asyncio.gather(*running)
        await self.upkeep.look()


def moment(second: int) -> datetime:
    """Return a moment, `second` seconds after noon."""
    return datetime(2026, 1, 1, 12, 0, second, tzinfo=UTC)


def two_replicas(version: str = "1") -> tuple[TwinReplica, TwinReplica]:
    """Replicas r1 and r2, which serve this version of reviews."""
    return TwinReplica("r1", reviews=version), TwinReplica("r2", reviews=version)
