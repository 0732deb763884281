"""The interface to one replica: the control plane's calls and the replica's answers."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from functools import cached_property
from typing import Protocol

from control_plane.fleet.slot_stats import SlotStats
from service_kit.model_registry.records import VersionRef

_NONE = VersionRef()


class Role(Enum):
    """A slot of a model in a replica; the values are those of mesh.v1.ModelRole."""

    CHAMPION = 1
    CHALLENGER = 2


class SlotState(Enum):
    """The state of a version in a slot; the values are those of mesh.v1.ModelState."""

    PREPARING = 1
    READY = 2
    SERVING = 3
    FAILED = 4


@dataclass(frozen=True)
class Slot:
    """One version in one slot."""

    model: str
    version: str
    state: SlotState
    role: Role = Role.CHAMPION
    step: str = ""
    """Step of its preparation; empty: it is at none."""

    first_answer_at: datetime | None = None
    since: datetime | None = None
    """Moment of its activation."""

    stats: SlotStats = field(default_factory=SlotStats)
    """Numbers of the requests since its activation."""

    source: str = ""
    """Where the version's files lie; empty: unknown."""

    run_id: str = ""
    """MLflow run of the version; empty: unknown."""

    withdrawn: bool = False
    """The replica does not answer for this model now."""

    detail: str = ""
    """Why it is withdrawn, or why a step failed."""

    memory_bytes: int = 0
    """Memory that the version does not share with others, bytes; 0: unknown."""

    @property
    def ref(self) -> VersionRef:
        """The version with its source."""
        return VersionRef(self.version, self.source)


@dataclass(frozen=True)
class ReplicaState:
    """The state that a replica reports."""

    replica: str
    device: str = ""
    slots: tuple[Slot, ...] = ()
    draining: bool = False
    serving: bool = True
    """Its health check says SERVING."""

    http_port: int = 0
    """Port of its HTTP listener (Open Inference Protocol); 0: it has none."""

    unary_port: int = 0
    """Port at which it takes unary calls over HTTP/1.1; 0: at none."""

    trouble: str = ""
    """Why the replica as a whole cannot compute; empty: it can."""

    def version(self, model: str, state: SlotState, role: Role = Role.CHAMPION) -> VersionRef:
        """Return the version of a model that is in this state; empty: none."""
        return self._versions.get((model, role, state), _NONE)

    @cached_property
    def _versions(self) -> dict[tuple[str, Role, SlotState], VersionRef]:
        return {(slot.model, slot.role, slot.state): slot.ref for slot in self.slots}

    def serves(self, model: str, role: Role = Role.CHAMPION) -> str:
        """Return the number of the version that answers requests for a model; empty: none."""
        return self.serving_ref(model, role).version

    def serving_ref(self, model: str, role: Role = Role.CHAMPION) -> VersionRef:
        """Return the version that answers requests for a model; empty: none."""
        return self.version(model, SlotState.SERVING, role)

    def withdrawn(self, model: str, role: Role = Role.CHAMPION) -> Slot | None:
        """Return the slot of a model for which the replica does not answer now; None: it does."""
        return self._withdrawn.get((model, role))

    @cached_property
    def _withdrawn(self) -> dict[tuple[str, Role], Slot]:
        return {(slot.model, slot.role): slot for slot in self.slots if slot.withdrawn}

    def step(self, model: str, ref: VersionRef) -> str:
        """Return the step of a version's preparation; empty: it is at none."""
        for slot in self.slots:
            if slot.model == model and slot.state is not SlotState.SERVING and slot.ref.same(ref):
                return slot.step
        return ""


@dataclass(frozen=True)
class Prepared:
    """A version is ready."""

    prepare_ms: float


@dataclass(frozen=True)
class Activated:
    """A version serves."""

    swap_ms: float
    from_version: str
    drained_requests: int


class ReplicaError(Exception):
    """A replica did not carry out a call."""


class ReplicaAway(ReplicaError):
    """The replica does not answer, or not in time."""


class StepFailed(ReplicaError):
    """The replica answered that a step failed."""

    def __init__(self, step: str, message: str) -> None:
        super().__init__(message)
        self.step = step


class ReplicaClient(Protocol):
    """Steers one replica. Every call may raise ReplicaAway or StepFailed."""

    address: str

    async def state(self, timeout_s: float) -> ReplicaState:
        """Return the replica's state."""

    async def prepare(self, model: str, ref: VersionRef, role: Role, timeout_s: float) -> Prepared:
        """Make a version ready beside the version that serves; returns when it is ready."""

    async def activate(
        self, model: str, ref: VersionRef, role: Role, timeout_s: float
    ) -> Activated:
        """Let a version that is ready answer from now on."""

    async def abort(
        self, model: str, ref: VersionRef, role: Role, timeout_s: float, removed: bool = False
    ) -> None:
        """Drop a prepared version, or stop preparing it; of the Challenger also one that serves.

        `removed`: the model was removed, so that its Champion goes as well.
        """

    async def close(self) -> None:
        """Close the connection once its calls have ended; later calls raise ReplicaAway."""
