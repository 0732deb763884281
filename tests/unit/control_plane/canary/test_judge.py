"""The judge's verdicts on numbers of known quality, and the tests that they rest on."""

from collections import Counter
from dataclasses import replace
from functools import partial

import pytest
from scipy import stats

from bench.canary_decisions import SCENARIOS, Scenario, simulate
from control_plane.canary.held_out import HeldOut
from control_plane.canary.judge import Action, Case, Judge
from control_plane.canary.significance import above, upper_bound
from tests.unit.control_plane.canary.twins import answered, compared

BETTER = HeldOut("1", p_value=0.001, disagreement=0.08, rows=1000)
LAST = Case("1", BETTER, steps=3, looks_a_step=30, last=True)
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}


def actions(scenario: Scenario, runs: int) -> Counter[Action]:
    return Counter(outcome.action for outcome in simulate(scenario, runs, step_seconds=10))


def test_an_equal_challenger_is_rolled_back_or_promoted_on_noise_as_rarely_as_promised() -> None:
    count = Counter[Action]()
    for name in ("equal", "equal, one key has 30 %", "equal, keys by Zipf"):
        outcomes = simulate(replace(BY_NAME[name], rate=1000.0), 80, step_seconds=3)
        count.update(outcome.action for outcome in outcomes)
    print(f"of 240 promoted {count[Action.PROMOTE]}, rolled back {count[Action.ROLL_BACK]}")
    assert count[Action.ROLL_BACK] <= 2
    assert count[Action.PROMOTE] <= 12
    assert count[Action.PAUSE] >= 226


@pytest.mark.parametrize("name", ["labels swapped", "twice as slow"])
def test_bad_challenger_is_rolled_back_at_the_first_step(name: str) -> None:
    outcomes = simulate(BY_NAME[name], 20)
    assert {(outcome.action, outcome.step) for outcome in outcomes} == {(Action.ROLL_BACK, 0)}


def test_errors_are_seen_by_the_second_step() -> None:
    outcomes = simulate(BY_NAME["2 % errors"], 10)
    assert {outcome.action for outcome in outcomes} == {Action.ROLL_BACK}
    assert max(outcome.step for outcome in outcomes) <= 1


def test_twice_as_slow_is_seen_in_150_requests_without_mirroring() -> None:
    case = replace(LAST, mirrored=False, last=False)
    verdict = Judge().after_step(answered(2850), answered(150, ms=10.0), case)
    assert verdict.action is Action.ROLL_BACK
    assert "latency: median latency 11.3 ms against 5.7 ms (p < 1e-12)" in verdict.reason


def test_better_challenger_is_promoted() -> None:
    count = actions(replace(BY_NAME["4 points better"], rate=300.0), 20)
    assert count[Action.PROMOTE] >= 18


def test_a_challenger_that_is_worse_where_labels_are_known_is_rolled_back_at_once() -> None:
    worse = replace(BETTER, p_value=1.0, p_worse=1e-9, disagreement=0.95)
    verdict = Judge().during_step(answered(10), answered(1), replace(LAST, held_out=worse))
    assert verdict.action is Action.ROLL_BACK
    assert "worse than version 1 on 1,000 rows" in verdict.reason
    elsewhere = replace(worse, compared_with="0")
    verdict = Judge().during_step(answered(10), answered(1), replace(LAST, held_out=elsewhere))
    assert verdict.action is Action.CONTINUE


def test_a_quarter_slower_is_put_up_with() -> None:
    challenger = answered(1000, ms=6.2) + compared(100, 0.08)
    assert Judge().after_step(answered(1000), challenger, LAST).action is Action.PROMOTE


def test_promotion_needs_a_comparison_with_the_present_champion() -> None:
    case = replace(LAST, held_out=replace(BETTER, compared_with="0"))
    challenger = answered(1000) + compared(100, 0.08)
    verdict = Judge().after_step(answered(1000), challenger, case)
    assert verdict.action is Action.PAUSE
    assert "it was compared with version 0" in verdict.reason


def test_a_version_without_a_comparison_is_never_promoted() -> None:
    held_out = HeldOut.from_tags({})
    challenger = answered(1000) + compared(100, 0.2)
    verdict = Judge().after_step(answered(1000), challenger, replace(LAST, held_out=held_out))
    assert verdict.action is Action.PAUSE
    assert "it was compared with none" in verdict.reason


def test_too_few_compared_texts_pause_and_say_how_many_are_needed() -> None:
    challenger = answered(1000) + compared(7, 0.0)
    verdict = Judge().after_step(answered(1000), challenger, LAST)
    assert verdict.action is Action.PAUSE
    assert "7 of the 50 mirrored texts needed" in verdict.reason


def test_a_few_slow_requests_do_not_roll_back_but_a_slow_tail_does() -> None:
    champion, steady = answered(3000), answered(295) + compared(100, 0.08)
    judge = Judge()
    assert judge.after_step(champion, steady + answered(2, ms=900), LAST).action is Action.PROMOTE
    verdict = judge.after_step(champion, steady + answered(20, ms=900), LAST)
    assert verdict.action is Action.ROLL_BACK
    assert "tail latency" in verdict.reason


def test_labels_that_drift_are_noticed_without_mirroring() -> None:
    case = replace(LAST, mirrored=False)
    verdict = Judge().after_step(answered(3000), answered(300, good=0.1), case)
    assert verdict.action is Action.ROLL_BACK
    assert "label drift: labels 50.0% apart" in verdict.reason


def test_nothing_seen_yet_is_no_reason_to_act() -> None:
    nothing = answered(0)
    assert Judge().during_step(nothing, nothing, LAST).action is Action.CONTINUE


@pytest.mark.parametrize("hits", [0, 1, 7, 60, 400, 1500])
def test_the_tails_are_those_of_scipy(hits: int) -> None:
    close = partial(pytest.approx, rel=1e-6, abs=1e-12)
    assert above(hits, 2000, 0.03) == close(stats.binom.sf(hits - 1, 2000, 0.03))
    assert upper_bound(hits, 2000, 0.95) == close(stats.beta.ppf(0.95, hits + 1, 2000 - hits))


def test_the_binomial_tail_and_its_bound_agree() -> None:
    assert above(3, 3, 0.5) == pytest.approx(0.125)
    assert above(0, 3, 0.5) == 1.0
    bound = upper_bound(5, 100, 0.99)
    assert 1 - above(6, 100, bound) == pytest.approx(0.01)
