"""One version change of the whole fleet, in two phases with a commit record in between.

Before the record any failure leaves every replica as it was; after it the way is forward only.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

from control_plane.fleet.fleet import Fleet, Member
from control_plane.fleet.replica_client import ReplicaAway, ReplicaError, Role, StepFailed
from service_kit.errors import Aborted

log = logging.getLogger(__name__)

PREPARE_FAILED = "PREPARE_FAILED"
UNREACHABLE = "unreachable"


@dataclass(frozen=True)
class Timings:
    """How long each part of a version change may take, seconds."""

    prepare_s: float = 300.0
    """Download, load, warm-up and golden set of one replica; half of them do it at a time."""

    activate_s: float = 5.0
    """One attempt to swap."""

    forward_s: float = 5.0
    """All attempts to bring a replica forward after the record, before the call answers; from
    then on it gets no traffic, and the upkeep goes on with it."""

    abort_s: float = 5.0
    record_s: float = 20.0
    """All attempts to write the commit record."""

    pause_s: float = 0.2
    """Between two attempts."""


@dataclass(frozen=True)
class ReplicaReload:
    """One replica's part in a version change; versions are empty when there was none."""

    replica: str
    from_version: str = ""
    to_version: str = ""
    prepare_ms: float = 0.0
    swap_ms: float = 0.0
    drained_requests: int = 0


class Rollout:
    """Carries version changes out."""

    def __init__(self, fleet: Fleet, timings: Timings) -> None:
        self._fleet = fleet
        self._timings = timings

    async def run(
        self,
        model: str,
        version: str,
        members: Sequence[Member],
        commit: Callable[[], Awaitable[None]],
        role: Role = Role.CHAMPION,
    ) -> tuple[ReplicaReload, ...]:
        """Bring a slot of `members` to `version`: prepare all, `commit()`, activate all.

        Raises Aborted, naming the replica and the step, when one cannot prepare, and what
        `commit` raises; then nothing has changed. A member that cannot follow after the record
        is returned with the version that it still serves.
        """
        change = _Change(model, version, role)
        behind = [member for member in members if change.before(member) != version]
        try:
            prepare_ms = await self._prepare_all(change, behind)
            await commit()
        except BaseException:
            await abort_all(model, version, behind, role, self._timings.abort_s)
            raise
        done = await asyncio.gather(
            *(self._activate(change, m, prepare_ms[m.address]) for m in behind)
        )
        current = [
            ReplicaReload(member.name, version, version)
            for member in members
            if change.before(member) == version
        ]
        return (*done, *current)

    async def _prepare_all(self, change: "_Change", members: Sequence[Member]) -> dict[str, float]:
        # The others have their full speed meanwhile, and the balancer prefers them.
        half = asyncio.Semaphore((len(members) + 1) // 2)

        async def prepare(member: Member) -> float:
            async with half:
                return await self._prepare(change, member)

        try:
            async with asyncio.TaskGroup() as group:
                tasks = {member.address: group.create_task(prepare(member)) for member in members}
        except* Aborted as failed:
            # The first to fail names the cause; the others were cancelled for it.
            raise failed.exceptions[0] from None
        return {address: task.result() for address, task in tasks.items()}

    async def _prepare(self, change: "_Change", member: Member) -> float:
        try:
            prepared = await member.client.prepare(
                change.model, change.version, change.role, self._timings.prepare_s
            )
        except StepFailed as error:
            _abort(change, member, error.step, str(error))
        except ReplicaAway as error:
            step = self._fleet.last_step(member.address, change.model, change.version)
            _abort(change, member, step or UNREACHABLE, str(error))
        return prepared.prepare_ms

    async def _activate(
        self, change: "_Change", member: Member, prepare_ms: float
    ) -> ReplicaReload:
        before = change.before(member)
        try:
            async with asyncio.timeout(self._timings.forward_s):
                while True:
                    try:
                        swap = await member.client.activate(
                            change.model, change.version, change.role, self._timings.activate_s
                        )
                        break
                    except ReplicaError as error:
                        log.warning("not activated yet", extra=_extra(change, member, error))
                    await asyncio.sleep(self._timings.pause_s)
                    await self._prepare_again(change, member)
        except TimeoutError:
            return ReplicaReload(member.name, before, before, prepare_ms)
        return ReplicaReload(
            member.name, before, change.version, prepare_ms, swap.swap_ms, swap.drained_requests
        )

    async def _prepare_again(self, change: "_Change", member: Member) -> None:
        """A replica that restarted has lost what it had prepared."""
        try:
            await member.client.prepare(
                change.model, change.version, change.role, self._timings.forward_s
            )
        except ReplicaError as error:
            log.warning("not prepared again yet", extra=_extra(change, member, error))


@dataclass(frozen=True)
class _Change:
    model: str
    version: str
    role: Role

    def before(self, member: Member) -> str:
        """Version in this slot when the replica was last asked."""
        return member.state.serves(self.model, self.role) if member.state else ""


async def abort_all(
    model: str, version: str, members: Sequence[Member], role: Role, timeout_s: float
) -> None:
    """Have every replica drop a version; one that does not answer does it later."""

    async def abort(member: Member) -> None:
        try:
            await member.client.abort(model, version, role, timeout_s)
        except ReplicaError as error:
            # The upkeep drops it as soon as the replica answers again.
            log.warning("not aborted", extra={"replica": member.name, "why": str(error)})

    await asyncio.gather(*(abort(member) for member in members))


def _abort(change: _Change, member: Member, step: str, problem: str) -> NoReturn:
    served = change.before(member)
    raise Aborted(
        f"replica {member.name} failed at {step} with version {change.version} of "
        f"{change.model}: {problem}; "
        + (f"version {served} goes on serving" if served else "nothing was changed"),
        reason=PREPARE_FAILED,
        replica=member.name,
        step=step,
    )


def _extra(change: _Change, member: Member, error: Exception) -> dict[str, str]:
    about = {"model": change.model, "version": change.version, "role": change.role.name}
    return about | {"replica": member.name, "why": str(error)}
