"""Changes the version of a model that the fleet serves: Reload and Rollback."""

import asyncio
import json
import logging
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from control_plane.changes.answered_requests import AnsweredRequests
from control_plane.changes.model_locks import ModelLocks
from control_plane.changes.retries import retrying
from control_plane.changes.version_marks import Marks
from control_plane.fleet.fleet import Fleet, Member
from control_plane.fleet.version_change import ReplicaReload, Timings, VersionChange
from control_plane.models.catalog import Catalog
from control_plane.models.registry_protocol import Demotions, ModelRegistry
from control_plane.reload.repairs import Repairs
from control_plane.traffic.envoy_targets import EnvoyTargets
from service_kit.errors import (
    Aborted,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unavailable,
)
from service_kit.model_registry.records import (
    CHAMPION,
    PREVIOUS,
    SERVING,
    TAG_RELOADED_AT,
    RegisteredModel,
    registered_model,
)

log = logging.getLogger(__name__)

# Tag of a model with its latest rollback, so that a request that is repeated after a crash does not
# roll back twice.
TAG_ROLLBACK = "mesh.rollback"
_VERSION = re.compile(r"[1-9][0-9]{0,8}")


@dataclass(frozen=True)
class ReloadResult:
    """The result of a change; `from_version` is empty when the fleet served none."""

    model: str
    from_version: str
    to_version: str
    replicas: tuple[ReplicaReload, ...]


class ReloadCoordinator:
    """Carries out one change at a time for each model, and each request once."""

    def __init__(
        self,
        fleet: Fleet,
        registry: ModelRegistry,
        demotions: Demotions,
        locks: ModelLocks,
        repairs: Repairs,
        marks: Marks,
        timings: Timings,
        catalog: Catalog,
        targets: EnvoyTargets,
    ) -> None:
        self._catalog = catalog
        self._targets = targets
        self._fleet = fleet
        self._registry = registry
        self._demotions = demotions
        self._locks = locks
        self._repairs = repairs
        self._marks = marks
        self._timings = timings
        self._requests = AnsweredRequests[ReloadResult]()

    async def reload(self, model: str, version: str, request_id: str) -> ReloadResult:
        """Bring the fleet to `version`, or to the Champion when it is empty.

        Raises NotFound (model, version), FailedPrecondition (nothing promoted), Aborted (a replica
        could not prepare; nothing changed), Unavailable (no replica, or MLflow is away).
        """
        if version and not _VERSION.fullmatch(version):
            raise InvalidArgument("version", f"{version[:60]!r} is not a version, a whole number")
        content = ("reload", model, version)
        return await self._requests.once(request_id, content, lambda: self._reload(model, version))

    async def rollback(self, model: str, request_id: str) -> ReloadResult:
        """Make the previous Champion the Champion again and serve it.

        Raises what `reload` raises; FailedPrecondition when there is no previous Champion.
        """
        content = ("rollback", model)
        return await self._requests.once(
            request_id, content, lambda: self._rollback(model, request_id)
        )

    async def close(self) -> None:
        """Cancel the requests that are running; a change that is not recorded yet is undone."""
        await self._requests.close()

    async def _reload(self, model: str, version: str) -> ReloadResult:
        async with self._locks.of(model):
            registered = await registered_model(self._registry, model)
            target = version or registered.aliases.get(CHAMPION, "")
            if not target:
                raise FailedPrecondition(f"no version of {model} is promoted yet: train one first")
            await self._check_version(model, target)
            return await self._change(registered, target, self._nothing)

    async def _rollback(self, model: str, request_id: str) -> ReloadResult:
        async with self._locks.of(model):
            registered = await registered_model(self._registry, model)
            champion = registered.aliases.get(CHAMPION, "")
            bad, good = _rollback_of(registered, request_id)
            if champion not in (bad, good):
                raise Aborted(
                    f"version {champion} of {model} became the Champion after this rollback",
                    reason="CHAMPION_CHANGED",
                    champion=champion,
                )

            async def demote() -> None:
                intent = json.dumps({"request_id": request_id, "from": bad, "to": good})
                await self._registry.tag_model(model, TAG_ROLLBACK, intent)
                await self._demotions.demote(model, bad, good)

            return await self._change(registered, good, demote)

    async def _change(
        self, registered: RegisteredModel, target: str, after_record: Callable[[], Awaitable[None]]
    ) -> ReloadResult:
        model, before = registered.name, registered.aliases.get(SERVING, "")
        await self._repairs.stop(model)
        members = await self._fleet.members()
        present = [member for member in members if member.present]
        if not present:
            raise Unavailable(f"no replica answers, so {model} cannot be changed")
        # The model's lock is taken, so Envoy lets more requests wait from now on.
        self._targets.update(await self._catalog.models(), members)

        async def commit() -> None:
            await self._record(model, target, before)
            try:
                await after_record()
            except BaseException:
                await self._record(model, before, target)
                raise

        change = VersionChange(self._fleet, self._timings, model, target)
        replicas = await change.run(present, commit)
        # Replicas that could not activate the version lose their traffic before the caller is
        # answered, so from then on only the new version answers.
        after = await self._fleet.members()
        self._targets.update(await self._catalog.read(), after, now_serving={model: target})
        obstacle = await self._targets.obstacle()
        if all(replica.to_version != target for replica in replicas):
            raise Unavailable(
                f"serving version {target} of {model} is recorded, but no replica has activated it "
                "yet; they are brought to it as soon as they can be"
            )
        left_out = [r.replica for r in _ordered(replicas, members) if r.to_version != target]
        if obstacle and left_out:
            raise Unavailable(
                f"version {target} of {model} serves, but {', '.join(left_out)} may go on "
                f"answering with another one: {obstacle}"
            )
        await self._marks.once(model, target, TAG_RELOADED_AT, datetime.now(UTC))
        result = ReloadResult(model, before, target, _ordered(replicas, members))
        log.info("reloaded", extra={"model": model, "from": before, "to": target})
        return result

    async def _record(self, model: str, version: str, before: str) -> None:
        """Write the commit record, with retries: a lost answer does not tell if it is written."""
        if version == before or not version:
            return
        attempts = retrying(
            Unavailable, self._timings.pause_s, log, "not recorded yet", {"model": model}
        )
        try:
            async with asyncio.timeout(self._timings.record_s):
                await attempts(self._registry.set_alias, model, SERVING, version)
        except TimeoutError:
            raise Unavailable(
                f"MLflow is away, so serving version {version} of {model} could not be recorded"
            ) from None

    async def _check_version(self, model: str, version: str) -> None:
        try:
            await self._registry.get_version(model, version)
        except NotFound:
            raise NotFound(f"{model} has no version {version}") from None

    async def _nothing(self) -> None:
        return


def _rollback_of(registered: RegisteredModel, request_id: str) -> tuple[str, str]:
    """Return the version to leave and the version to go back to.

    A repeated request gets the versions that it got before. A rollback that was broken off while
    the aliases were moved is completed by the next rollback, whatever its request.
    """
    intent = json.loads(registered.tags.get(TAG_ROLLBACK, "{}"))
    champion = registered.aliases.get(CHAMPION, "")
    previous = registered.aliases.get(PREVIOUS, "")
    broken_off = champion == previous == intent.get("to", "")
    if intent and (broken_off or intent["request_id"] == request_id):
        return intent["from"], intent["to"]
    if previous in ("", champion):
        raise FailedPrecondition(f"{registered.name} has no previous Champion to go back to")
    return champion, previous


def _ordered(
    replicas: tuple[ReplicaReload, ...], members: list[Member]
) -> tuple[ReplicaReload, ...]:
    """Return the parts of all replicas, by name; a replica that does not answer took no part."""
    absent = (ReplicaReload(member.name) for member in members if not member.present)
    return tuple(sorted((*replicas, *absent), key=lambda entry: entry.replica))
