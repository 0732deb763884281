"""One version change of the whole fleet, in two phases with a commit record in between.

Before the record, any failure leaves every replica as it was. After it, replicas are only ever
brought forward to the new version.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from tenacity import AsyncRetrying

from control_plane.changes.retries import retrying
from control_plane.fleet.fleet import Fleet, Member
from control_plane.fleet.replica_client import ReplicaAway, ReplicaError, Role, StepFailed
from service_kit.errors import Aborted, NotLeading, Unavailable
from service_kit.model_registry.records import VersionRef

log = logging.getLogger(__name__)

PREPARE_FAILED = "PREPARE_FAILED"
UNREACHABLE = "unreachable"


@dataclass(frozen=True)
class Timings:
    """Longest times of the parts of a version change, seconds."""

    prepare_s: float = 300.0
    """Download, load, warm-up and golden set of one replica."""

    activate_s: float = 5.0
    """One attempt to swap."""

    forward_s: float = 5.0
    """All attempts to activate after the record. Then the call is answered; a replica without the
    version gets no traffic, and the upkeep goes on with it."""

    abort_s: float = 5.0
    record_s: float = 20.0
    """All attempts to write the commit record."""

    pause_s: float = 0.2
    """Pause between two attempts."""


@dataclass(frozen=True)
class ReplicaReload:
    """One replica's part in a version change.

    An empty version: the replica served none, or took no part.
    """

    replica: str
    from_version: str = ""
    to_version: str = ""
    prepare_ms: float = 0.0
    swap_ms: float = 0.0
    drained_requests: int = 0
    current: bool = False
    """It serves the version that the change was to. A number alone does not say so."""


class VersionChange:
    """One change of a model's slot on every replica to the version `ref`; to be run once."""

    def __init__(
        self,
        fleet: Fleet,
        timings: Timings,
        model: str,
        ref: VersionRef,
        role: Role = Role.CHAMPION,
    ) -> None:
        self._fleet = fleet
        self._timings = timings
        self._model = model
        self._ref = ref
        self._role = role

    async def run(
        self, members: Sequence[Member], commit: Callable[[], Awaitable[None]]
    ) -> tuple[ReplicaReload, ...]:
        """Prepare the version on all `members`, await `commit()`, activate it on all.

        Raises Aborted, with the replica and the step, when one replica cannot prepare, and
        whatever `commit` raises; in both cases nothing has changed. A replica that cannot activate
        after the commit record is returned with the version that it still serves.
        """
        behind = [member for member in members if not self._served(member).same(self._ref)]
        try:
            prepare_ms = await self._prepare_all(behind)
            await commit()
        except BaseException:
            await abort_all(self._model, self._ref, behind, self._role, self._timings.abort_s)
            raise
        done = await asyncio.gather(*(self._activate(m, prepare_ms[m.address]) for m in behind))
        current = [
            ReplicaReload(member.name, self._ref.version, self._ref.version, current=True)
            for member in members
            if self._served(member).same(self._ref)
        ]
        return (*done, *current)

    def _served(self, member: Member) -> VersionRef:
        """Version that the slot served when the replica was last asked; empty: none."""
        if member.state is None:
            return VersionRef()
        return member.state.serving_ref(self._model, self._role)

    async def _prepare_all(self, members: Sequence[Member]) -> dict[str, float]:
        """Prepare every replica; return the milliseconds that each took, by address."""
        # Half of the replicas prepare at a time. The other half keeps its full speed, and Envoy
        # prefers it.
        half = asyncio.Semaphore((len(members) + 1) // 2)

        async def prepare(member: Member) -> float:
            async with half:
                return await self._prepare(member)

        try:
            async with asyncio.TaskGroup() as group:
                tasks = {member.address: group.create_task(prepare(member)) for member in members}
        except* Aborted as failed:
            # The first replica that failed names the cause; the group cancelled the others.
            raise failed.exceptions[0] from None
        return {address: task.result() for address, task in tasks.items()}

    async def _prepare(self, member: Member) -> float:
        try:
            prepared = await member.client.prepare(
                self._model, self._ref, self._role, self._timings.prepare_s
            )
        except StepFailed as error:
            raise self._aborted(member, error.step, error) from error
        except ReplicaAway as error:
            step = self._fleet.last_step(member.address, self._model, self._ref)
            raise self._aborted(member, step or UNREACHABLE, error) from error
        return prepared.prepare_ms

    async def _activate(self, member: Member, prepare_ms: float) -> ReplicaReload:
        before = self._served(member).version
        try:
            async with asyncio.timeout(self._timings.forward_s):
                async for attempt in self._attempts(member):
                    with attempt:
                        if attempt.retry_state.attempt_number > 1:
                            await self._prepare_again(member)
                        swap = await member.client.activate(
                            self._model, self._ref, self._role, self._timings.activate_s
                        )
        except TimeoutError:
            return ReplicaReload(member.name, before, before, prepare_ms)
        return ReplicaReload(
            member.name,
            before,
            self._ref.version,
            prepare_ms,
            swap.swap_ms,
            swap.drained_requests,
            current=True,
        )

    def _attempts(self, member: Member) -> AsyncRetrying:
        pause_s, extra = self._timings.pause_s, self._extra(member)
        return retrying(ReplicaError, pause_s, log, "not activated yet", extra)

    async def _prepare_again(self, member: Member) -> None:
        """Prepare once more: a replica that restarted has lost the version that it prepared."""
        try:
            await member.client.prepare(self._model, self._ref, self._role, self._timings.forward_s)
        except ReplicaError as error:
            extra = self._extra(member) | {"why": str(error)}
            log.warning("not prepared again yet", extra=extra)

    def _aborted(self, member: Member, step: str, error: ReplicaError) -> Aborted:
        served = self._served(member).version
        return Aborted(
            f"replica {member.name} failed at {step} with version {self._ref.version} of "
            f"{self._model}: {error}; "
            + (f"version {served} goes on serving" if served else "nothing was changed"),
            reason=PREPARE_FAILED,
            replica=member.name,
            step=step,
        )

    def _extra(self, member: Member) -> dict[str, str]:
        slot = {"model": self._model, "version": self._ref.version, "role": self._role.name}
        return slot | {"replica": member.name}


async def abort_all(
    model: str,
    ref: VersionRef,
    members: Sequence[Member],
    role: Role,
    timeout_s: float,
    removed: bool = False,
) -> None:
    """Have every replica drop a version that it serves or prepares in the slot."""

    async def abort(member: Member) -> None:
        try:
            await member.client.abort(model, ref, role, timeout_s, removed)
        except (ReplicaError, NotLeading, Unavailable) as error:
            # The upkeep drops the version when the replica answers again.
            log.warning("not aborted", extra={"replica": member.name, "why": str(error)})

    await asyncio.gather(*(abort(member) for member in members))
