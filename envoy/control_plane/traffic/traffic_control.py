"""Sets the shares of a model's traffic that go to its Champion and to its Challenger."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import asdict, replace

from control_plane.changes.answer_store import AnswerStore
from control_plane.changes.answered_requests import AnsweredRequests
from control_plane.changes.model_locks import ModelLocks
from control_plane.fleet.fleet import Fleet, Member
from control_plane.fleet.replica_client import Role
from control_plane.fleet.version_change import Timings, VersionChange, abort_all
from control_plane.models.catalog import Catalog
from control_plane.models.registry_protocol import ModelRegistry
from control_plane.models.stored_split import NO_SPLIT, TAG_TRAFFIC, StoredSplit, stored_split_of
from control_plane.topology import Split
from control_plane.traffic.demands import takes_away
from control_plane.traffic.envoy_targets import EnvoyTargets
from service_kit.errors import FailedPrecondition, InvalidArgument, Unavailable
from service_kit.model_registry.records import (
    CHALLENGER,
    SERVING,
    RegisteredModel,
    VersionRef,
    registered_model,
)

log = logging.getLogger(__name__)


class TrafficControl:
    """Changes splits: one at a time for each model, and each request once."""

    def __init__(
        self,
        registry: ModelRegistry,
        catalog: Catalog,
        fleet: Fleet,
        locks: ModelLocks,
        targets: EnvoyTargets,
        timings: Timings,
        answers: AnswerStore,
    ) -> None:
        self._registry = registry
        self._catalog = catalog
        self._fleet = fleet
        self._locks = locks
        self._targets = targets
        self._timings = timings
        self._requests = AnsweredRequests("traffic", answers, asdict, lambda it: Split(**it))

    async def get(self, model: str) -> Split:
        """Return the split that is in force: a Challenger that no replica serves gets nothing.

        Raises NotFound for an unknown model.
        """
        await registered_model(self._registry, model)
        return self._targets.split(model)

    def in_force(self, model: str) -> Split:
        """As `get`, for a model that is known, without asking the registry."""
        return self._targets.split(model)

    async def set(self, model: str, split: Split, request_id: str = "") -> Split:
        """Change the split. Every replica prepares and serves the Challenger first.

        A Challenger that gets less than before needs no replica for it.

        Raises InvalidArgument, NotFound, FailedPrecondition (no Challenger, or nothing served),
        Aborted (a replica could not prepare the Challenger; nothing changed), and Unavailable when
        it cannot be done, or is recorded and not in force yet.
        """
        _check_split(split)
        if not request_id:
            return await self._set(model, split)
        cached = self._catalog.find(model)
        return await self._requests.once(
            request_id,
            f"traffic {model} {split.champion} {split.challenger} {split.mirror_percent}",
            lambda: self._set(model, split),
            str(cached.created_at) if cached else None,
        )

    async def close(self) -> None:
        """Cancel the requests that are running."""
        await self._requests.close()

    async def _set(self, model: str, split: Split) -> Split:
        async with self._locks.of(model):
            registry_read = asyncio.create_task(registered_model(self._registry, model))
            try:
                members: Sequence[Member] = await self._fleet.members()
                after, members = await self._change(model, split, members, registry_read)
                before = stored_split_of(await registry_read)
            finally:
                registry_read.cancel()
                await asyncio.gather(registry_read, return_exceptions=True)
        self._targets.update(self._catalog.latest or await self._catalog.read(), members)
        obstacle = await self._targets.obstacle()
        if before.ref and not before.ref.same(after.ref):
            # A replica without it answers with its Champion, also when an Envoy goes on asking for
            # the Challenger.
            await abort_all(model, before.ref, members, Role.CHALLENGER, self._timings.abort_s)
        self._check_in_force(model, split, obstacle)
        log.info("traffic split", extra={"model": model, "version": after.version} | asdict(split))
        return split

    def _check_in_force(self, model: str, split: Split, obstacle: str) -> None:
        """Raise Unavailable unless Envoy splits the traffic as it was asked to."""
        recorded = f"{split.champion}/{split.challenger} is recorded for {model}"
        if obstacle:
            raise Unavailable(f"{recorded}, but it is not in force yet: {obstacle}")
        if self._targets.split(model) != split:
            raise Unavailable(
                f"{recorded}, but no replica that gets traffic serves the Challenger now; it gets "
                "its share once one does"
            )

    async def _change(
        self,
        model: str,
        split: Split,
        members: Sequence[Member],
        registry_read: asyncio.Task[RegisteredModel],
    ) -> tuple[StoredSplit, Sequence[Member]]:
        """Carry a change out; return the new split and the replicas as they are afterwards."""
        cached = self._catalog.find(model)
        if cached is not None and self._weights_alone(cached, split, members):
            try:
                return await self._move(cached, split, members, registry_read), members
            except _OutOfDate:
                log.info("the Challenger has changed meanwhile", extra={"model": model})
        registered = await registry_read
        if self._weights_alone(registered, split, members):
            return await self._move(registered, split, members, registry_read), members
        wanted = _wanted(registered, split)
        return wanted, await self._prepare(registered, wanted, members)

    def _weights_alone(
        self, registered: RegisteredModel, split: Split, members: Sequence[Member]
    ) -> bool:
        """Return whether no replica has anything to do.

        Every replica serves the wanted Challenger already, or the Challenger gets no more than
        before.
        """
        try:
            wanted = _wanted(registered, split)
        except FailedPrecondition:
            return False
        if takes_away(stored_split_of(registered), wanted):
            return True
        return _on_all(members, registered.name, wanted.ref)

    async def _move(
        self,
        cached: RegisteredModel,
        split: Split,
        members: Sequence[Member],
        registry_read: asyncio.Task[RegisteredModel],
    ) -> StoredSplit:
        """Change weights alone. Envoy has the new weights before MLflow has recorded them.

        The caller is answered when both are done. After a crash in between, the recorded weights
        hold again. When MLflow cannot record the new weights, or another version has become the
        Challenger (_OutOfDate), this puts the old weights back. Until then the new weights apply
        to a version that every replica has loaded and proved.
        """
        wanted = _wanted(cached, split)
        if self._catalog.latest is None:
            await self._catalog.read()
        try:
            with self._catalog.writing(cached, _with(cached, wanted)):
                self._publish(members)
                registered = await registry_read
                if _wanted(registered, split) != wanted:
                    raise _OutOfDate
                await self._record(registered, wanted)
        except BaseException:
            self._publish(members)
            raise
        self._catalog.note(_with(registered, wanted))
        return wanted

    def _publish(self, members: Sequence[Member]) -> None:
        self._targets.update(self._catalog.latest, members)

    async def _prepare(
        self, registered: RegisteredModel, wanted: StoredSplit, members: Sequence[Member]
    ) -> Sequence[Member]:
        """Have every replica serve the Challenger; return the replicas as they are afterwards."""
        model = registered.name
        present = [member for member in members if member.present]
        if not present:
            raise Unavailable(f"no replica answers, so the traffic of {model} cannot be split")

        async def commit() -> None:
            await self._record(registered, wanted)
            self._catalog.note(_with(registered, wanted))

        change = VersionChange(self._fleet, self._timings, model, wanted.ref, Role.CHALLENGER)
        moved = await change.run(present, commit)
        if all(part.from_version == part.to_version for part in moved):
            return members
        return await self._fleet.members()

    async def _record(self, registered: RegisteredModel, wanted: StoredSplit) -> None:
        await self._registry.tag_model(registered.name, TAG_TRAFFIC, wanted.tag())


def _on_all(members: Sequence[Member], model: str, challenger: VersionRef) -> bool:
    """Return whether every replica serves this Challenger; with an empty version: True."""
    if not challenger:
        return True
    return bool(members) and all(
        m.state is not None and m.state.serving_ref(model, Role.CHALLENGER).same(challenger)
        for m in members
    )


def _with(registered: RegisteredModel, wanted: StoredSplit) -> RegisteredModel:
    return replace(registered, tags={**registered.tags, TAG_TRAFFIC: wanted.tag()})


class _OutOfDate(Exception):
    """The copy of the model in the catalog does not hold any more."""


def _wanted(registered: RegisteredModel, split: Split) -> StoredSplit:
    return StoredSplit(split, _challenger(registered)) if split.tries_challenger else NO_SPLIT


def _challenger(registered: RegisteredModel) -> VersionRef:
    name = registered.name
    version = registered.aliases.get(CHALLENGER, "")
    serving = registered.aliases.get(SERVING, "")
    if not serving:
        raise FailedPrecondition(f"no version of {name} is served yet: train and reload first")
    if not version or version == serving:
        raise FailedPrecondition(
            f"{name} has no Challenger: train one with PROMOTION_CHALLENGER_ONLY, or set the alias"
        )
    return registered.ref(version)


def _check_split(split: Split) -> None:
    """Raise InvalidArgument, naming the field and the limit, unless the split makes sense."""
    shares = {
        "champion_weight": split.champion,
        "challenger_weight": split.challenger,
        "mirror_percent": split.mirror_percent,
    }
    for field, share in shares.items():
        if not 0 <= share <= 100:
            raise InvalidArgument(field, f"is {share}; it must be 0 to 100")
    if split.champion + split.challenger != 100:
        raise InvalidArgument(
            "champion_weight",
            f"and challenger_weight make {split.champion + split.challenger}; they must make 100",
        )
