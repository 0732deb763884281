"""Changes the version of a model that the fleet serves: Reload and Rollback."""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from control_plane.changes.answer_store import AnswerStore
from control_plane.changes.answered_requests import AnsweredRequests
from control_plane.changes.model_locks import ModelLocks
from control_plane.changes.retries import retrying
from control_plane.changes.version_marks import Marks
from control_plane.fleet.fleet import Fleet, Member
from control_plane.fleet.gone_models import gone_models
from control_plane.fleet.version_change import ReplicaReload, Timings, VersionChange
from control_plane.models.catalog import Catalog
from control_plane.models.chosen_version import (
    NOTHING_CHOSEN,
    RELOAD,
    ROLLBACK,
    TAG_CHOSEN,
    ChosenVersion,
)
from control_plane.models.registry_protocol import Demotions, ModelRegistry
from control_plane.models.serving_gap import GapKind, gap_of
from control_plane.reload.repairs import Repairs
from control_plane.reload.rollback_intent import TAG_ROLLBACK, intent_of
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
    SERVING,
    TAG_RELOADED_AT,
    RegisteredModel,
    VersionRef,
    registered_model,
)

log = logging.getLogger(__name__)

_VERSION = re.compile(r"[1-9][0-9]{0,8}")


@dataclass(frozen=True)
class ReloadResult:
    """The result of a change; `from_version` is empty when the fleet served none."""

    model: str
    from_version: str
    to_version: str
    replicas: tuple[ReplicaReload, ...]

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> "ReloadResult":
        """Make a result of its fields as plain values, as dataclasses.asdict writes them."""
        replicas = tuple(ReplicaReload(**part) for part in values["replicas"])
        return cls(values["model"], values["from_version"], values["to_version"], replicas)


async def nothing() -> None:
    """Do nothing."""


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
        answers: AnswerStore,
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
        self._requests = AnsweredRequests("change", answers, asdict, ReloadResult.from_values)

    async def reload(self, model: str, version: str, request_id: str) -> ReloadResult:
        """Bring the fleet to `version`, or to the Champion when it is empty.

        A version that is not the Champion is pinned: the fleet stays with it until a Reload without
        a version, a Rollback, or the promotion of a version that is to be served.

        Raises NotFound (model, version), FailedPrecondition (nothing promoted), Aborted (a replica
        could not prepare; nothing changed), Unavailable (no replica, or MLflow is away).
        """
        if version and not _VERSION.fullmatch(version):
            raise InvalidArgument("version", f"{version[:60]!r} is not a version, a whole number")
        return await self._requests.once(
            request_id,
            f"reload {model} {version}",
            lambda: self._reload(model, version),
            await self._incarnation(model),
        )

    async def rollback(self, model: str, request_id: str) -> ReloadResult:
        """Make the previous Champion the Champion again and serve it.

        Raises what `reload` raises; FailedPrecondition when there is no previous Champion.
        """
        return await self._requests.once(
            request_id,
            f"rollback {model}",
            lambda: self._rollback(model, request_id),
            await self._incarnation(model),
        )

    async def close_gap(self, model: str) -> None:
        """Make a switch that was promised and is still to be made; see serving_gap.

        Raises what `reload` raises.
        """
        async with self._locks.of(model):
            registered = await self._registered(model)
            gap = gap_of(registered)
            if gap is None:
                return
            champion = registered.aliases.get(CHAMPION, "")
            if gap.kind is GapKind.PENDING:
                await self._demotions.confirm(registered)
                log.info("a promised switch is made", extra={"model": model, "to": champion})
                await self._change(registered, await self._existing(model, champion))
            elif gap.kind is GapKind.ROLLBACK:
                log.info("a rollback is completed", extra={"model": model, "from": champion})
                await self._demotions.demote(model, champion, registered.aliases[SERVING])
                await self._choose(registered, NOTHING_CHOSEN)

    async def close(self) -> None:
        """Cancel the requests that are running; a change that is not recorded yet is undone."""
        await self._requests.close()

    async def _reload(self, model: str, version: str) -> ReloadResult:
        async with self._locks.of(model):
            registered = await self._registered(model)
            champion = registered.aliases.get(CHAMPION, "")
            target = version or champion
            if not target:
                gap = gap_of(registered)
                raise FailedPrecondition(
                    gap.detail if gap else f"no version of {model} is promoted yet: train one first"
                )
            ref = await self._existing(model, target)
            chosen = NOTHING_CHOSEN
            if target != champion:
                chosen = ChosenVersion.over(registered, RELOAD, target)
            return await self._change(registered, ref, lambda: self._choose(registered, chosen))

    async def _rollback(self, model: str, request_id: str) -> ReloadResult:
        async with self._locks.of(model):
            registered = await self._registered(model)
            champion = registered.aliases.get(CHAMPION, "")
            intent = intent_of(registered, request_id)
            if champion not in (intent.bad, intent.good):
                raise Aborted(
                    f"version {champion} of {model} became the Champion after this rollback",
                    reason="CHAMPION_CHANGED",
                    champion=champion,
                )
            good = await self._existing(model, intent.good)

            async def announce() -> None:
                await self._registry.tag_model(model, TAG_ROLLBACK, intent.tag())
                chosen = ChosenVersion.over(registered, ROLLBACK, intent.good)
                await self._choose(registered, chosen)

            async def demote() -> None:
                await self._demotions.demote(model, intent.bad, intent.good)

            result = await self._change(registered, good, announce, demote)
            try:
                await self._registry.tag_model(model, TAG_CHOSEN, NOTHING_CHOSEN.tag())
            except Unavailable as error:
                # The tag does not count any more, since its version is the Champion.
                log.warning("not cleared", extra={"model": model, "why": str(error)})
            return result

    async def _change(
        self,
        registered: RegisteredModel,
        target: VersionRef,
        before_record: Callable[[], Awaitable[None]] = nothing,
        after_record: Callable[[], Awaitable[None]] = nothing,
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
            await before_record()
            await self._record(model, target.version, before)
            try:
                await after_record()
            except BaseException:
                await self._record(model, before, target.version)
                raise

        change = VersionChange(self._fleet, self._timings, model, target)
        replicas = await change.run(present, commit)
        # Replicas that could not activate the version lose their traffic before the caller is
        # answered, so from then on only the new version answers.
        after = await self._fleet.members()
        self._targets.update(await self._catalog.read(), after, now_serving={model: target.version})
        obstacle = await self._targets.obstacle()
        if not any(replica.current for replica in replicas):
            raise Unavailable(
                f"serving version {target.version} of {model} is recorded, but no replica has "
                "activated it yet; they are brought to it as soon as they can be"
            )
        left_out = [r.replica for r in _ordered(replicas, members) if not r.current]
        if obstacle and left_out:
            raise Unavailable(
                f"version {target.version} of {model} serves, but {', '.join(left_out)} may go on "
                f"answering with another one: {obstacle}"
            )
        await self._marks.once(model, target, TAG_RELOADED_AT, datetime.now(UTC))
        result = ReloadResult(model, before, target.version, _ordered(replicas, members))
        log.info("reloaded", extra={"model": model, "from": before, "to": target.version})
        return result

    async def _choose(self, registered: RegisteredModel, chosen: ChosenVersion) -> None:
        """Note what was chosen; a model without a choice needs no note that there is none."""
        if chosen is not NOTHING_CHOSEN or TAG_CHOSEN in registered.tags:
            await self._registry.tag_model(registered.name, TAG_CHOSEN, chosen.tag())

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

    async def _existing(self, model: str, version: str) -> VersionRef:
        """Return a version as MLflow has it. Raises NotFound."""
        try:
            return (await self._registry.get_version(model, version)).ref
        except NotFound:
            raise NotFound(f"{model} has no version {version}") from None

    async def _registered(self, model: str) -> RegisteredModel:
        """Return the registered model. Raises NotFound, which says what is still served of it."""
        try:
            return await registered_model(self._registry, model)
        except NotFound:
            members = await self._fleet.members()
            gone = gone_models((), members).get(model)
            if gone is None:
                raise
            raise NotFound(gone) from None

    async def _incarnation(self, model: str) -> str | None:
        """Return what tells the model apart from an earlier one of its name; None: unknown."""
        try:
            found = await self._registry.find_model(model)
        except Unavailable:
            found = self._catalog.find(model)
            return str(found.created_at) if found else None
        return str(found.created_at) if found else ""


def _ordered(
    replicas: tuple[ReplicaReload, ...], members: list[Member]
) -> tuple[ReplicaReload, ...]:
    """Return the parts of all replicas, by name; a replica that does not answer took no part."""
    absent = (ReplicaReload(member.name) for member in members if not member.present)
    return tuple(sorted((*replicas, *absent), key=lambda entry: entry.replica))
