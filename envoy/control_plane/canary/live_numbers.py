"""The live numbers of Champion and Challenger, summed over the replicas, since a step began."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from control_plane.fleet.fleet import Fleet
from control_plane.fleet.replica_client import Role, SlotState
from control_plane.fleet.slot_stats import SlotStats


@dataclass(frozen=True)
class Source:
    """A version in a slot of a replica, from one activation on."""

    address: str
    role: Role
    version: str
    since: datetime | None = None


Reading = Mapping[Source, SlotStats]


class Numbers(Protocol):
    """Where the numbers come from."""

    async def read(self, model: str) -> Reading:
        """What every version of a model has answered; a replica that is away is left out."""


class FleetNumbers:
    """Numbers from the replicas themselves."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    async def read(self, model: str) -> Reading:
        """See Numbers."""
        return {
            Source(member.address, slot.role, slot.version, slot.since): slot.stats
            for member in await self._fleet.members()
            if member.state
            for slot in member.state.slots
            if (slot.model, slot.state) == (model, SlotState.SERVING)
        }


class StepNumbers:
    """The growth since the first reading; a replica that came later counts from then on.

    A replica that goes away keeps what it had: those requests were answered.
    """

    def __init__(self) -> None:
        self._first: dict[Source, SlotStats] = {}
        self._latest: dict[Source, SlotStats] = {}

    def add(self, reading: Reading) -> None:
        """Take in the next reading."""
        for source, stats in reading.items():
            self._first.setdefault(source, stats)
            self._latest[source] = stats

    def of(self, role: Role, version: str) -> SlotStats:
        """The sum over all replicas."""
        total = SlotStats()
        for source, stats in self._latest.items():
            if (source.role, source.version) == (role, version):
                total += stats - self._first[source]
        return total
