"""Decides between a challenger and the Champion; pure.

It uses the exact McNemar test. Only held-out rows that exactly one of the two models gets right
tell them apart; if the challenger were no better, it would win each of these rows with a
probability of one half at most. The mid-p variant of the test has more power, but the same
held-out rows judge one challenger after another, and the exact test never promotes by chance more
often than its p-value says.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from scipy.special import bdtrc  # scipy.stats has the whole test, but takes 1.2 s to import


class Outcome(StrEnum):
    """As in mesh.v1.DecisionOutcome, without its prefix."""

    PROMOTED = "PROMOTED"
    KEPT = "KEPT"
    INCONCLUSIVE = "INCONCLUSIVE"


@dataclass(frozen=True)
class Decision:
    """The decision with its evidence; accuracies, p_value and disagreement are 0..1."""

    outcome: Outcome
    reason: str
    champion_version: str
    champion_accuracy: float
    challenger_accuracy: float
    p_value: float
    disagreement: float = 0.0
    """Share of the held-out rows that the two models answer differently."""
    held_out_rows: int = 0
    p_worse: float = 1.0
    """p-value of the opposite one-sided test, that the Champion is better."""


def decide(
    challenger: Sequence[bool],
    champion: Sequence[bool] | None,
    champion_version: str,
    *,
    p_value_limit: float,
    promote: bool = True,
    disagreement: float = 0.0,
) -> Decision:
    """Decide by the held-out rows: item i of `challenger` and of `champion` says whether that model
    got row i right. `champion` is None when the model has no Champion.

    With `promote` False a challenger that would be promoted is KEPT, to be tried by a canary.
    """
    accuracy = _share(challenger)
    on_trial = "" if promote else "; registered as Challenger only, as asked"
    winner = Outcome.PROMOTED if promote else Outcome.KEPT
    rows = f"on {len(challenger):,} held-out rows"
    if champion is None:
        return Decision(
            winner,
            f"first version: {accuracy:.3f} {rows}{on_trial}",
            champion_version="",
            champion_accuracy=0.0,
            challenger_accuracy=accuracy,
            p_value=0.0,
            held_out_rows=len(challenger),
        )
    champion_accuracy = _share(champion)
    p_value = paired_p_value(challenger, champion)
    compared = f"{accuracy:.3f} against {champion_accuracy:.3f} {rows}"
    if sum(challenger) <= sum(champion):
        outcome, reason = Outcome.KEPT, f"not better: {compared}"
    elif p_value > p_value_limit:
        outcome = Outcome.INCONCLUSIVE
        reason = f"{compared}, p = {p_value:.2g}, above {p_value_limit:g}: may be chance"
    else:
        outcome, reason = winner, f"{compared}, p = {p_value:.2g}"
    return Decision(
        outcome,
        reason + on_trial,
        champion_version,
        champion_accuracy,
        accuracy,
        p_value,
        disagreement,
        len(challenger),
        paired_p_value(champion, challenger),
    )


def paired_p_value(challenger: Sequence[bool], champion: Sequence[bool]) -> float:
    """One-sided p-value of the test that the challenger is better; 1 when the two never differ."""
    pairs = list(zip(challenger, champion, strict=True))
    wins = sum(new and not old for new, old in pairs)
    losses = sum(old and not new for new, old in pairs)
    if wins + losses == 0:
        return 1.0
    # The chance of at least `wins` heads in wins + losses throws of a fair coin.
    return float(bdtrc(wins - 1, wins + losses, 0.5))


def _share(right: Sequence[bool]) -> float:
    return sum(right) / len(right)
