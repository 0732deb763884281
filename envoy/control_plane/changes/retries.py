"""Calls that are tried again, after a pause, while a part that they need is away."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_fixed


def retrying(
    errors: type[Exception],
    pause_s: float,
    log: logging.Logger,
    message: str,
    extra: Mapping[str, str],
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> AsyncRetrying:
    """Return a loop of attempts that goes on, with pauses, as long as they raise `errors`.

    Each failed attempt is logged as a warning, with its error as `why`. Other errors end the loop;
    the caller bounds its time.
    """

    def note(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        log.warning(message, extra={**extra, "why": str(error)})

    return AsyncRetrying(
        retry=retry_if_exception_type(errors),
        wait=wait_fixed(pause_s),
        sleep=sleep,
        before_sleep=note,
    )
