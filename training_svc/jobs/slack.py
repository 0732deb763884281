"""Posts how trainings ended to a Slack webhook: best effort, beside the work, never in its way."""

import asyncio
import logging
from collections.abc import Callable

import httpx

from training_svc.jobs.job import Job, State

log = logging.getLogger(__name__)

TIMEOUT_S = 5.0  # a try
TRIES = 4
FIRST_PAUSE_S = 1.0  # doubled after each try
TOO_MANY_REQUESTS = 429

_MARKS = {"PROMOTED": ":trophy:", "KEPT": ":shield:", "INCONCLUSIVE": ":scales:"}


class Slack:
    """Posts in tasks of its own. The webhook's URL is a secret: it is never logged."""

    def __init__(
        self,
        webhook: Callable[[], str],
        timeout_s: float = TIMEOUT_S,
        first_pause_s: float = FIRST_PAUSE_S,
    ) -> None:
        """`webhook()` returns the URL, empty for none, or raises OSError."""
        self._webhook = webhook
        self._timeout_s = timeout_s
        self._first_pause_s = first_pause_s
        self._posts: set[asyncio.Task[None]] = set()

    def notify(self, job: Job) -> None:
        """Post a job's end, in the background. Cancelled jobs are not news."""
        if job.state is State.CANCELLED:
            return
        post = asyncio.create_task(self._post(message(job), job.id))
        self._posts.add(post)
        post.add_done_callback(self._posts.discard)

    async def close(self) -> None:
        """Give the posts under way the time of one try, then drop them."""
        posts = set(self._posts)
        if posts:
            await asyncio.wait(posts, timeout=self._timeout_s)
        for post in posts:
            post.cancel()

    async def _post(self, text: str, job_id: str) -> None:
        try:
            url = self._webhook()
        except OSError as error:
            log.warning("no Slack message: its file is not readable", extra={"errno": error.errno})
            return
        if not url:
            return
        problem = ""
        async with httpx.AsyncClient(timeout=self._timeout_s) as http:
            for number in range(TRIES):
                if number:
                    await asyncio.sleep(self._first_pause_s * 2 ** (number - 1))
                problem, again = await _try(http, url, text)
                if not again:
                    break
        if problem:
            log.warning("no Slack message", extra={"job": job_id, "why": problem})
        else:
            log.info("told Slack", extra={"job": job_id})


def message(job: Job) -> str:
    """One line of Slack's markup about a job that has ended."""
    if job.state is State.FAILED:
        return f":x: *{job.model}*: training {job.request_id} failed: {job.error}"
    decision = job.decision or {}
    outcome = str(decision.get("outcome", ""))
    return (
        f"{_MARKS.get(outcome, '')} *{job.model}* version {job.version} "
        f"{outcome.lower()}: {decision.get('reason', '')} (training {job.request_id})"
    )


async def _try(http: httpx.AsyncClient, url: str, text: str) -> tuple[str, bool]:
    """The problem, empty for none, and whether to try again. httpx's own texts hold the URL."""
    try:
        status = (await http.post(url, json={"text": text})).status_code
    except httpx.InvalidURL:
        return "the webhook's URL is malformed", False
    except httpx.HTTPError as error:
        return type(error).__name__, True
    if status < 300:
        return "", False
    return f"Slack answered {status}", status >= 500 or status == TOO_MANY_REQUESTS
