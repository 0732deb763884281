"""What the tasks of the training pipeline do; knows nothing of the workflow engine around it."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import httpx

from mesh.client import MeshClient
from mesh.errors import DeadlineExceeded, Unavailable
from mesh.v1 import reload_pb2, train_pb2

log = logging.getLogger(__name__)
# It logs whole URLs, and the webhook's is a secret.
logging.getLogger("httpx").setLevel(logging.WARNING)

POLL_S = 1.0  # between two questions about a job
PATIENCE_S = 600.0  # how long the mesh may be away without an answer
REPORT_S = 10.0  # between two lines of progress in the log
SLACK_TIMEOUT_S = 5.0
CANARY_MIRROR_PERCENT = 10

_CANARY_WORDS = {
    "PROMOTED": "passed its canary and serves now",
    "ROLLED_BACK": "was rolled back",
    "PAUSED": "is paused in its canary",
    "STOPPED": "was stopped in its canary",
}

T = TypeVar("T")


class TrainingFailed(Exception):
    """The job failed; its next attempt may do better."""


class TrainingCancelled(Exception):
    """Somebody cancelled the job, so it is not to be tried again."""


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
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """Return `call()`, tried again while the mesh is away, for `patience_s` at most."""
    give_up_at = clock() + patience_s
    while True:
        try:
            return call()
        except (Unavailable, DeadlineExceeded) as error:
            if clock() >= give_up_at:
                raise
            log.warning("The mesh does not answer; waiting: %s", error)
            sleep(POLL_S)


def train(
    client: MeshClient,
    model: str,
    request_id: str,
    params: train_pb2.TrainParams,
    sleep: Callable[[float], None] = time.sleep,
    promotion: train_pb2.Promotion | None = None,
) -> train_pb2.TrainingJob:
    """Submit the job of `request_id`, or find it, and follow it to its good end.

    Raises TrainingFailed or TrainingCancelled with the job's own words.
    """
    job = patiently(
        lambda: client.train(model, params=params, promotion=promotion, request_id=request_id),
        sleep=sleep,
    )
    log.info("Job %s, attempt %d", job.id, job.attempt)
    progress = _Progress()
    while True:
        progress.report(job)
        if job.state == train_pb2.TRAINING_STATE_SUCCEEDED:
            return job
        if job.state == train_pb2.TRAINING_STATE_FAILED:
            raise TrainingFailed(f"job {job.id}, attempt {job.attempt}: {job.error}")
        if job.state == train_pb2.TRAINING_STATE_CANCELLED:
            raise TrainingCancelled(f"job {job.id} was cancelled")
        sleep(POLL_S)
        job = patiently(lambda: client.get_training(request_id), sleep=sleep)


def canary_steps(text: str) -> list[int]:
    """Return the shares of a canary, percent, as in "5,25,50"; empty: no canary is wanted."""
    return [int(part) for part in text.split(",")] if text.strip() else []


def promotion(client: MeshClient, model: str, steps: list[int]) -> train_pb2.Promotion:
    """Return who promotes: the training, or a canary, for which there has to be a Champion."""
    if steps:
        for found in patiently(client.get_fleet).models:
            if found.name == model and found.champion_version:
                return train_pb2.PROMOTION_CHALLENGER_ONLY
    return train_pb2.PROMOTION_AUTO


def canary(
    client: MeshClient,
    model: str,
    request_id: str,
    steps: list[int],
    step_seconds: float,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, str]:
    """Start the canary of `request_id`, or find it, and follow it until it runs no more."""
    found = patiently(
        lambda: client.start_canary(
            model,
            steps=steps,
            step_seconds=step_seconds,
            mirror_percent=CANARY_MIRROR_PERCENT,
            request_id=request_id,
        ),
        sleep=sleep,
    )
    said = ""
    while found.state == reload_pb2.CANARY_STATE_RUNNING:
        if found.reason != said:
            said = found.reason
            log.info("Canary, %d %%: %s", found.challenger_weight, said)
        sleep(POLL_S)
        found = patiently(lambda: client.get_canary(model), sleep=sleep)
    state = reload_pb2.CanaryState.Name(found.state).removeprefix("CANARY_STATE_")
    log.info("Canary %s: %s", state, found.reason)
    return {
        "canary": state,
        "reason": found.reason,
        "from_version": found.champion_version,
        "to_version": found.version,
    }


class _Progress:
    """Writes a line when the state changes, and every REPORT_S in between."""

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


def outcome(job: train_pb2.TrainingJob) -> dict[str, Any]:
    """Return what later tasks need to know of a job that succeeded."""
    decision = job.decision
    return {
        "job_id": job.id,
        "version": job.version,
        "promoted": decision.outcome == train_pb2.DECISION_OUTCOME_PROMOTED,
        "better": decision.challenger_accuracy > decision.champion_accuracy,
        "reason": decision.reason,
        "champion_version": decision.champion_version,
        "champion_accuracy": decision.champion_accuracy,
        "challenger_accuracy": decision.challenger_accuracy,
    }


def success_text(
    model: str, trained: dict[str, Any], switched: dict[str, str] | None = None
) -> str:
    """Return the notification of a run that ended well; `switched`: what its last step did."""
    accuracy = f"accuracy {trained['challenger_accuracy']:.3f}"
    if trained["champion_version"]:
        accuracy += (
            f", version {trained['champion_version']} had {trained['champion_accuracy']:.3f}"
        )
    if switched and "canary" in switched:
        ended = _CANARY_WORDS[switched["canary"]]
        return f"{model}: version {trained['version']} {ended}: {switched['reason']} ({accuracy})"
    if trained["promoted"]:
        return f"{model}: version {trained['version']} serves now ({accuracy})"
    return (
        f"{model}: version {trained['version']} was not promoted: {trained['reason']} ({accuracy})"
    )


def failure_text(run_id: str, reason: str) -> str:
    """Return the notification of a run that failed."""
    return f"{run_id}: the run failed ({reason}); what serves stays as it was"


def notify(text: str) -> bool:
    """Send `text` to Slack's webhook of SLACK_URL or SLACK_URL_FILE; False when it was not sent.

    Never raises: a message that does not get through is no reason to fail a run.
    """
    url = os.environ.get("SLACK_URL", "").strip()
    file = os.environ.get("SLACK_URL_FILE", "")
    try:
        if not url and file:
            url = Path(file).read_text(encoding="utf-8").strip()
        if not url:
            log.info("No SLACK_URL; not sent: %s", text)
            return False
        httpx.post(url, json={"text": text}, timeout=SLACK_TIMEOUT_S).raise_for_status()
    except (OSError, ValueError, httpx.HTTPError, httpx.InvalidURL) as error:
        # The URL is a secret, and errors of httpx may show it.
        log.warning("Slack was not told: %s", type(error).__name__)
        return False
    log.info("Slack was told: %s", text)
    return True
