"""Brings single replicas to the version that the fleet serves: replicas that joined late, serve
another version, or were left behind by a change that was broken off."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from control_plane.changes.model_locks import ModelLocks
from control_plane.fleet.replica_client import (
    ReplicaClient,
    ReplicaError,
    ReplicaState,
    Role,
    SlotState,
)
from control_plane.fleet.version_change import Timings
from control_plane.models.registry_protocol import ModelRegistry
from control_plane.models.stored_split import stored_split_of
from service_kit.errors import NotLeading, Unavailable
from service_kit.model_registry.records import SERVING, RegisteredModel, VersionRef

log = logging.getLogger(__name__)

MAX_PAUSE_S = 30.0
STATE_TIMEOUT_S = 2.0


@dataclass
class _Backoff:
    """The failures of a repair in a row, and the loop's time before which it is not tried again."""

    failures: int = 0
    until: float = 0.0


class Repairs:
    """Runs at most one repair for each replica and model, with growing pauses while it fails."""

    def __init__(
        self,
        registry: ModelRegistry,
        locks: ModelLocks,
        timings: Timings,
        removed: Callable[[str, VersionRef], bool] = lambda model, ref: False,
    ) -> None:
        """`removed(model, ref)`: the version belongs to a model that was removed."""
        self._removed = removed
        self._registry = registry
        self._locks = locks
        self._timings = timings
        self._tasks: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._backoffs: dict[tuple[str, str], _Backoff] = {}

    @property
    def running(self) -> list[asyncio.Task[None]]:
        """The repairs that have not ended."""
        return list(self._tasks.values())

    def ensure(self, replica: ReplicaClient, model: str) -> None:
        """Start a repair unless one is running or the pause after its latest failure lasts."""
        key = replica.address, model
        backoff = self._backoffs.setdefault(key, _Backoff())
        if key in self._tasks or asyncio.get_running_loop().time() < backoff.until:
            return
        task = asyncio.create_task(self._repair(replica, model, backoff))
        self._tasks[key] = task
        task.add_done_callback(lambda _: self._tasks.pop(key, None))

    def is_removed(self, model: str, ref: VersionRef) -> bool:
        """Return whether a version belongs to a model that was removed."""
        return self._removed(model, ref)

    async def stop(self, model: str) -> None:
        """Cancel the repairs of a model: the whole fleet is about to change."""
        await self._cancel([task for key, task in self._tasks.items() if key[1] == model])

    async def close(self) -> None:
        """Cancel every repair."""
        await self._cancel(self.running)

    async def _cancel(self, tasks: list[asyncio.Task[None]]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _repair(self, replica: ReplicaClient, model: str, backoff: _Backoff) -> None:
        try:
            for role, ref in (await self._diagnose(replica, model)).items():
                await self._bring(replica, model, ref, role)
            self._backoffs.pop((replica.address, model), None)
        except (ReplicaError, Unavailable, NotLeading) as error:
            backoff.failures += 1
            pause_s = min(MAX_PAUSE_S, 2.0 ** (backoff.failures - 1))
            backoff.until = asyncio.get_running_loop().time() + pause_s
            extra = {"replica": replica.address, "model": model, "why": str(error)}
            log.warning("not repaired yet", extra=extra)

    async def _diagnose(self, replica: ReplicaClient, model: str) -> dict[Role, VersionRef]:
        """Drop the versions that the replica should not have; return the missing ones by slot.

        The upkeep's look may be out of date, so this reads the registry and the replica again,
        under the model's lock.
        """
        missing = {}
        async with self._locks.of(model):
            registered = await self._registry.find_model(model)
            state = await replica.state(STATE_TIMEOUT_S)
            if registered is None:
                await self._drop(replica, model, state)
                return {}
            for role, ref in wanted_versions(registered).items():
                ready = state.version(model, SlotState.READY, role)
                if ready and not ready.same(ref):
                    await replica.abort(model, ready, role, self._timings.abort_s)
                served = state.serving_ref(model, role)
                if ref and not served.same(ref):
                    missing[role] = ref
                elif served and not ref and role is Role.CHALLENGER:
                    await replica.abort(model, served, role, self._timings.abort_s)
        return missing

    async def _drop(self, replica: ReplicaClient, model: str, state: ReplicaState) -> None:
        """Drop all that the replica has of a model that was removed."""
        for slot in state.slots:
            if slot.model == model and self._removed(model, slot.ref):
                await replica.abort(model, slot.ref, slot.role, self._timings.abort_s, removed=True)
                extra = {"replica": replica.address, "model": model, "version": slot.version}
                log.info("removed model dropped", extra=extra)

    async def _bring(self, replica: ReplicaClient, model: str, ref: VersionRef, role: Role) -> None:
        timings = self._timings
        try:
            await replica.prepare(model, ref, role, timings.prepare_s)
            await replica.activate(model, ref, role, timings.activate_s)
        except asyncio.CancelledError:
            await replica.abort(model, ref, role, timings.abort_s)
            raise
        extra = {"replica": replica.address, "model": model, "version": ref.version}
        log.info("replica repaired", extra=extra | {"role": role.name})


def wanted_versions(model: RegisteredModel) -> dict[Role, VersionRef]:
    """Return the version that each slot of a replica is to serve; empty: none."""
    return {Role.CHAMPION: model.aliased(SERVING), Role.CHALLENGER: stored_split_of(model).ref}
