"""The seam to one replica: what the control plane asks it, and what it answers."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from functools import cached_property
from typing import Protocol

from control_plane.fleet.slot_stats import SlotStats


class Role(Enum):
    """Which slot of a model; the values are those of mesh.v1.ModelRole."""

    CHAMPION = 1
    CHALLENGER = 2


class SlotState(Enum):
    """What a slot does with a version; the values are those of mesh.v1.ModelState."""

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
    first_answer_at: datetime | None = None
    since: datetime | None = None
    """When it was activated."""

    stats: SlotStats = field(default_factory=SlotStats)
    """Of the requests since then."""


@dataclass(frozen=True)
class ReplicaState:
    """What a replica says about itself."""

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

    def version(self, model: str, state: SlotState, role: Role = Role.CHAMPION) -> str:
        """Version of a model that is in this state; empty when none is."""
        return self._versions.get((model, role, state), "")

    @cached_property
    def _versions(self) -> dict[tuple[str, Role, SlotState], str]:
        return {(slot.model, slot.role, slot.state): slot.version for slot in self.slots}

    def serves(self, model: str, role: Role = Role.CHAMPION) -> str:
        """Version of a model that answers; empty when none does."""
        return self.version(model, SlotState.SERVING, role)

    def step(self, model: str, version: str) -> str:
        """Step at which the preparation of a version is; empty when it is at none."""
        for slot in self.slots:
            if (slot.model, slot.version) == (model, version):
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
    """A replica could not do what it was asked."""


class ReplicaAway(ReplicaError):
    """It does not answer, or not in time."""


class StepFailed(ReplicaError):
    """It answered that a step failed."""

    def __init__(self, step: str, message: str) -> None:
        super().__init__(message)
        self.step = step


class ReplicaClient(Protocol):
    """Steers one replica. Every call raises ReplicaAway or StepFailed."""

    address: str

    async def state(self, timeout_s: float) -> ReplicaState:
        """Ask what it serves."""

    async def prepare(self, model: str, version: str, role: Role, timeout_s: float) -> Prepared:
        """Make a version ready beside the one that serves; returns when it is."""

    async def activate(self, model: str, version: str, role: Role, timeout_s: float) -> Activated:
        """Swap to a version that is ready."""

    async def abort(self, model: str, version: str, role: Role, timeout_s: float) -> None:
        """Drop what was prepared, or stop preparing it."""

    async def close(self) -> None:
        """Close the connection when its calls have ended; later ones raise ReplicaAway."""
