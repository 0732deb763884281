"""The comparison of two checkouts: its figures, its ratios, and their interval."""

import math
from pathlib import Path
from random import Random

import pytest

from bench.paired.checkout_run import RunFigures, digest, figures_of, share_model
from bench.paired.ratio import Pair, ratio


def run(texts_per_s: float = 100.0, envoy_ms: float = 0.2) -> RunFigures:
    return RunFigures(texts_per_s, envoy_ms, 0.3, 1.5, failed=0, others_cores=0.0)


def pairs_with(ratios: list[float]) -> list[Pair]:
    """Pairs in which throughput has these ratios, on a machine whose speed changes."""
    speeds = [100.0 * (1 + number % 3) for number in range(len(ratios))]
    return [
        Pair(run(speed), run(speed * value)) for speed, value in zip(speeds, ratios, strict=True)
    ]


def texts_per_s(one: RunFigures) -> float:
    return one.texts_per_s


def test_figures_are_read_from_the_data_of_a_section() -> None:
    figures = {
        "texts_per_s": 444.0,
        "failed": 1,
        "others_cores": 0.2,
        "cpu_ms": {"envoy": 0.25, "engine": 2.0, "replicas beside it": 0.5},
    }
    found = figures_of({"limit": [], "served": {"champion-mesh json": [figures]}})
    assert found == RunFigures(444.0, 0.25, 0.5, 2.0, failed=1, others_cores=0.2)
    assert (found.outside_ms, found.total_ms) == (0.75, 2.75)


def test_a_ratio_is_the_median_of_the_ratios_within_pairs() -> None:
    ratios = [1.1, 0.9, 1.3, 1.2, 1.0, 0.8, 1.4, 0.7, 1.5, 1.6]
    found = ratio(pairs_with(ratios), texts_per_s)
    assert found.median == pytest.approx(1.15)
    # Of 10 ratios the second lowest and the second highest hold the median in 97.9 % of all cases.
    assert (found.low, found.high) == pytest.approx((0.8, 1.5))


def test_fewer_than_six_pairs_have_no_interval() -> None:
    found = ratio(pairs_with([1.0, 1.1, 1.2, 1.3, 1.4]), texts_per_s)
    assert found.median == pytest.approx(1.2)
    assert math.isnan(found.low) or math.isnan(found.high)
    assert str(found) == "1.200 (too few pairs for an interval)"
    assert str(ratio(pairs_with([1.1]), texts_per_s)).startswith("1.100 (too few")


def test_the_interval_holds_the_true_ratio_in_95_of_100_comparisons() -> None:
    random = Random(1)
    held = 0
    for _ in range(400):
        found = ratio(pairs_with([random.lognormvariate(0, 0.1) for _ in range(12)]), texts_per_s)
        held += found.low <= 1 <= found.high
    assert held >= 0.95 * 400


def test_both_checkouts_get_the_same_model(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    models = [checkout / "build" / "bench" / "model" for checkout in (before, after)]
    models[0].mkdir(parents=True)
    (models[0] / "weights").write_text("old")
    share_model(after, before)
    assert digest(models[0]) == digest(models[1])
    (models[1] / "weights").write_text("new")
    share_model(after, before)
    assert (models[0] / "weights").read_text() == "new"
