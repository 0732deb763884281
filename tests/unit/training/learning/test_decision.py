"""The decision between challenger and Champion, and when the held-out rows cannot tell."""

import pytest
from scipy.stats import binomtest

from training_svc.learning.promotion_decision import Decision, Outcome, decide, paired_p_value


def rights(wins: int, losses: int, both: int = 50) -> tuple[list[bool], list[bool]]:
    """Whether challenger and Champion are right, row by row; `both` rows both get right."""
    challenger = [True] * wins + [False] * losses + [True] * both
    champion = [False] * wins + [True] * losses + [True] * both
    return challenger, champion


def decided(wins: int, losses: int, promote: bool = True) -> Decision:
    challenger, champion = rights(wins, losses)
    return decide(challenger, champion, "3", p_value_limit=0.05, promote=promote)


def test_first_version_is_promoted() -> None:
    decision = decide([True, False], None, "", p_value_limit=0.05)
    assert decision.outcome is Outcome.PROMOTED
    assert decision.reason == "first version: 0.500 on 2 held-out rows"
    assert decision.champion_version == ""


def test_clearly_better_challenger_is_promoted() -> None:
    decision = decided(wins=20, losses=2)
    assert decision.outcome is Outcome.PROMOTED
    assert decision.champion_version == "3"
    assert decision.challenger_accuracy == pytest.approx(70 / 72)
    assert decision.champion_accuracy == pytest.approx(52 / 72)
    assert decision.reason == "0.972 against 0.722 on 72 held-out rows, p = 6.1e-05"


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (5, 5), (0, 1), (3, 40)])
def test_challenger_that_is_not_better_leaves_the_champion(wins: int, losses: int) -> None:
    decision = decided(wins, losses)
    assert decision.outcome is Outcome.KEPT
    assert decision.reason.startswith("not better: ")


@pytest.mark.parametrize(("wins", "losses"), [(1, 0), (4, 0), (6, 3)])
def test_gain_that_may_be_chance_is_inconclusive(wins: int, losses: int) -> None:
    decision = decided(wins, losses)
    assert decision.outcome is Outcome.INCONCLUSIVE
    assert "above 0.05: may be chance" in decision.reason


def test_five_wins_without_a_loss_are_the_least_that_promotes() -> None:
    assert decided(wins=5, losses=0).p_value == pytest.approx(0.5**5)
    assert decided(wins=5, losses=0).outcome is Outcome.PROMOTED


def test_p_value_at_the_limit_promotes() -> None:
    challenger, champion = rights(wins=5, losses=0)
    decision = decide(challenger, champion, "3", p_value_limit=0.5**5)
    assert decision.outcome is Outcome.PROMOTED


def test_p_value_is_that_of_the_exact_one_sided_test() -> None:
    # Of 5 rows that differ at least 4 wins: (5 + 1) / 2^5.
    assert paired_p_value(*rights(wins=4, losses=1)) == pytest.approx(6 / 32)


@pytest.mark.parametrize(("wins", "losses"), [(1, 0), (0, 1), (7, 3), (120, 90), (900, 850)])
def test_p_value_agrees_with_scipys_test(wins: int, losses: int) -> None:
    expected = binomtest(wins, wins + losses, 0.5, alternative="greater").pvalue
    assert paired_p_value(*rights(wins, losses)) == pytest.approx(expected)


def test_models_that_never_differ_have_p_value_one() -> None:
    assert paired_p_value([True, False], [True, False]) == 1.0


def test_rows_must_be_paired() -> None:
    with pytest.raises(ValueError, match="longer"):
        paired_p_value([True], [True, False])


def test_better_challenger_is_kept_for_a_trial_when_it_is_not_to_be_promoted() -> None:
    decision = decided(wins=20, losses=2, promote=False)
    assert decision.outcome is Outcome.KEPT
    assert decision.reason.endswith("; registered as Challenger only, as asked")
