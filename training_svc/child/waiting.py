"""Waiting for a part that is away, in the child process, which runs no event loop."""

import logging
from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_fixed

from service_kit.errors import Unavailable

log = logging.getLogger(__name__)

T = TypeVar("T")

PAUSE_S = 0.5  # between two tries


def until_available(attempt: Callable[[], T], what: str) -> T:
    """Return `attempt()`, tried for ever while it raises Unavailable; log the first failure."""

    def log_first(state: RetryCallState) -> None:
        if state.attempt_number == 1 and state.outcome is not None:
            log.warning("waiting", extra={"what": what, "why": str(state.outcome.exception())})

    retrying = Retrying(
        retry=retry_if_exception_type(Unavailable),
        wait=wait_fixed(PAUSE_S),
        before_sleep=log_first,
    )
    return retrying(attempt)
