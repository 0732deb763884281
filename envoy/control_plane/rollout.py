"""One version change of the whole fleet, in two phases with a commit record in between.

Before the record any failure leaves every replica as it was; after it the way is forward only.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

from control_plane.fleet import Fleet, Member
from control_plane.replica import ReplicaAway, ReplicaError, Role, StepFailed
from service_kit.errors import Aborted

log = logging.getLogger(__name__)

PREPARE_FAILED = "PREPARE_FAILED"
UNREACHABLE = "unreachable"


@dataclass(frozen=True)
class Timings:
    """How long each part of a version change may take, seconds."""

    prepare_s: float = 300.0
    """Download, load, warm-up and golden set of one replica."""

    activate_s: float = 5.0
    """One attempt to swap."""

    forward_s: float = 20.0
    """All attempts to bring a replica forward after the record, before the call answers."""

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
    ) -> tuple[ReplicaReload, ...]:
        """Bring `members` to `version`: prepare all, `commit()`, activate all.

        Raises Aborted, naming the replica and the step, when one cannot prepare, and what
        `commit` raises; then nothing has changed. A member that cannot follow after the record
        is returned with the version that it still serves.
        """
        behind = [member for member in members if member.serves(model) != version]
        try:
            prepare_ms = await self._prepare_all(model, version, behind)
            await commit()
        except BaseException:
            await self._abort_all(model, version, behind)
            raise
        done = await asyncio.gather(
            *(self._activate(model, version, m, prepare_ms[m.address]) for m in behind)
        )
        current = [
            ReplicaReload(member.name, version, version)
            for member in members
            if member.serves(model) == version
        ]
        return (*done, *current)

    async def _prepare_all(
        self, model: str, version: str, members: Sequence[Member]
    ) -> dict[str, float]:
        try:
            async with asyncio.TaskGroup() as group:
                tasks = {
                    member.address: group.create_task(self._prepare(model, version, member))
                    for member in members
                }
        except* Aborted as failed:
            # The first to fail names the cause; the others were cancelled for it.
            raise failed.exceptions[0] from None
        return {address: task.result() for address, task in tasks.items()}

    async def _prepare(self, model: str, version: str, member: Member) -> float:
        try:
            prepared = await member.client.prepare(
                model, version, Role.CHAMPION, self._timings.prepare_s
            )
        except StepFailed as error:
            _abort(model, version, member, error.step, str(error))
        except ReplicaAway as error:
            step = self._fleet.last_step(member.address, model, version) or UNREACHABLE
            _abort(model, version, member, step, str(error))
        return prepared.prepare_ms

    async def _abort_all(self, model: str, version: str, members: Sequence[Member]) -> None:
        async def abort(member: Member) -> None:
            try:
                await member.client.abort(model, version, Role.CHAMPION, self._timings.abort_s)
            except ReplicaError as error:
                # The upkeep drops it as soon as the replica answers again.
                log.warning("not aborted", extra={"replica": member.name, "why": str(error)})

        await asyncio.gather(*(abort(member) for member in members))

    async def _activate(
        self, model: str, version: str, member: Member, prepare_ms: float
    ) -> ReplicaReload:
        before = member.serves(model)
        try:
            async with asyncio.timeout(self._timings.forward_s):
                while True:
                    try:
                        swap = await member.client.activate(
                            model, version, Role.CHAMPION, self._timings.activate_s
                        )
                        break
                    except ReplicaError as error:
                        log.warning(
                            "not activated yet", extra=_extra(model, version, member, error)
                        )
                    await asyncio.sleep(self._timings.pause_s)
                    await self._prepare_again(model, version, member)
        except TimeoutError:
            return ReplicaReload(member.name, before, before, prepare_ms)
        return ReplicaReload(
            member.name, before, version, prepare_ms, swap.swap_ms, swap.drained_requests
        )

    async def _prepare_again(self, model: str, version: str, member: Member) -> None:
        """A replica that restarted has lost what it had prepared."""
        try:
            await member.client.prepare(model, version, Role.CHAMPION, self._timings.forward_s)
        except ReplicaError as error:
            log.warning("not prepared again yet", extra=_extra(model, version, member, error))


def _abort(model: str, version: str, member: Member, step: str, problem: str) -> NoReturn:
    served = member.serves(model)
    raise Aborted(
        f"replica {member.name} failed at {step} with version {version} of {model}: {problem}; "
        + (f"version {served} goes on serving" if served else "nothing was changed"),
        reason=PREPARE_FAILED,
        replica=member.name,
        step=step,
    )


def _extra(model: str, version: str, member: Member, error: Exception) -> dict[str, str]:
    return {"replica": member.name, "model": model, "version": version, "why": str(error)}
