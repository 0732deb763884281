"""Removes models, each request once. A removal that was broken off is carried to its end."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

from control_plane.changes.answer_store import AnswerStore
from control_plane.changes.answered_requests import AnsweredRequests
from control_plane.changes.model_locks import ModelLocks
from control_plane.changes.retries import retrying
from control_plane.fleet.fleet import Fleet, Member
from control_plane.fleet.replica_client import Slot
from control_plane.fleet.version_change import Timings, abort_all
from control_plane.models.catalog import Catalog
from control_plane.reload.repairs import Repairs
from control_plane.removal.other_services import OtherServices
from control_plane.removal.removed_models import Removal, RemovedModels
from control_plane.traffic.envoy_targets import EnvoyTargets
from service_kit.errors import MeshError, NotFound, Unavailable
from service_kit.model_registry.records import ModelVersion, RegisteredModel

log = logging.getLogger(__name__)

# Seconds that cancelled jobs may take to end before the caller is asked to come back.
JOBS_END_S = 30.0
PAUSE_S = 0.2
# Seconds between two attempts to go on with a removal that was broken off.
RESUME_PAUSE_S = 2.0


class RemovalRegistry(Protocol):
    """The part of the registry that a removal uses; every method raises Unavailable."""

    async def find_model(self, name: str) -> RegisteredModel | None:
        """Return the registered model, or None."""

    async def list_versions(self, name: str) -> list[ModelVersion]:
        """Return every version of a model."""

    async def delete_version(self, version: ModelVersion) -> None:
        """Delete a version and its files."""

    async def unregister(self, name: str, version: str) -> None:
        """Delete a version, if it exists, and leave its files."""

    async def delete_model(self, name: str) -> None:
        """Delete a registered model, if it exists."""


@dataclass(frozen=True)
class RemovedModel:
    """What a removal did."""

    model: str
    versions: tuple[str, ...]
    rows_removed: bool
    replicas_away: tuple[str, ...]

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> "RemovedModel":
        """Make it of its fields as plain values, as dataclasses.asdict writes them."""
        lists = {key: tuple(values[key]) for key in ("versions", "replicas_away")}
        return cls(values["model"], rows_removed=values["rows_removed"], **lists)


@dataclass(frozen=True)
class RemovalParts:
    """The parts that a removal uses."""

    registry: RemovalRegistry
    services: OtherServices
    removed: RemovedModels
    answers: AnswerStore
    fleet: Fleet
    catalog: Catalog
    targets: EnvoyTargets
    locks: ModelLocks
    repairs: Repairs
    end_canary: Callable[[str], Awaitable[None]]
    timings: Timings


class ModelRemoval:
    """The record of a removal is written before its first step, and every step may be repeated."""

    def __init__(self, parts: RemovalParts) -> None:
        self._parts = parts
        self._requests = AnsweredRequests("remove", parts.answers, asdict, RemovedModel.from_values)

    async def remove(self, model: str, with_rows: bool, request_id: str) -> RemovedModel:
        """Remove a model. Raises NotFound when nobody knows it, and Unavailable."""
        return await self._requests.once(
            request_id,
            f"remove {model} {with_rows}",
            lambda: self._remove(model, with_rows, request_id),
        )

    async def resume(self) -> None:
        """Read what was removed, and go on with what was broken off; waits for absent parts."""
        attempts = retrying(Unavailable, RESUME_PAUSE_S, log, "removals wait", {})
        await attempts(self._parts.removed.load)
        for removal in self._parts.removed.unfinished:
            await attempts(self._resume, removal.model)

    async def close(self) -> None:
        """Cancel the removals that are running; the next control plane goes on with them."""
        await self._requests.close()

    async def _resume(self, model: str) -> None:
        async with self._parts.locks.of(model):
            removal = self._parts.removed.find(model)
            if removal is not None and not removal.done:
                log.info("a removal goes on", extra={"model": model})
                await self._carry_out(removal)

    async def _remove(self, model: str, with_rows: bool, request_id: str) -> RemovedModel:
        parts = self._parts
        async with parts.locks.of(model):
            registered = await parts.registry.find_model(model)
            slots = _slots(model, await parts.fleet.members())
            earlier = parts.removed.find(model)
            if registered is None and not slots and (earlier is None or earlier.done):
                if earlier is not None and earlier.request_id == request_id:
                    # It was carried to its end after its caller had been told that it failed.
                    return RemovedModel(model, earlier.versions, earlier.rows_removed, ())
                known, dropped = await parts.services.forget_rows(model, with_rows)
                if not known and not dropped:
                    raise NotFound(f"there is no model {model!r}")
                return RemovedModel(model, (), dropped, ())
            versions = await parts.registry.list_versions(model) if registered else []
            sources = {version.source for version in versions}
            sources |= {slot.source for slot in slots if slot.source}
            numbers = {version.version for version in versions}
            if earlier is not None:
                sources |= set(earlier.sources)
                numbers |= set() if earlier.done else set(earlier.versions)
            removal = Removal(
                model,
                registered.created_at if registered else 0,
                tuple(sorted(numbers, key=int)),
                tuple(sorted(sources)),
                with_rows,
                request_id,
            )
            await parts.removed.save(removal)
            return await self._carry_out(removal)

    async def _carry_out(self, removal: Removal) -> RemovedModel:
        parts, model = self._parts, removal.model
        registered = await parts.registry.find_model(model)
        if registered is not None and registered.created_at != removal.created_at:
            # The name was given to another model meanwhile, which keeps its rows and its jobs.
            await parts.removed.save(replace(removal, done=True))
            return RemovedModel(model, removal.versions, removal.rows_removed, ())
        await parts.repairs.stop(model)
        _, dropped = await parts.services.forget_rows(model, removal.with_rows)
        if dropped:
            removal = replace(removal, rows_removed=True)
            await parts.removed.save(removal)
        await self._end_jobs(model)
        await parts.end_canary(model)
        if registered is not None:
            for version in await parts.registry.list_versions(model):
                await self._delete(version)
            await parts.registry.delete_model(model)
        away = await self._unload(removal)
        await parts.removed.save(replace(removal, done=True))
        log.info("model removed", extra={"model": model, "versions": list(removal.versions)})
        return RemovedModel(model, removal.versions, removal.rows_removed, away)

    async def _delete(self, version: ModelVersion) -> None:
        """Delete a version; files that lie where the mesh cannot delete them stay."""
        try:
            await self._parts.registry.delete_version(version)
        except Unavailable:
            raise
        except MeshError as error:
            extra = {"model": version.name, "version": version.version, "why": str(error)}
            log.warning("its files stay", extra=extra)
            await self._parts.registry.unregister(version.name, version.version)

    async def _end_jobs(self, model: str) -> None:
        """Cancel the model's jobs and wait for their ends: one that goes on registers a version."""
        services = self._parts.services
        try:
            async with asyncio.timeout(JOBS_END_S):
                while running := await services.running_jobs(model):
                    for job in running:
                        await services.cancel_job(job)
                    await asyncio.sleep(PAUSE_S)
        except TimeoutError:
            raise Unavailable(
                f"a training of {model} was cancelled and has not ended within {JOBS_END_S:g} s, "
                "so the model is not removed yet; the same request goes on with it",
                5.0,
            ) from None

    async def _unload(self, removal: Removal) -> tuple[str, ...]:
        """Have every replica drop the model; return those that have not, or do not answer."""
        parts, model = self._parts, removal.model
        models = await parts.catalog.read()
        members = await parts.fleet.members()
        # Envoy's routes go first: nothing is split any more.
        parts.targets.update([item for item in models if item.name != model], members)
        if obstacle := await parts.targets.obstacle():
            log.warning("Envoy is not told yet", extra={"model": model, "why": obstacle})
        present = [member for member in members if member.present]
        for role, ref in {(slot.role, slot.ref) for slot in _slots(model, present)}:
            holders = [
                member
                for member in present
                if any((slot.role, slot.ref) == (role, ref) for slot in _slots(model, [member]))
            ]
            await abort_all(model, ref, holders, role, parts.timings.abort_s, removed=True)
        # A replica that does not answer, or has not dropped it yet, is seen to by the upkeep.
        return tuple(
            sorted(
                member.name
                for member in await parts.fleet.members()
                if not member.present or _slots(model, [member])
            )
        )


def _slots(model: str, members: Sequence[Member]) -> list[Slot]:
    return [
        slot
        for member in members
        if member.state
        for slot in member.state.slots
        if slot.model == model
    ]
