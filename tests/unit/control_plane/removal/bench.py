"""A control plane over twins that removes models."""

from dataclasses import dataclass, field

from control_plane.changes.model_locks import ModelLocks
from control_plane.changes.version_marks import Marks
from control_plane.reload.repairs import Repairs
from control_plane.reload.upkeep import Upkeep
from control_plane.removal.model_removal import ModelRemoval, RemovalParts
from control_plane.removal.removed_models import Removal, RemovedModels
from service_kit.errors import Unavailable
from tests.unit.control_plane.twins import QUICK, TwinMesh, TwinRegistry, TwinReplica


@dataclass
class TwinServices:
    """The training service and the trigger service. A job ends one question after its cancel."""

    known: bool = True
    has_table: bool = True
    jobs: list[str] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    away: bool = False

    async def forget_rows(self, model: str, with_rows: bool) -> tuple[bool, bool]:
        self._answer("forget")
        known, dropped = self.known, with_rows and self.has_table
        self.known, self.has_table = False, self.has_table and not with_rows
        return known, dropped

    async def running_jobs(self, model: str) -> list[str]:
        self._answer("jobs")
        running = [job for job in self.jobs if job not in self.cancelled]
        self.jobs = running
        return running

    async def cancel_job(self, job: str) -> None:
        self._answer(f"cancel {job}")
        self.cancelled.append(job)

    def _answer(self, call: str) -> None:
        if self.away:
            raise Unavailable("the training service is away")
        self.calls.append(call)


class TwinRemovals:
    """A RemovalStore in memory."""

    def __init__(self) -> None:
        self.kept: dict[str, Removal] = {}

    async def all(self) -> list[Removal]:
        return list(self.kept.values())

    async def save(self, removal: Removal) -> None:
        self.kept[removal.model] = removal


class RemovingMesh(TwinMesh):
    """A TwinMesh that removes models."""

    def __init__(self, registry: TwinRegistry, *replicas: TwinReplica) -> None:
        self.services = TwinServices()
        self.store = TwinRemovals()
        self.ended_canaries: list[str] = []
        super().__init__(registry, *replicas)

    def start(self) -> None:
        super().start()
        locks = ModelLocks()
        removed = RemovedModels(self.store)
        self.repairs = Repairs(self.registry, locks, QUICK, removed.removed)
        self.upkeep = Upkeep(
            self.fleet,
            self.catalog,
            locks,
            self.repairs,
            Marks(self.registry),
            self.targets,
            self.switches,
            0.01,
        )
        self.removal = ModelRemoval(
            RemovalParts(
                self.registry,
                self.services,
                removed,
                self.answers,
                self.fleet,
                self.catalog,
                self.targets,
                locks,
                self.repairs,
                self._end_canary,
                QUICK,
            )
        )

    async def _end_canary(self, model: str) -> None:
        self.ended_canaries.append(model)


def served_model() -> RemovingMesh:
    """Two replicas that serve version 1 of reviews, which MLflow has as version 1 of 1."""
    registry = TwinRegistry()
    registry.replace(1, {"1": "old"}, Champion="1", Serving="1")
    return RemovingMesh(registry, *(TwinReplica(name, reviews="1@old") for name in ("r1", "r2")))
