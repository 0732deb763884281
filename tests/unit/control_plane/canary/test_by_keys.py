"""The tests that judge two versions by their callers' keys."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from control_plane.canary.by_keys import Cell, drifted, more_often, more_than, shares_of, slower
from control_plane.canary.held_out import HeldOut
from control_plane.canary.judge import (
    TESTS,
    Action,
    Case,
    Judge,
)
from control_plane.fleet.slot_stats import KeyBucket, SlotStats
from tests.unit.control_plane.canary.twins import answered, compared, of_one_key

CASE = Case("1", HeldOut("1", 0.001, 0.08, 1000), 3, 30, share=0.05, last=True)
# One caller with half as many requests as all others together.
HEAVY = KeyBucket(
    1000,
    30,
    (0,) * 40 + (1000,),
    (0,) * 40 + (1000,),
    {"good": 20, "bad": 980},
)
EVENLY = [Cell(1, 10), Cell(2, 10), Cell(1, 10), Cell(2, 10)]


@pytest.mark.parametrize("share", [0.01, 0.05, 0.25, 0.5, 0.99])
@pytest.mark.parametrize("dealt_to", ["champion", "challenger"])
def test_one_heavy_caller_is_no_difference(share: float, dealt_to: str) -> None:
    # All its answers are slower and of another label, and more of them fail: by either version.
    champion, challenger = answered(2000), answered(200)
    if dealt_to == "champion":
        champion += of_one_key(7, HEAVY)
    else:
        challenger += of_one_key(7, HEAVY)
    challenger += compared(100, 0.05) + of_one_key(7, KeyBucket(disagreed=100))
    verdict = Judge().after_step(champion, challenger, replace(CASE, share=share))
    assert verdict.action is Action.PROMOTE
    assert {finding.criterion for finding in verdict.findings} == {
        "errors", "latency", "computation", "tail latency", "agreement", "label drift",
    }  # fmt: skip


def test_the_same_requests_from_many_callers_are_a_difference() -> None:
    many = answered(1000, ms=250.0, failed=30, good=0.02)
    verdict = Judge().after_step(answered(2000), many, CASE)
    assert verdict.action is Action.ROLL_BACK
    failed = {finding.criterion for finding in verdict.findings if finding.failed}
    assert failed == {"errors", "latency", "computation", "label drift"}


def test_the_texts_of_one_request_count_as_one_observation() -> None:
    # Three requests of a hundred texts each: half the labels off says next to nothing.
    few = SlotStats(tuple(KeyBucket(1, labels={"bad": 100}) for _ in range(3)))
    case = replace(CASE, mirrored=False)
    assert Judge().during_step(answered(3000), few, case).action is Action.CONTINUE


def test_every_chance_is_a_bound_of_the_draw() -> None:
    # Failures of a hundred keys, dealt again and again to versions that are equal.
    random = np.random.default_rng(5)
    keys = [Cell(*pair) for pair in zip(random.integers(0, 9, 100) ** 2, [81] * 100, strict=True)]
    for share in (0.05, 0.5):
        chances = []
        for _ in range(500):
            dealt = random.random(len(keys)) < share
            mine = [key for key, chosen in zip(keys, dealt, strict=True) if chosen]
            others = [key for key, chosen in zip(keys, dealt, strict=True) if not chosen]
            chances.append(more_often(mine, others, (share,)))
        for level in (0.3, 0.1, 0.02):
            assert sum(chance <= level for chance in chances) <= 500 * level


@pytest.mark.parametrize("share", [0.05, 0.5])
@pytest.mark.parametrize("weights", [[0.15] * 5, (1 / np.arange(3, 103) / 4).tolist()])
def test_buckets_of_keys_hold_the_level_too(weights: list[float], share: float) -> None:
    # Callers with labels of their own; those that share a bucket are taken for one.
    random = np.random.default_rng(11)
    keys, chances = len(weights), []
    for _ in range(200):
        side, bucket = (random.random(keys) < share).astype(int), random.integers(64, size=keys)
        texts = random.poisson(3000 * np.array(weights))
        good = random.binomial(texts, random.beta(0.6, 0.4, keys))
        of, hits = np.zeros((2, 64)), np.zeros((2, 64))
        np.add.at(of, (side, bucket), texts)
        np.add.at(hits, (side, bucket), good)
        champion, challenger = (
            [
                KeyBucket(labels={"good": int(h), "bad": int(n - h)})
                for h, n in zip(*rows, strict=True)
            ]
            for rows in zip(hits, of, strict=True)
        )
        chances.append(drifted(challenger, champion, (share,)))
    for level in (0.1, 0.02):
        assert sum(chance <= level for chance in chances) <= 200 * level


def test_the_bound_follows_the_exact_chance() -> None:
    # Every hit was drawn: the chance is about that of one key for each of them.
    hits, misses = [Cell(1, 1)] * 6, [Cell(0, 1)] * 1000
    bound = more_often(hits + misses[:50], misses[50:], (0.05,))
    assert 0.5 * 0.05**6 <= bound <= 2 * 0.05**6
    # Many keys: the bound is above the normal tail, but not by much.
    mine, others = [Cell(1, 1)] * 80 + [Cell(0, 1)] * 20, [Cell(1, 1)] * 50 + [Cell(0, 1)] * 50
    exact = stats.fisher_exact([[80, 20], [50, 50]], "greater").pvalue
    assert exact <= more_often(mine, others, (0.5,)) <= 50 * exact


def test_disagreement_is_judged_by_its_spread_among_keys() -> None:
    assert more_than([Cell(500, 500), *[Cell(1, 10)] * 40], 0.15) > 0.1
    assert more_than([Cell(4, 10), Cell(2, 10)] * 32, 0.15) < 1e-9
    assert more_than([Cell(10, 10)] * 64, 0.6) == pytest.approx(0.6**64, rel=0.1)
    assert more_than([Cell(1, 10)] * 64, 0.15) == 1.0
    assert more_than([Cell(1, 10)], 0.0) == 0.0
    assert more_than([Cell(9, 10)], 1.0) == 1.0


def test_ranks_ask_for_more_than_the_shift() -> None:
    others, late = [(0, 0, 5, 5)] * 20, [(0, 0, 0, 0, 0, 5, 5)] * 20
    assert slower(late, others, 2, (0.5,)) < 1e-4
    assert slower(others, others, 2, (0.5,)) == 1.0
    assert slower([], others, 2, (0.5,)) == 1.0
    assert slower([], [], 2, (0.5,)) == 1.0


def test_a_label_among_many_that_moves_is_found() -> None:
    usual = {f"label {n}": 10 for n in range(77)}
    moved = usual | {"label 3": 0, "label 4": 20}
    assert drifted([KeyBucket(labels=usual)] * 64, [KeyBucket(labels=usual)] * 64, (0.5,)) == 1.0
    assert drifted([KeyBucket(labels=moved)] * 64, [KeyBucket(labels=usual)] * 64, (0.5,)) < 1e-6
    assert drifted([KeyBucket()], [KeyBucket(labels={"a": 3})], (0.5,)) == 1.0


def test_nothing_counted_is_no_difference() -> None:
    assert more_often([], [], (0.5,)) == 1.0
    assert more_often(EVENLY, [], (0.5,)) == 1.0
    assert more_often([Cell(0, 0)], EVENLY, (0.5,)) == 1.0


def test_the_share_that_was_seen_is_that_of_half_of_the_buckets() -> None:
    planned, seen = shares_of(0.05, answered(300), answered(2700) + of_one_key(7, HEAVY))
    assert planned == 0.05
    assert seen == pytest.approx(0.1, abs=0.02)
    assert shares_of(0.05, SlotStats(), answered(100)) == (0.05, 0.001)
    assert shares_of(0.05, SlotStats(), SlotStats()) == (0.05, 0.05)


def test_all_false_alarms_of_a_canary_sum_to_the_promise() -> None:
    judge, worse = Judge(), HeldOut("1", 1.0, 0.1, 1000, p_worse=0.0)
    champion, challenger = answered(2000), answered(200) + compared(100, 0.05)
    held_out = judge.during_step(champion, challenger, replace(CASE, held_out=worse)).findings[0]
    spent = held_out.p_value_limit
    for begun in range(1, 60):
        case = replace(CASE, begun=begun)
        look = judge.during_step(champion, challenger, case).findings
        end = judge.after_step(champion, challenger, case).findings
        assert len(look) == len(end) == TESTS
        spent += case.steps * case.looks_a_step * sum(one.p_value_limit for one in look)
        spent += case.steps * sum(one.p_value_limit for one in end)
    assert spent == pytest.approx(judge.rules.false_alarms)
