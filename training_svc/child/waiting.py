"""Waiting in plain code, as the child process does it, for a part that is away."""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from service_kit.errors import Unavailable

log = logging.getLogger(__name__)

T = TypeVar("T")

PAUSE_S = 0.5


def until_available(attempt: Callable[[], T], what: str) -> T:
    """Call `attempt()` again and again while it raises Unavailable; log the first time."""
    logged = False
    while True:
        try:
            return attempt()
        except Unavailable as error:
            if not logged:
                log.warning("waiting", extra={"what": what, "why": str(error)})
                logged = True
            time.sleep(PAUSE_S)
