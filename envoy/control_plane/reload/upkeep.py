"""Looks at the fleet again and again: repairs replicas that lag behind, and notes what happened."""

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime

from control_plane.changes.model_locks import ModelLocks
from control_plane.changes.version_marks import Marks
from control_plane.fleet.fleet import Fleet, Member, preparing
from control_plane.fleet.replica_client import Role, SlotState
from control_plane.models.catalog import Catalog
from control_plane.reload.pending_switches import PendingSwitches
from control_plane.reload.repairs import Repairs, wanted_versions
from control_plane.traffic.envoy_targets import EnvoyTargets
from service_kit.errors import Unavailable
from service_kit.model_registry.records import (
    SERVING,
    TAG_FIRST_ANSWER_AT,
    TAG_RELOADED_AT,
    RegisteredModel,
    VersionRef,
)

log = logging.getLogger(__name__)

INTERVAL_S = 1.0


class Upkeep:
    """A loop over the fleet. It keeps no state, so a restarted control plane does the same."""

    def __init__(
        self,
        fleet: Fleet,
        catalog: Catalog,
        locks: ModelLocks,
        repairs: Repairs,
        marks: Marks,
        targets: EnvoyTargets,
        switches: PendingSwitches,
        interval_s: float = INTERVAL_S,
        leads: Callable[[], bool] = lambda: True,
    ) -> None:
        """`leads`: whether this control plane changes things; else it only tells Envoy."""
        self._leads = leads
        self._targets = targets
        self._switches = switches
        self._fleet = fleet
        self._catalog = catalog
        self._locks = locks
        self._repairs = repairs
        self._marks = marks
        self._interval_s = interval_s

    async def run(self) -> None:
        """Look until cancelled."""
        registry_away = False
        while True:
            try:
                await self.look()
                registry_away = False
            except Unavailable as error:
                if not registry_away:
                    log.warning("waiting", extra={"what": "fleet upkeep", "why": str(error)})
                registry_away = True
            except Exception:
                log.exception("upkeep failed; it goes on")
            await asyncio.sleep(self._interval_s)

    async def look(self) -> None:
        """Look once."""
        decisions = self._targets.decisions
        # The replicas are asked even while the registry is away, since the fleet keeps the steps of
        # running preparations from their answers.
        members, models = await asyncio.gather(
            self._fleet.members(), self._catalog.models(), return_exceptions=True
        )
        if isinstance(members, BaseException):
            raise members
        if isinstance(models, Unavailable):
            self._targets.update(None, members)
        if isinstance(models, BaseException):
            raise models
        # A decision that was made meanwhile rests on a later look at the fleet.
        if decisions == self._targets.decisions:
            self._targets.update(models, members)
        if not self._leads():
            return
        # A replica that is starting restores the served versions by itself.
        healthy = [member for member in members if member.healthy]
        for model in models:
            if self._locks.taken(model.name):
                continue
            self._switches.look_at(model)
            serving = model.aliased(SERVING)
            if not serving:
                continue
            for member in healthy:
                if _needs_repair(member, model):
                    self._repairs.ensure(member.client, model.name)
            await self._note(model.name, serving, healthy)
        self._drop_removed({model.name for model in models}, healthy)

    def _drop_removed(self, registered: Collection[str], members: Sequence[Member]) -> None:
        """Have replicas that were away when a model was removed drop it."""
        for member in members:
            for slot in member.state.slots if member.state else ():
                if slot.model in registered or self._locks.taken(slot.model):
                    continue
                if self._repairs.is_removed(slot.model, slot.ref):
                    self._repairs.ensure(member.client, slot.model)

    async def _note(self, model: str, ref: VersionRef, members: Sequence[Member]) -> None:
        if any(member.state and member.state.serving_ref(model).same(ref) for member in members):
            await self._marks.once(model, ref, TAG_RELOADED_AT, datetime.now(UTC))
        answered = first_answer_at(model, ref, members)
        if answered:
            await self._marks.once(model, ref, TAG_FIRST_ANSWER_AT, answered)


def first_answer_at(model: str, ref: VersionRef, members: Sequence[Member]) -> datetime | None:
    """Return when a version first answered as Champion, over all replicas; None: not yet."""
    moments = [
        slot.first_answer_at
        for member in members
        if member.state
        for slot in member.state.slots
        if (slot.model, slot.role) == (model, Role.CHAMPION)
        and slot.ref.same(ref)
        and slot.first_answer_at
    ]
    return min(moments, default=None)


def _needs_repair(member: Member, model: RegisteredModel) -> bool:
    assert member.state is not None
    for role, ref in wanted_versions(model).items():
        if preparing(member, model.name, ref):
            continue
        ready = member.state.version(model.name, SlotState.READY, role)
        if not member.state.serving_ref(model.name, role).same(ref):
            return True
        if ready and not ready.same(ref):
            return True
    return False
