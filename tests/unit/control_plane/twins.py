"""In-memory twins of the parts around the control plane: replica, registry, demotions, Envoy."""

import asyncio
from datetime import UTC, datetime

from control_plane.changes.model_locks import ModelLocks
from control_plane.changes.version_marks import Marks
from control_plane.fleet.fleet import Fleet
from control_plane.fleet.replica_client import (
    Activated,
    Prepared,
    ReplicaAway,
    ReplicaState,
    Role,
    Slot,
    SlotState,
    StepFailed,
)
from control_plane.fleet.version_change import Timings
from control_plane.models.catalog import Catalog
from control_plane.reload.coordinator import ReloadCoordinator
from control_plane.reload.repairs import Repairs
from control_plane.reload.upkeep import Upkeep
from control_plane.traffic.envoy_targets import EnvoyTargets
from control_plane.traffic.traffic_control import TrafficControl
from service_kit.errors import Aborted, NotFound, Unavailable
from service_kit.model_registry.promotion import Promoted
from service_kit.model_registry.records import CHAMPION, PREVIOUS, ModelVersion, RegisteredModel
from tests.unit.control_plane.twin_envoy import TOPOLOGY, TwinEnvoy

QUICK = Timings(prepare_s=1, activate_s=0.2, forward_s=0.5, abort_s=0.2, record_s=0.3, pause_s=0.01)
KILLED = "killed"


class TwinReplica:
    """Acts as a replica without models. A test makes it fail at a step."""

    def __init__(self, name: str, **serving: str) -> None:
        self.name = name
        self.address = f"{name}:1"
        self.serving = dict(serving)
        self.ready: dict[str, str] = {}
        self.challengers: dict[str, str] = {}
        self.withdrawn: dict[str, str] = {}
        """Models for which it does not answer as Champion now, and why."""

        self.withdrawn_challengers: set[str] = set()
        self.trouble = ""
        self.step = ""
        self.http_port = self.unary_port = 0
        self.up = True
        self.fail_at = ""
        self.fail_activations = 0
        self.killed_by_activate = False
        self.gate: asyncio.Event | None = None
        self.preparing = asyncio.Event()
        self.first_answers: dict[str, datetime] = {}
        self.calls: list[str] = []

    def kill(self) -> None:
        """Die, and lose the prepared versions."""
        self.up = False
        self.ready.clear()

    def restart(self, serving: dict[str, str]) -> None:
        """Come back and serve these versions, by model."""
        self.up, self.fail_at, self.killed_by_activate = True, "", False
        self.serving, self.challengers = dict(serving), {}

    async def state(self, timeout_s: float) -> ReplicaState:
        self._answer()
        slots = [
            Slot(
                model,
                version,
                SlotState.SERVING,
                first_answer_at=self.first_answers.get(version),
                withdrawn=model in self.withdrawn,
                detail=self.withdrawn.get(model, ""),
            )
            for model, version in self.serving.items()
        ]
        slots += [Slot(model, version, SlotState.READY) for model, version in self.ready.items()]
        slots += [
            Slot(
                model,
                version,
                SlotState.SERVING,
                Role.CHALLENGER,
                withdrawn=model in self.withdrawn_challengers,
            )
            for model, version in self.challengers.items()
        ]
        if self.step:
            slots.append(Slot("reviews", "2", SlotState.PREPARING, step=self.step))
        return ReplicaState(
            self.name,
            "cpu",
            tuple(slots),
            http_port=self.http_port,
            unary_port=self.unary_port,
            trouble=self.trouble,
        )

    async def prepare(self, model: str, version: str, role: Role, timeout_s: float) -> Prepared:
        self._answer()
        self.calls.append(f"prepare {version}")
        self.preparing.set()
        if self.gate:
            await self.gate.wait()
        if self.fail_at == KILLED:
            self.kill()
            raise ReplicaAway("connection reset")
        if self.fail_at:
            raise StepFailed(self.fail_at, "it broke")
        if role is Role.CHAMPION and self.serving.get(model) != version:
            self.ready[model] = version
        return Prepared(12.0)

    async def activate(self, model: str, version: str, role: Role, timeout_s: float) -> Activated:
        self._answer()
        self.calls.append(f"activate {version}")
        if self.killed_by_activate:
            self.kill()
            raise ReplicaAway("connection reset")
        if self.fail_activations:
            self.fail_activations -= 1
            raise StepFailed("activate", "it broke")
        if role is Role.CHALLENGER:
            before, self.challengers[model] = self.challengers.get(model, ""), version
            return Activated(0.1, before, 0)
        before = self.serving.get(model, "")
        if before != version:
            if self.ready.pop(model, "") != version:
                raise StepFailed("activate", f"{version} is not prepared")
            self.serving[model] = version
        return Activated(0.1, before, 3)

    async def abort(self, model: str, version: str, role: Role, timeout_s: float) -> None:
        self._answer()
        self.calls.append(f"abort {version}")
        if role is Role.CHALLENGER and self.challengers.get(model) == version:
            del self.challengers[model]
        elif self.ready.get(model) == version:
            del self.ready[model]

    async def close(self) -> None:
        return

    def _answer(self) -> None:
        if not self.up:
            raise ReplicaAway("connection refused")


class TwinRegistry:
    """A registry with one model."""

    def __init__(self, **aliases: str) -> None:
        self.model = "reviews"
        self.aliases = dict(aliases)
        self.model_tags: dict[str, str] = {}
        self.tags: dict[str, dict[str, str]] = {str(n + 1): {} for n in range(3)}
        self.up = True
        self.refused_calls = 0
        self.refused_aliases = 0
        """Writes of aliases that are still to fail."""

        self.hold_tags: asyncio.Event | None = None
        """Event until which no tag of the model is written; None: there is nothing to wait for."""

    async def find_model(self, name: str) -> RegisteredModel | None:
        self._answer()
        if name != self.model:
            return None
        return RegisteredModel(name, dict(self.aliases), dict(self.model_tags))

    async def list_models(self) -> list[RegisteredModel]:
        found = await self.find_model(self.model)
        return [found] if found else []

    async def get_version(self, name: str, version: str) -> ModelVersion:
        self._answer()
        if name != self.model or version not in self.tags:
            raise NotFound("no such version")
        return ModelVersion(name, version, "run", "", dict(self.tags[version]))

    async def set_alias(self, name: str, alias: str, version: str) -> None:
        self._answer()
        if self.refused_aliases:
            self.refused_aliases -= 1
            raise Unavailable("MLflow answered 503")
        self.aliases[alias] = version

    async def tag_version(self, name: str, version: str, key: str, value: str) -> None:
        self._answer()
        self.tags[version][key] = value

    async def tag_model(self, name: str, key: str, value: str) -> None:
        if self.hold_tags:
            await self.hold_tags.wait()
        self._answer()
        self.model_tags[key] = value

    def _answer(self) -> None:
        if not self.up:
            self.refused_calls += 1
            raise Unavailable("MLflow is away")


class TwinDemotions:
    """Demotes in a TwinRegistry, or fails."""

    def __init__(self, registry: TwinRegistry) -> None:
        self.registry = registry
        self.failure: Exception | None = None
        self.count = 0

    async def demote(self, model: str, expected_champion: str, previous: str) -> Promoted:
        if self.failure:
            raise self.failure
        aliases = self.registry.aliases
        if aliases[CHAMPION] not in (expected_champion, previous):
            raise Aborted("another Champion")
        self.count += aliases[CHAMPION] == expected_champion
        aliases[CHAMPION], aliases[PREVIOUS] = previous, expected_champion
        return Promoted(previous, expected_champion, self.count)


class TwinMesh:
    """A control plane over twins."""

    def __init__(self, registry: TwinRegistry, *replicas: TwinReplica) -> None:
        self.registry = registry
        self.replicas = replicas
        self.demotions = TwinDemotions(registry)
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
        )
        self.upkeep = Upkeep(
            self.fleet, self.catalog, locks, self.repairs, marks, self.targets, 0.01
        )
        self.traffic = TrafficControl(
            self.registry, self.catalog, self.fleet, locks, self.targets, QUICK
        )

    @property
    def served(self) -> list[str]:
        """Version of reviews that each replica serves."""
        return [replica.serving.get("reviews", "") for replica in self.replicas]

    async def settle(self) -> None:
        """Run the upkeep and its repairs until they are done."""
        await self.upkeep.look()
        async with asyncio.timeout(60):
            while self.repairs.running:
                await asyncio.gather(*self.repairs.running)
        await self.upkeep.look()


def moment(second: int) -> datetime:
    """Return a moment, `second` seconds after noon."""
    return datetime(2026, 1, 1, 12, 0, second, tzinfo=UTC)


def two_replicas(version: str = "1") -> tuple[TwinReplica, TwinReplica]:
    """Replicas r1 and r2, which serve this version of reviews."""
    return TwinReplica("r1", reviews=version), TwinReplica("r2", reviews=version)
