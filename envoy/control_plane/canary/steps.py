"""The steps of one canary: set the split, watch the numbers, judge them, act on the verdict.

Every action can be repeated. After a crash the same step begins anew, with a new first reading of
the numbers, and a promotion that was broken off is carried to its end.
"""

import logging
import math
from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, TypeVar

from control_plane.canary.held_out import HeldOut
from control_plane.canary.judge import Action, Case, Verdict
from control_plane.canary.live_numbers import StepNumbers
from control_plane.canary.record import Canary, CanaryState, Comparison
from control_plane.canary.seams import CanaryParts
from control_plane.changes.retries import retrying
from control_plane.fleet.replica_client import Role
from control_plane.topology import ALL_TO_THE_CHAMPION
from service_kit.errors import Aborted, MeshError, Unavailable
from service_kit.model_registry.records import CHALLENGER, CHAMPION, RegisteredModel

log = logging.getLogger(__name__)

TAG_CANARY = "mesh.canary"
TAG_OUTCOME = "mesh.canary_outcome"
TAG_OUTCOME_REASON = "mesh.canary_reason"

# Seconds between two looks at the numbers of a step.
LOOK_S = 1.0
# A step leaves out what is answered in its first second, at most a tenth of the step: Envoy dealt
# some of it by the weights before.
SETTLE_S = 1.0
# Seconds between two attempts of a call while a part is away.
RETRY_S = 1.0

P = ParamSpec("P")
T = TypeVar("T")


class _Ended(Exception):
    """Another caller changed the Champion or the Challenger; the message says how."""


class _Gone(Exception):
    """The model was deleted, renamed, or made anew; the message says so."""


class CanarySteps:
    """Carries out one canary. `canary` is its current state."""

    def __init__(self, parts: CanaryParts, canary: Canary) -> None:
        self._parts = parts
        self._held_out = HeldOut()
        self.canary = canary

    async def run(self) -> None:
        """Go on from the recorded state until the canary has ended or is paused."""
        try:
            registered = await self._check()
            if registered.aliases.get(CHAMPION) == self.canary.version:
                # The promotion was broken off after the alias had moved, before the reload.
                return await self._finish_promotion(self.canary.reason)
            version = await self._patiently(
                self._parts.registry.get_version, self.canary.model, self.canary.version
            )
            self._held_out = HeldOut.from_tags(version.tags)
            while await self._step():
                self._change(step=self.canary.step + 1, begun=0)
        except _Gone as gone:
            # Nothing is written: a model of this name by now has no part in it.
            self._change(state=CanaryState.STOPPED, weight=0, reason=str(gone))
            log.info("canary ended", extra={"model": self.canary.model, "reason": str(gone)})
        except _Ended as ended:
            await self.end(CanaryState.STOPPED, str(ended))
        except MeshError as error:
            await self.end(CanaryState.STOPPED, f"the canary could not go on: {error}")

    async def end(self, state: CanaryState, reason: str) -> None:
        """Give all traffic to the Champion and note the outcome."""
        await self._patiently(self._parts.traffic.set, self.canary.model, ALL_TO_THE_CHAMPION)
        self._change(state=state, weight=0, reason=reason)
        await self._note_outcome()

    async def _step(self) -> bool:
        """Take one step. Return whether another one follows."""
        canary, parts = self.canary, self._parts
        split = canary.plan.split(canary.step)
        try:
            await self._patiently(parts.traffic.set, canary.model, split)
        except Aborted as error:
            await self.end(CanaryState.ROLLED_BACK, f"the Challenger cannot serve: {error}")
            return False
        self._change(
            begun=canary.begun + 1,
            weight=split.challenger,
            reason=f"step {canary.step + 1} of {len(canary.plan.steps)} is under way",
        )
        await self._save()
        verdict = await self._watch()
        if verdict.action is Action.CONTINUE:
            return True
        if verdict.action is Action.ROLL_BACK:
            await self.end(CanaryState.ROLLED_BACK, verdict.reason)
        elif verdict.action is Action.PAUSE:
            self._change(state=CanaryState.PAUSED, reason=verdict.reason)
            await self._note_outcome()
        else:
            await self._promote(verdict.reason)
        return False

    async def _watch(self) -> Verdict:
        """Look every second until the step is over or the Challenger has to be rolled back."""
        plan, clock = self.canary.plan, self._parts.clock
        numbers = StepNumbers()
        over_at = clock.monotonic() + plan.step_seconds
        await clock.sleep(min(SETTLE_S, plan.step_seconds / 10))
        numbers.add(await self._parts.numbers.read(self.canary.model))
        while (left_s := over_at - clock.monotonic()) > 0:
            await clock.sleep(min(LOOK_S, left_s))
            verdict = await self._look(numbers, self._parts.judge.during_step)
            if verdict.action is not Action.CONTINUE:
                return verdict
            await self._check(patient=False)
        return await self._look(numbers, self._parts.judge.after_step)

    async def _look(self, numbers: StepNumbers, judge: Callable[..., Verdict]) -> Verdict:
        canary, plan = self.canary, self.canary.plan
        reading = await self._parts.numbers.read(canary.model)
        split = plan.split(canary.step)
        if self._parts.traffic.in_force(canary.model) == split:
            numbers.add(reading)
        else:
            # Somebody set other weights, or no replica serves the Challenger: what was dealt
            # meanwhile is no part of the comparison.
            numbers.leave_out(reading)
        champion = numbers.of(Role.CHAMPION, canary.champion)
        challenger = numbers.of(Role.CHALLENGER, canary.version)
        case = Case(
            canary.champion,
            self._held_out,
            len(plan.steps),
            math.ceil(plan.step_seconds / LOOK_S),
            share=split.challenger / 100,
            begun=canary.begun,
            mirrored=plan.mirror_percent > 0,
            last=canary.step == len(plan.steps) - 1,
        )
        verdict = judge(champion, challenger, case)
        rules = self._parts.judge.rules
        comparison = Comparison.of(champion, challenger, verdict.findings, case, rules)
        self._change(comparison=comparison)
        return verdict

    async def _promote(self, reason: str) -> None:
        canary = self.canary
        self._change(reason=reason)
        # The reason is saved first, so a restarted control plane can still give it.
        await self._save()
        try:
            await self._patiently(
                self._parts.promotions.promote,
                canary.model,
                canary.version,
                canary.champion,
                serve=True,
            )
        except Aborted as error:
            raise _Ended(str(error)) from error
        await self._finish_promotion(reason)

    async def _finish_promotion(self, reason: str) -> None:
        canary = self.canary
        try:
            await self._patiently(
                self._parts.reloader.reload,
                canary.model,
                canary.version,
                f"canary-{canary.request_id}",
            )
        except MeshError as error:
            reason = (
                f"version {canary.version} is the Champion now ({reason}), but the fleet could not "
                f"be brought to it: {error}; `mesh reload {canary.model}` tries again"
            )
            return await self.end(CanaryState.PAUSED, reason)
        await self.end(CanaryState.PROMOTED, reason)

    async def _check(self, patient: bool = True) -> RegisteredModel:
        """Return the model. Raises _Ended when its Champion or Challenger has changed.

        `patient`: wait for a registry that is away, and accept the Challenger as the Champion: then
        a promotion was broken off.
        """
        canary, registry = self.canary, self._parts.registry
        try:
            model = await registry.find_model(canary.model)
        except Unavailable:
            if not patient:
                # The next look asks the registry again.
                return RegisteredModel(canary.model)
            model = await self._patiently(registry.find_model, canary.model)
        if model is None or not canary.concerns(model):
            raise _Gone(f"{canary.model} was deleted or renamed in MLflow")
        champion, challenger = (model.aliases.get(a, "") for a in (CHAMPION, CHALLENGER))
        if champion == canary.version:
            if patient:
                return model
            raise _Ended(f"version {champion} was made the Champion by another caller")
        if champion != canary.champion:
            raise _Ended(f"version {champion or 'none'} became the Champion meanwhile")
        if challenger != canary.version:
            raise _Ended(f"version {challenger or 'none'} became the Challenger meanwhile")
        return model

    def _change(self, **changes: Any) -> None:
        self.canary = self.canary.now(self._parts.clock.now(), **changes)

    async def _note_outcome(self) -> None:
        canary, registry = self.canary, self._parts.registry
        for key, value in (
            (TAG_OUTCOME, canary.state.name),
            (TAG_OUTCOME_REASON, canary.reason),
        ):
            await self._patiently(registry.tag_version, canary.model, canary.version, key, value)
        await self._save()
        extra = {"model": canary.model, "version": canary.version, "outcome": canary.state.name}
        log.info("canary ended", extra=extra | {"reason": canary.reason})

    async def _save(self) -> None:
        canary = self.canary
        await self._patiently(
            self._parts.registry.tag_model, canary.model, TAG_CANARY, canary.to_json()
        )

    async def _patiently(
        self, call: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Call again while a part is away: the decision still has to be carried out."""
        extra, sleep = {"model": self.canary.model}, self._parts.clock.sleep
        attempts = retrying(Unavailable, RETRY_S, log, "the canary waits", extra, sleep)
        result: T = await attempts(call, *args, **kwargs)
        return result
