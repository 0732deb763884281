"""The fleet of replicas: asks all of them at once for their state."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from control_plane.fleet.connections import ReplicaConnections
from control_plane.fleet.replica_client import (
    ReplicaClient,
    ReplicaError,
    ReplicaState,
    Role,
    SlotState,
)
from service_kit.model_registry.records import VersionRef

STATE_TIMEOUT_S = 2.0
# Models that the reason names why a replica is not eligible.
MOST_NAMED = 5


@dataclass(frozen=True)
class Member:
    """A replica, as it was when it was last asked."""

    client: ReplicaClient
    state: ReplicaState | None
    """None: it did not answer."""

    name: str
    """The replica's id; its address until it has answered once."""

    why_away: str = ""
    """Error of the call that it did not answer."""

    @property
    def address(self) -> str:
        """host:port."""
        return self.client.address

    @property
    def present(self) -> bool:
        """Whether it answers and is not shutting down."""
        return self.state is not None and not self.state.draining

    @property
    def healthy(self) -> bool:
        """Whether it is present, can compute, and its health check says SERVING."""
        state = self.state
        return self.present and state is not None and state.serving and not state.trouble

    def serves(self, model: str) -> str:
        """Return the version of a model that it answers with; empty: none."""
        return self.state.serves(model) if self.state else ""

    def answers(self, model: str, role: Role = Role.CHAMPION) -> str:
        """Return the version of a model that a call gets its answer from now; empty: none."""
        return self.answers_with(model, role).version

    def answers_with(self, model: str, role: Role = Role.CHAMPION) -> VersionRef:
        """Return the same version with its source; empty: none."""
        if self.state is None or self.state.withdrawn(model, role):
            return VersionRef()
        return self.state.serving_ref(model, role)

    def lacks(self, serving: Mapping[str, str]) -> str:
        """Say why it is not eligible; empty: it is. `serving`: the fleet's version by model."""
        if self.state is None:
            return f"does not answer: {self.why_away}"
        if self.state.draining:
            return "is shutting down"
        if self.state.trouble:
            return f"cannot compute: {self.state.trouble}"
        if not self.state.serving:
            return "is starting"
        lacked = [
            f"{model}: {self._instead(model, version)}, the fleet serves {version}"
            for model, version in sorted(serving.items())
            if self.answers(model) != version
        ]
        more = [f"and {len(lacked) - MOST_NAMED} more models"] if len(lacked) > MOST_NAMED else []
        return "; ".join(lacked[:MOST_NAMED] + more)

    def _instead(self, model: str, version: str) -> str:
        assert self.state is not None
        served = self.serves(model)
        now = f"serves version {served}" if served else "serves none"
        if withdrawn := self.state.withdrawn(model):
            return f"does not answer ({withdrawn.detail or 'it gives no reason'})"
        for slot in self.state.slots:
            if (slot.model, slot.version) == (model, version):
                step = f" at {slot.step}" if slot.step else ""
                return f"{now}, version {version} is {slot.state.name}{step}"
        return now


class Fleet:
    """Every replica that the control plane is connected to."""

    def __init__(self, replicas: ReplicaConnections | Sequence[ReplicaClient]) -> None:
        self._connections = (
            replicas
            if isinstance(replicas, ReplicaConnections)
            else ReplicaConnections.of(replicas)
        )
        self._last: dict[str, ReplicaState] = {}

    async def members(self, timeout_s: float = STATE_TIMEOUT_S) -> list[Member]:
        """Ask every replica for its state, all at once; return them ordered by name."""
        replicas = await self._connections.clients()
        for address in self._last.keys() - {replica.address for replica in replicas}:
            del self._last[address]
        members = await asyncio.gather(*(self._member(r, timeout_s) for r in replicas))
        return sorted(members, key=lambda member: (member.name, member.address))

    def last_step(self, address: str, model: str, ref: VersionRef) -> str:
        """Return the step of a preparation when the replica was last asked; empty: unknown."""
        state = self._last.get(address)
        return state.step(model, ref) if state else ""

    async def close(self) -> None:
        """Close every connection."""
        await self._connections.close()

    async def _member(self, replica: ReplicaClient, timeout_s: float) -> Member:
        try:
            state = await replica.state(timeout_s)
        except ReplicaError as error:
            last = self._last.get(replica.address)
            return Member(replica, None, last.replica if last else replica.address, str(error))
        self._last[replica.address] = state
        return Member(replica, state, state.replica or replica.address)


def preparing(member: Member, model: str, ref: VersionRef) -> bool:
    """Return whether the replica is making this version ready already."""
    return bool(
        member.state
        and ref
        and any(
            slot.model == model and slot.state is SlotState.PREPARING and slot.ref.same(ref)
            for slot in member.state.slots
        )
    )
