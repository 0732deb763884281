"""Exponential back-off with jitter, without a limit on attempts."""

import random

FIRST_S = 0.2
LONGEST_S = 15.0
_EXPONENT_LIMIT = 16  # far above LONGEST_S, and 2 ** attempt would grow without end


def backoff_s(attempt: int, jitter: random.Random) -> float:
    """Return the seconds to wait after failure number `attempt` (1 for the first)."""
    full: float = min(FIRST_S * 2 ** min(attempt - 1, _EXPONENT_LIMIT), LONGEST_S)
    # At least half of the pause is kept, so that no two attempts follow each other at once.
    return full * jitter.uniform(0.5, 1.0)
