"""When the requests of an open loop are due."""

import random
from collections.abc import Iterator

from mesh_cli.load.plan.spec import OpenLoop


def offsets(loop: OpenLoop, seconds: float) -> Iterator[float]:
    """Seconds after the start at which requests are due, ascending, all below `seconds`."""
    return _poisson(loop, seconds) if loop.arrivals == "poisson" else _constant(loop, seconds)


def _constant(loop: OpenLoop, seconds: float) -> Iterator[float]:
    # Multiplied, not added up: a million additions would drift.
    for number in range(round(loop.rate * seconds)):
        yield number / loop.rate


def _poisson(loop: OpenLoop, seconds: float) -> Iterator[float]:
    gaps = random.Random(loop.seed)  # noqa: S311 - a schedule, not a secret
    offset = gaps.expovariate(loop.rate)
    while offset < seconds:
        yield offset
        offset += gaps.expovariate(loop.rate)
