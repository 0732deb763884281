"""All canaries: starts, shows and stops them, and goes on with them after a restart."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from control_plane.canary.record import Canary, CanaryState, Plan
from control_plane.canary.seams import CanaryParts
from control_plane.canary.steps import RETRY_S, TAG_CANARY, CanarySteps
from control_plane.changes.model_locks import ModelLocks
from control_plane.changes.retries import retrying
from service_kit.errors import AlreadyExists, FailedPrecondition, NotFound, Unavailable
from service_kit.model_registry.records import (
    CHALLENGER,
    CHAMPION,
    SERVING,
    RegisteredModel,
    registered_model,
)

log = logging.getLogger(__name__)

# Seconds that a caller who stops a canary waits until the Champion has all traffic.
STOP_S = 10.0


class Canaries:
    """At most one running canary for each model, and each request once.

    The steps of each canary are taken by CanarySteps, in a background task.
    """

    def __init__(self, parts: CanaryParts) -> None:
        self._parts = parts
        self._locks = ModelLocks()
        self._steps: dict[str, CanarySteps] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    @property
    def running(self) -> list[asyncio.Task[None]]:
        """The tasks of canaries that are not done."""
        return [task for task in self._tasks.values() if not task.done()]

    async def resume(self) -> None:
        """Go on with the canaries that were running when the control plane ended."""
        for model in await self._registered_models():
            async with self._locks.of(model.name):
                canary = _recorded(model)
                running = canary is not None and canary.state is CanaryState.RUNNING
                if canary is not None and running and model.name not in self._steps:
                    log.info("canary goes on", extra={"model": model.name, "step": canary.step})
                    self._run(canary)

    async def start(self, model: str, plan: Plan, request_id: str) -> Canary:
        """Begin a canary of the Challenger.

        Raises InvalidArgument, NotFound, AlreadyExists (the id was used with another plan), and
        FailedPrecondition when there is no Challenger, when the fleet does not serve the Champion
        to compare it with, or when a canary is running.
        """
        plan.check()
        async with self._locks.of(model):
            registered = await registered_model(self._parts.registry, model)
            latest = self._latest(registered)
            if latest is not None and latest.request_id == request_id:
                if latest.plan != plan:
                    raise AlreadyExists(f"request_id {request_id!r} was used for another canary")
                return latest
            if latest is not None and latest.state is CanaryState.RUNNING:
                raise FailedPrecondition(
                    f"a canary of version {latest.version} of {model} is running, at step "
                    f"{latest.step + 1} of {len(latest.plan.steps)}: stop it first"
                )
            version, champion = _sides(registered)
            now = self._parts.clock.now()
            canary = Canary(
                request_id,
                model,
                version,
                champion,
                plan,
                now,
                now,
                reason="it begins",
                created_at=registered.created_at,
            )
            # The canary is recorded before it does anything, so it is resumed after a crash.
            await self._parts.registry.tag_model(model, TAG_CANARY, canary.to_json())
            self._run(canary)
            return canary

    async def get(self, model: str) -> Canary:
        """Return the latest canary of a model. Raises NotFound when there was none."""
        try:
            latest = self._latest(await registered_model(self._parts.registry, model))
        except Unavailable:
            if model not in self._steps:
                raise
            return self._steps[model].canary
        if latest is None:
            raise NotFound(f"{model} has had no canary")
        return latest

    async def stop(self, model: str) -> Canary:
        """End a canary that runs or is paused; a canary that has ended stays as it is.

        Raises NotFound when there was none, and Unavailable when the traffic could not be given to
        the Champion within STOP_S seconds. It is tried again from then on.
        """
        async with self._locks.of(model):
            canary = await self.get(model)
            if canary.state not in (CanaryState.RUNNING, CanaryState.PAUSED):
                return canary
            await self._cancel(model)
            steps = self._steps.get(model)
            if steps is None or steps.canary.created_at != canary.created_at:
                steps = CanarySteps(self._parts, canary)
            self._steps[model] = steps
            if steps.canary.state in (CanaryState.RUNNING, CanaryState.PAUSED):
                step = f"step {canary.step + 1} of {len(canary.plan.steps)}"
                reason = f"stopped at {step}, as asked"
                ending = self._go_on(model, steps.end(CanaryState.STOPPED, reason))
                done, _ = await asyncio.wait({ending}, timeout=STOP_S)
                if not done:
                    raise Unavailable(
                        f"the canary of {model} is being stopped, but the Champion does not have "
                        "all traffic yet: MLflow or Envoy is away"
                    )
                await ending
            return steps.canary

    async def forget(self, model: str) -> None:
        """Stop working on the canary of a model that is removed, and forget it."""
        async with self._locks.of(model):
            await self._cancel(model)
            self._steps.pop(model, None)

    async def close(self) -> None:
        """Stop working on every canary; the next control plane goes on with them."""
        await asyncio.gather(*(self._cancel(model) for model in list(self._tasks)))
        self._steps.clear()

    async def _registered_models(self) -> list[RegisteredModel]:
        extra, sleep = {"what": "running canaries"}, self._parts.clock.sleep
        attempts = retrying(Unavailable, RETRY_S, log, "waiting", extra, sleep)
        models: list[RegisteredModel] = await attempts(self._parts.registry.list_models)
        return models

    def _run(self, canary: Canary) -> None:
        steps = CanarySteps(self._parts, canary)
        self._steps[canary.model] = steps
        self._go_on(canary.model, steps.run())

    def _go_on(self, model: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._tasks[model] = asyncio.create_task(work)
        task.add_done_callback(_log_failure)
        return task

    async def _cancel(self, model: str) -> None:
        task = self._tasks.pop(model, None)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _latest(self, registered: RegisteredModel) -> Canary | None:
        steps = self._steps.get(registered.name)
        if steps is not None and steps.canary.concerns(registered):
            return steps.canary
        return _recorded(registered)


def _recorded(model: RegisteredModel) -> Canary | None:
    text = model.tags.get(TAG_CANARY)
    return Canary.from_json(model.name, text) if text else None


def _sides(model: RegisteredModel) -> tuple[str, str]:
    """Return the versions of Challenger and Champion.

    Raises FailedPrecondition when they cannot be compared.
    """
    champion, challenger, serving = (
        model.aliases.get(alias, "") for alias in (CHAMPION, CHALLENGER, SERVING)
    )
    if not challenger:
        raise FailedPrecondition(
            f"{model.name} has no Challenger: train one with promotion CHALLENGER_ONLY first"
        )
    if not champion or serving != champion:
        raise FailedPrecondition(
            f"the fleet serves version {serving or 'none'} of {model.name}, but the Champion is "
            f"version {champion or 'none'}: reload first"
        )
    if challenger == champion:
        raise FailedPrecondition(f"version {champion} of {model.name} is the Champion already")
    return challenger, champion


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.error("the canary failed; it goes on after a restart", exc_info=task.exception())
