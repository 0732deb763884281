"""When the requests of an open loop are due."""

from itertools import pairwise

import pytest

from mesh_cli.load import OpenLoop
from mesh_cli.load.plan.arrivals import arrival_offsets


def test_constant_arrivals_are_evenly_spaced() -> None:
    assert list(arrival_offsets(OpenLoop(4), 1.0)) == [0, 0.25, 0.5, 0.75]


def test_poisson_arrivals_repeat_with_their_seed_and_keep_their_rate() -> None:
    first = list(arrival_offsets(OpenLoop(1000, "poisson", seed=1), 20))
    assert first == list(arrival_offsets(OpenLoop(1000, "poisson", seed=1), 20))
    assert first != list(arrival_offsets(OpenLoop(1000, "poisson", seed=2), 20))
    assert first == sorted(first)
    assert len(first) == pytest.approx(20_000, rel=0.03)
    gaps = [b - a for a, b in pairwise(first)]
    # Exponential: a share of 1/e of the gaps is longer than the mean.
    assert sum(gap > 0.001 for gap in gaps) / len(gaps) == pytest.approx(0.368, abs=0.02)
