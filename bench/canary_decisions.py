"""The decisions of a canary about Challengers of a given quality, in a simulation with a seed.

    python -m bench.canary_decisions

Each run draws the held-out comparison and the live requests of a whole canary (5, 25, 50 %; 30 s a
step; 10 % mirrored). As in the control plane the judge sees them every second and at the end of
each step.
"""

import argparse
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.special import bdtrc

from control_plane.canary.held_out import HeldOut
from control_plane.canary.judge import Action, Case, Judge
from control_plane.fleet.slot_stats import SlotStats
from service_kit.histogram import BUCKETS, LEAST_MS, PER_DOUBLING

STEPS = (5, 25, 50)
STEP_SECONDS = 30
MIRROR = 0.10
HELD_OUT_ROWS = 1_000
LABELS = ("negative", "positive")
SEED = 20_260


@dataclass(frozen=True)
class Scenario:
    """A Challenger beside a Champion that is right on 90 % of the rows."""

    name: str
    gain: float = 0.0
    """Accuracy above the Champion's."""

    disagreement: float = 0.08
    """Share of texts that the two answer differently."""

    swapped: bool = False
    """Its labels are exchanged in live answers, but not in those for the held-out rows."""

    slowdown: float = 1.0
    error_rate: float = 0.0005
    rate: float = 100.0
    """Requests a second."""


SCENARIOS = (
    Scenario("equal"),
    Scenario("4 points better", gain=0.04),
    Scenario("labels swapped", gain=0.04, swapped=True),
    Scenario("twice as slow", gain=0.04, slowdown=2.0),
    Scenario("2 % errors", gain=0.04, error_rate=0.02),
    Scenario("better, 1 request a second", gain=0.04, rate=1.0),
)


@dataclass(frozen=True)
class Outcome:
    """The end of one canary: the action, its reason, and the step (from 0) in which it came."""

    action: Action
    step: int
    reason: str


def run_canary(
    scenario: Scenario,
    random: np.random.Generator,
    judge: Judge,
    step_seconds: int = STEP_SECONDS,
) -> Outcome:
    """Simulate one canary to its end."""
    held_out = _held_out(scenario, random)
    for step, weight in enumerate(STEPS):
        last = step == len(STEPS) - 1
        case = Case("1", held_out, len(STEPS), step_seconds, mirrored=True, last=last)
        champion = challenger = SlotStats()
        for _ in range(step_seconds):
            requests = random.poisson(scenario.rate)
            mine = random.binomial(requests, weight / 100)
            mirrored = random.binomial(requests - mine, MIRROR)
            champion += _answers(replace(scenario, slowdown=1, swapped=False, error_rate=0.0005),
                                 requests - mine, random)  # fmt: skip
            challenger += _answers(scenario, mine + mirrored, random)
            challenger += _compared(scenario, mirrored, random)
            verdict = judge.during_step(champion, challenger, case)
            if verdict.action is Action.ROLL_BACK:
                return Outcome(verdict.action, step, verdict.reason)
        verdict = judge.after_step(champion, challenger, case)
        if verdict.action is not Action.CONTINUE:
            return Outcome(verdict.action, step, verdict.reason)
    raise AssertionError("the last step decides")


def _held_out(scenario: Scenario, random: np.random.Generator) -> HeldOut:
    """The paired comparison of the training: rows that exactly one of the two models gets right."""
    wins = (scenario.disagreement + scenario.gain) / 2
    losses = (scenario.disagreement - scenario.gain) / 2
    won, lost, _ = random.multinomial(HELD_OUT_ROWS, (wins, losses, 1 - wins - losses))
    p_value = float(bdtrc(won - 1, won + lost, 0.5)) if won > lost else 1.0
    return HeldOut("1", p_value, (won + lost) / HELD_OUT_ROWS, HELD_OUT_ROWS)


def _answers(scenario: Scenario, requests: int, random: np.random.Generator) -> SlotStats:
    failed = int(random.binomial(requests, scenario.error_rate))
    answered = requests - failed
    compute_ms = 4 * scenario.slowdown * random.lognormal(0, 0.3, answered)
    latency_ms = compute_ms + random.exponential(2.0, answered)
    positive = int(random.binomial(answered, 0.4 if scenario.swapped else 0.6))
    return SlotStats(
        answered=answered,
        failed=failed,
        texts=answered,
        latency=_histogram(latency_ms),
        compute=_histogram(compute_ms),
        labels=dict(zip(LABELS, (answered - positive, positive), strict=True)),
    )


def _compared(scenario: Scenario, texts: int, random: np.random.Generator) -> SlotStats:
    rate = 1 - scenario.disagreement if scenario.swapped else scenario.disagreement
    disagreed = int(random.binomial(texts, rate))
    return SlotStats(compared=texts, agreed=texts - disagreed, disagreed=disagreed)


def _histogram(times_ms: np.ndarray) -> tuple[int, ...]:
    """Counts by bucket, as service_kit.histogram.bucket_of chooses it."""
    buckets = np.ceil(PER_DOUBLING * np.log2(times_ms / LEAST_MS)).clip(0, BUCKETS - 1)
    return tuple(np.bincount(buckets.astype(int)).tolist())


def simulate(
    scenario: Scenario, runs: int, seed: int = SEED, step_seconds: int = STEP_SECONDS
) -> list[Outcome]:
    """Run a scenario `runs` times."""
    random = np.random.default_rng(seed)
    judge = Judge()
    return [run_canary(scenario, random, judge, step_seconds) for _ in range(runs)]


def main() -> None:
    """Simulate every scenario and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200, help="canaries a scenario")
    parser.add_argument("--seed", type=int, default=SEED)
    args = parser.parse_args()
    table = Table(title=f"{args.runs} simulated canaries a row: steps 5, 25, 50 %, 30 s each")
    for column in ("Challenger", "promoted", "rolled back", "at the first step", "paused"):
        table.add_column(column, justify="left" if column == "Challenger" else "right")
    for scenario in SCENARIOS:
        outcomes = simulate(scenario, args.runs, args.seed)
        count = Counter(outcome.action for outcome in outcomes)
        first = sum(o.action is Action.ROLL_BACK and o.step == 0 for o in outcomes)
        table.add_row(
            scenario.name,
            *(
                f"{100 * ended / args.runs:.1f} %"
                for ended in (
                    count[Action.PROMOTE],
                    count[Action.ROLL_BACK],
                    first,
                    count[Action.PAUSE],
                )
            ),
        )
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
