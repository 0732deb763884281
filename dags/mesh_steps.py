"""The work of the training pipeline's tasks; knows nothing of the workflow engine around it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_delay,
    wait_fixed,
)

from mesh.client import MeshClient
from mesh.errors import DeadlineExceeded, MeshError, Unavailable
from mesh.v1 import reload_pb2, train_pb2

log = logging.getLogger(__name__)

POLL_S = 1.0  # seconds between two looks at a job or a canary, and between two tries of a call
PATIENCE_S = 600.0  # seconds for which the mesh may fail to answer before a task fails
REPORT_S = 10.0  # seconds between two lines of progress in the log
# Seconds for which one job may train. The time for which it waits behind others does not count.
MAX_TRAINING_S = 6 * 3600.0
CANARY_MIRROR_PERCENT = 10  # of the requests, mirrored to the Challenger

T = TypeVar("T")


class TrainingFailed(Exception):
    """The job failed; the next attempt may succeed."""


class TrainingEnded(Exception):
    """The job must not be tried again: another attempt would fail in the same way, a caller
    cancelled it, or it took too long."""


def train_params(values: dict[str, Any]) -> train_pb2.TrainParams:
    """Return the hyperparameters among the parameters of a run."""
    return train_pb2.TrainParams(
        **{
            field.name: values[field.name]
            for field in train_pb2.TrainParams.DESCRIPTOR.fields
            if values.get(field.name)
        }
    )


def patiently(
    call: Callable[[], T],
    patience_s: float = PATIENCE_S,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """Return `call()`, tried again while the mesh does not answer, for `patience_s` at most.

    Raises the last error when the patience ends.
    """
    tries = Retrying(
        retry=retry_if_exception_type((Unavailable, DeadlineExceeded)),
        wait=wait_fixed(POLL_S),
        stop=stop_after_delay(patience_s),
        before_sleep=_log_waiting,
        sleep=sleep,
        reraise=True,
    )
    return tries(call)


def _log_waiting(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    log.warning("The mesh does not answer; waiting: %s", error)


def train(
    client: MeshClient,
    model: str,
    request_id: str,
    params: train_pb2.TrainParams,
    sleep: Callable[[float], None] = time.sleep,
    promotion: train_pb2.Promotion | None = None,
) -> train_pb2.TrainingJob:
    """Submit the job of `request_id`, or find it, and follow it until it has succeeded.

    A job that trains for more than MAX_TRAINING_S is cancelled. Raises TrainingFailed or
    TrainingEnded with the job's error.
    """
    # What the training itself promotes is to be served; a canary decides for itself.
    serve = promotion != train_pb2.PROMOTION_CHALLENGER_ONLY
    job = patiently(
        lambda: client.train(
            model, params=params, promotion=promotion, serve=serve, request_id=request_id
        ),
        sleep=sleep,
    )
    log.info("Job %s, attempt %d", job.id, job.attempt)
    progress = _Progress()
    started_at: float | None = None
    while True:
        progress.report(job)
        if job.state == train_pb2.TRAINING_STATE_SUCCEEDED:
            return job
        if job.state == train_pb2.TRAINING_STATE_FAILED:
            failure = TrainingEnded if job.lasting_error else TrainingFailed
            raise failure(f"job {job.id}, attempt {job.attempt}: {job.error}")
        if job.state == train_pb2.TRAINING_STATE_CANCELLED:
            raise TrainingEnded(f"job {job.id} was cancelled")
        if job.state != train_pb2.TRAINING_STATE_QUEUED:
            started_at = started_at or time.monotonic()
            if time.monotonic() - started_at > MAX_TRAINING_S:
                job = _too_long(client, job)
                continue
        sleep(POLL_S)
        job = patiently(lambda: client.get_training(request_id), sleep=sleep)


def _too_long(client: MeshClient, job: train_pb2.TrainingJob) -> train_pb2.TrainingJob:
    """Cancel the job; return it if it ended well at the last moment."""
    ended = patiently(lambda: client.cancel_training(job.id))
    if ended.state == train_pb2.TRAINING_STATE_SUCCEEDED:
        return ended
    raise TrainingEnded(f"job {job.id} was cancelled: it trained for {MAX_TRAINING_S / 3600:g} h")


def cancel(client: MeshClient, request_id: str) -> None:
    """Cancel the job of a run that was ended, if there is one. Never raises."""
    try:
        client.cancel_training(request_id)
    except MeshError as error:
        log.warning("The training of %s was not cancelled: %s", request_id, error)


def canary_steps(text: str) -> list[int]:
    """Return the shares of a canary in percent, out of a text such as "5,25,50".

    An empty text means that no canary is wanted.
    """
    return [int(part) for part in text.split(",")] if text.strip() else []


def promotion(client: MeshClient, model: str, steps: list[int]) -> train_pb2.Promotion:
    """Return PROMOTION_CHALLENGER_ONLY where a canary is to decide, else PROMOTION_AUTO.

    A canary needs a Champion to compare with, so a model without one is promoted by its training.
    """
    if steps:
        for fleet_model in patiently(client.get_fleet).models:
            if fleet_model.name == model and fleet_model.champion_version:
                return train_pb2.PROMOTION_CHALLENGER_ONLY
    return train_pb2.PROMOTION_AUTO


def canary(
    client: MeshClient, model: str, request_id: str, steps: list[int], step_seconds: float
) -> dict[str, str] | None:
    """Start the canary of `request_id`, or find it. None while it runs; then its state without the
    prefix, its reason and the two versions.
    """
    current = patiently(
        lambda: client.start_canary(
            model,
            steps=steps,
            step_seconds=step_seconds,
            mirror_percent=CANARY_MIRROR_PERCENT,
            request_id=request_id,
        )
    )
    if current.state == reload_pb2.CANARY_STATE_RUNNING:
        current = patiently(lambda: client.get_canary(model))
    state = reload_pb2.CanaryState.Name(current.state).removeprefix("CANARY_STATE_")
    log.info("Canary, %d %%, %s: %s", current.challenger_weight, state, current.reason)
    if current.state == reload_pb2.CANARY_STATE_RUNNING:
        return None
    return {
        "canary": state,
        "reason": current.reason,
        "from_version": current.champion_version,
        "to_version": current.version,
    }


class _Progress:
    """Logs a job's state whenever it changes, and every REPORT_S seconds between changes."""

    def __init__(self) -> None:
        self._state = -1
        self._next_at = 0.0

    def report(self, job: train_pb2.TrainingJob) -> None:
        if job.state == self._state and time.monotonic() < self._next_at:
            return
        self._state = job.state
        self._next_at = time.monotonic() + REPORT_S
        state = train_pb2.TrainingState.Name(job.state).removeprefix("TRAINING_STATE_")
        progress = job.progress
        if job.state != train_pb2.TRAINING_STATE_RUNNING or not progress.total_steps:
            log.info("%s", state)
            return
        log.info(
            "%s: step %d of %d, loss %.4f, %.0f s left",
            *(state, progress.step, progress.total_steps, progress.loss, progress.eta_seconds),
        )


def training_of(client: MeshClient, request_id: str) -> train_pb2.TrainingJob | None:
    """Return the job of `request_id`; None when there is none or the mesh does not answer."""
    try:
        return client.get_training(request_id)
    except MeshError as error:
        log.warning("The training of %s is not known: %s", request_id, error)
        return None


def outcome(job: train_pb2.TrainingJob) -> dict[str, Any]:
    """Return the facts about a job that succeeded which later tasks need, ready for JSON."""
    decision = job.decision
    outcome_name = train_pb2.DecisionOutcome.Name(decision.outcome)
    return {
        "job_id": job.id,
        "version": job.version,
        "outcome": outcome_name.removeprefix("DECISION_OUTCOME_"),
        "promoted": decision.outcome == train_pb2.DECISION_OUTCOME_PROMOTED,
        "better": decision.challenger_accuracy > decision.champion_accuracy,
        "reason": decision.reason,
        "champion_version": decision.champion_version,
        "champion_accuracy": decision.champion_accuracy,
        "challenger_accuracy": decision.challenger_accuracy,
    }
