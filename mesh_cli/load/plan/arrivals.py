"""When the requests of an open loop are due."""

import random
from collections.abc import Iterator

from mesh_cli.load.plan.spec import OpenLoop


def arrival_offsets(loop: OpenLoop, seconds: float) -> Iterator[float]:
    """Seconds after the start at which requests are due, ascending, all below `seconds`."""
    return _poisson(loop, seconds) if loop.arrivals == "poisson" else _constant(loop, seconds)


def _constant(loop: OpenLoop, seconds: float) -> Iterator[float]:
    # Each offset is computed from its number: a sum of a million gaps would drift.
    for number in range(round(loop.rate * seconds)):
        yield number / loop.rate


def _poisson(loop: OpenLoop, seconds: float) -> Iterator[float]:
    gaps = random.Random(loop.seed)  # noqa: S311 - a schedule, not a secret
    offset = gaps.expovariate(loop.rate)
    while offset < seconds:
        yield offset
        offset += gaps.expovariate(loop.rate)
