"""The search for a rate, against a server that exists only as a formula."""

import pytest

from mesh_cli.load import Step, find_rate


class Queue:
    """A server whose latency grows as in a queue; beyond its capacity calls fail."""

    def __init__(self, capacity: float) -> None:
        self._capacity = capacity

    def __call__(self, rate: float) -> Step:
        if rate >= self._capacity:
            return Step(rate, 5000.0, failed=7)
        return Step(rate, 5.0 / (1 - rate / self._capacity), failed=0)


# p99 = 5 ms / (1 - load): 50 ms at nine tenths of the capacity.
@pytest.mark.parametrize("first", [1, 300, 900, 5000])
def test_the_best_rate_is_found_to_five_percent_from_wherever_it_begins(first: float) -> None:
    best, steps = find_rate(Queue(1000), 50.0, first)
    assert best is not None
    assert 900 / 1.05 <= best.rate <= 900
    assert best.holds(50.0)
    assert len(steps) < 24


def test_a_search_that_begins_at_the_best_rate_takes_few_steps() -> None:
    _, steps = find_rate(Queue(1000), 50.0, 900)
    assert len(steps) <= 8


def test_a_search_without_a_rate_that_holds_ends_at_the_lowest() -> None:
    best, steps = find_rate(Queue(1000), 4.0, 100)
    assert best is None
    assert steps[-1].rate == 1.0


def test_a_step_with_one_failure_does_not_hold() -> None:
    assert not Step(10, 1.0, failed=1).holds(50)
    assert not Step(10, None, failed=0).holds(50)
    assert Step(10, 50.0, failed=0).holds(50)


def test_the_search_ends_when_the_server_contradicts_itself() -> None:
    flip = iter(range(1000))
    _, steps = find_rate(lambda rate: Step(rate, 1.0, failed=next(flip) % 2), 50.0, 100)
    assert len(steps) <= 24
