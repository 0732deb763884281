"""The live numbers of Champion and Challenger since a step began, summed over the replicas."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from control_plane.fleet.fleet import Fleet
from control_plane.fleet.replica_client import Role, SlotState
from control_plane.fleet.slot_stats import SlotStats


@dataclass(frozen=True)
class Source:
    """A version in a slot of a replica, since one activation."""

    address: str
    role: Role
    version: str
    since: datetime | None = None


Reading = Mapping[Source, SlotStats]


class Numbers(Protocol):
    """A source of live numbers: FleetNumbers, or a twin."""

    async def read(self, model: str) -> Reading:
        """Return the numbers of every version of a model, without replicas that do not answer."""


class FleetNumbers:
    """Asks the replicas for their numbers of requests that a split dealt to them."""

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
    """The growth of the numbers since the first reading.

    A replica that came later counts from its own first reading. A replica that goes away keeps its
    numbers, since it did answer those requests.
    """

    def __init__(self) -> None:
        self._first: dict[Source, SlotStats] = {}
        self._latest: dict[Source, SlotStats] = {}

    def add(self, reading: Reading) -> None:
        """Take in the next reading."""
        for source, stats in reading.items():
            self._first.setdefault(source, stats)
            self._latest[source] = stats

    def leave_out(self, reading: Reading) -> None:
        """Take in a reading without its growth since the latest one."""
        for source, stats in reading.items():
            if source in self._latest:
                self._first[source] += stats - self._latest[source]
        self.add(reading)

    def of(self, role: Role, version: str) -> SlotStats:
        """Return the growth in one slot, summed over all replicas."""
        total = SlotStats()
        for source, stats in self._latest.items():
            if (source.role, source.version) == (role, version):
                total += stats - self._first[source]
        return total
