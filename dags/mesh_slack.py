"""Tells Slack how a run ended; knows nothing of the workflow engine around it."""

from __future__ import annotations

import html
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential

from mesh.v1 import train_pb2

log = logging.getLogger(__name__)
# httpx logs whole URLs at level INFO, and the webhook's URL is a secret.
logging.getLogger("httpx").setLevel(logging.WARNING)

TIMEOUT_S = 5.0  # of each try
TRIES = 4
FIRST_PAUSE_S = 1.0  # before the second try; each later pause is twice as long
TOO_MANY_REQUESTS = 429
MAX_CHARACTERS = 3000  # of a message

_CANARY_WORDS = {
    "PROMOTED": "passed its canary and serves now",
    "ROLLED_BACK": "was rolled back",
    "PAUSED": "is paused in its canary",
    "STOPPED": "was stopped in its canary",
}


def success_text(
    model: str, trained: dict[str, Any], switched: dict[str, str] | None = None
) -> str:
    """Return the notification of a run that ended well.

    `trained` is what `mesh_steps.outcome` returned, `switched` the result of the run's switch
    or canary, None when it was skipped.
    """
    accuracy = f"accuracy {trained['challenger_accuracy']:.3f}"
    if trained["champion_version"]:
        accuracy += (
            f", version {trained['champion_version']} had {trained['champion_accuracy']:.3f}"
        )
    training = f"training outcome {trained['outcome'].lower()}: {trained['reason']} ({accuracy})"
    version = f"{model}: version {trained['version']}"
    if switched and "canary" in switched:
        canary = _CANARY_WORDS[switched["canary"]]
        return f"{version} {canary}: {switched['reason']}; {training}"
    if trained["promoted"]:
        return f"{version} serves now; {training}"
    return f"{version} was not promoted; {training}"


def failure_text(run_id: str, reason: str, job: train_pb2.TrainingJob | None) -> str:
    """Return the notification of a run that failed; `job` is its training, None without one."""
    training = f"; {_training_text(job)}" if job is not None else ""
    return f"{run_id}: the run failed ({reason}){training}; what serves stays as it was"


def _training_text(job: train_pb2.TrainingJob) -> str:
    if job.state == train_pb2.TRAINING_STATE_FAILED:
        return f"training of {job.model} failed in attempt {job.attempt}: {job.error}"
    if job.state == train_pb2.TRAINING_STATE_SUCCEEDED:
        outcome = train_pb2.DecisionOutcome.Name(job.decision.outcome)
        outcome = outcome.removeprefix("DECISION_OUTCOME_").lower()
        return (
            f"{job.model}: version {job.version}, training outcome {outcome}: {job.decision.reason}"
        )
    state = train_pb2.TrainingState.Name(job.state).removeprefix("TRAINING_STATE_").lower()
    return f"the training of {job.model} is {state}"


def notify(text: str, sleep: Callable[[float], None] = time.sleep) -> bool:
    """Send `text` to Slack's webhook of SLACK_URL or SLACK_URL_FILE; False when it was not sent.

    Tries again, with growing pauses, while Slack is unreachable, has an error of its own or asks
    for patience. Never raises: a message that does not get through is no reason to fail a run.
    """
    tries = Retrying(
        retry=retry_if_exception(_may_pass),
        wait=wait_exponential(multiplier=FIRST_PAUSE_S),
        stop=stop_after_attempt(TRIES),
        sleep=sleep,
        reraise=True,
    )
    text = _inert(text)
    try:
        url = _webhook_url()
        if not url:
            log.info("No SLACK_URL; not sent: %s", text)
            return False
        tries(_post, url, text)
    except httpx.HTTPStatusError as error:
        # The texts of httpx's errors may show the URL.
        log.warning("Slack was not told: it answered %d", error.response.status_code)
        return False
    except (OSError, ValueError, httpx.HTTPError, httpx.InvalidURL) as error:
        log.warning("Slack was not told: %s", type(error).__name__)
        return False
    log.info("Slack was told: %s", text)
    return True


def _webhook_url() -> str:
    """Return the webhook's URL, empty when none is set. Raises OSError for an unreadable file."""
    url = os.environ.get("SLACK_URL", "").strip()
    file = os.environ.get("SLACK_URL_FILE", "")
    return Path(file).read_text(encoding="utf-8").strip() if not url and file else url


def _inert(text: str) -> str:
    """The text on one line, with characters that show nothing as escapes, cut to MAX_CHARACTERS.

    Names, labels and reasons in it are anybody's.
    """
    text = text if len(text) <= MAX_CHARACTERS else f"{text[: MAX_CHARACTERS - 1]}…"
    shown = (
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )
    return "".join(shown)


def _post(url: str, text: str) -> None:
    message = {
        # With these three escaped Slack sees no mention, channel or link; mrkdwn false leaves
        # asterisks and the like as they are, parse none leaves addresses and @names so.
        "text": html.escape(text, quote=False),
        "mrkdwn": False,
        "parse": "none",
        "link_names": False,
        "unfurl_links": False,
        "unfurl_media": False,
    }
    httpx.post(url, json=message, timeout=TIMEOUT_S).raise_for_status()


def _may_pass(error: BaseException) -> bool:
    """Whether a later try may get through."""
    if isinstance(error, httpx.HTTPStatusError):
        status = error.response.status_code
        return status >= 500 or status == TOO_MANY_REQUESTS
    return isinstance(error, httpx.TransportError) and not isinstance(
        error, httpx.UnsupportedProtocol
    )
