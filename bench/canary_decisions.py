"""The decisions of a canary about Challengers of a given quality, in a simulation with a seed.

    python -m bench.canary_decisions

Each run draws the held-out comparison and the live requests of a whole canary (5, 25, 50 %; 30 s a
step; 10 % mirrored). As in the control plane the judge sees them every second and at the end of
each step. An equal Challenger may be rolled back in at most 1 % of canaries (Rules.false_alarms),
whoever the callers are: requests without a key, one caller with a key and 30 % of the traffic whose
texts and times are unlike all others', or a thousand such callers with Zipf's weights.
"""

import argparse
from collections import Counter
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.special import bdtrc

from control_plane.canary.held_out import HeldOut
from control_plane.canary.judge import Action, Case, Judge
from control_plane.fleet.slot_stats import KeyBucket, SlotStats
from service_kit.histogram import BUCKETS, LEAST_MS, PER_DOUBLING

STEPS = (5, 25, 50)
STEP_SECONDS = 30
MIRROR = 0.10
KEY_BUCKETS = 64
HELD_OUT_ROWS = 1_000
LABELS = ("negative", "positive")
SEED = 20_260
ZIPF = tuple((1 / np.arange(1, 1001) / np.sum(1 / np.arange(1, 1001))).tolist())
CHAMPION, CHALLENGER = 0, 1


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

    keys: tuple[float, ...] = ()
    """Shares of the traffic of callers with a key; the rest has no keys."""


SCENARIOS = (
    Scenario("equal"),
    Scenario("equal, one key has 30 %", keys=(0.3,)),
    Scenario("equal, keys by Zipf", keys=ZIPF),
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
    traffic = _Traffic(scenario, random)
    for step, weight in enumerate(STEPS):
        last = step == len(STEPS) - 1
        share = weight / 100
        case = Case("1", held_out, len(STEPS), step_seconds, share, mirrored=True, last=last)
        traffic.begin_step(share)
        for _ in range(step_seconds):
            traffic.pass_second()
            verdict = judge.during_step(*traffic.sides(), case)
            if verdict.action is Action.ROLL_BACK:
                return Outcome(verdict.action, step, verdict.reason)
        verdict = judge.after_step(*traffic.sides(), case)
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


class _Traffic:
    """The requests of one canary; callers with keys differ in all that is tested."""

    def __init__(self, scenario: Scenario, random: np.random.Generator) -> None:
        self._scenario, self._random = scenario, random
        keyed, callers = np.array(scenario.keys), len(scenario.keys)
        # The last caller stands for all requests without a key.
        self._weights = np.append(keyed, max(0.0, 1 - keyed.sum()))
        self._draws = random.random(callers)
        self._hashes = random.integers(KEY_BUCKETS, size=callers)
        self._positive = np.append(random.beta(0.6, 0.4, callers), 0.6)
        self._slowness = np.append(random.lognormal(0, 1, callers), 1.0)
        self._fragility = np.append(random.lognormal(0, 2, callers), 1.0)
        often = scenario.disagreement
        self._disagreement = np.append(random.beta(often, 1 - often, callers), often)
        self.begin_step(0.0)

    def begin_step(self, share: float) -> None:
        """Count from zero, with this share of the Challenger."""
        self._share = share
        self._answered, self._failed, self._agreed, self._disagreed = (
            np.zeros((2, KEY_BUCKETS), int) for _ in range(4)
        )
        self._latency, self._compute = (np.zeros((2, KEY_BUCKETS, BUCKETS), int) for _ in range(2))
        self._labels = np.zeros((2, KEY_BUCKETS, len(LABELS)), int)

    def pass_second(self) -> None:
        """Answer a second's requests."""
        random, scenario, keyed = self._random, self._scenario, len(self._draws)
        requests = random.poisson(scenario.rate)
        caller = random.choice(len(self._weights), requests, p=self._weights)
        draws, hashes = random.random(requests), random.integers(KEY_BUCKETS, size=requests)
        known = caller < keyed
        draws[known], hashes[known] = self._draws[caller[known]], self._hashes[caller[known]]
        side = np.where(draws < self._share, CHALLENGER, CHAMPION)
        error_rate = np.where(side, scenario.error_rate, 0.0005) * self._fragility[caller]
        failed = random.random(requests) < error_rate
        positive = random.random(requests) < self._positive[caller]
        if scenario.swapped:
            positive ^= side == CHALLENGER
        slowness = self._slowness[caller] * np.where(side, scenario.slowdown, 1.0)
        compute_ms = 4 * slowness * random.lognormal(0, 0.3, requests)
        latency_ms = compute_ms + random.exponential(2.0, requests)
        np.add.at(self._failed, (side[failed], hashes[failed]), 1)
        side, hashes, caller = side[~failed], hashes[~failed], caller[~failed]
        np.add.at(self._answered, (side, hashes), 1)
        np.add.at(self._latency, (side, hashes, _buckets(latency_ms[~failed])), 1)
        np.add.at(self._compute, (side, hashes, _buckets(compute_ms[~failed])), 1)
        np.add.at(self._labels, (side, hashes, positive[~failed].astype(int)), 1)
        # Envoy copies requests of both sides.
        mirrored = random.random(len(side)) < MIRROR
        disagrees = random.random(len(side)) < self._disagreement[caller]
        if scenario.swapped:
            disagrees = ~disagrees
        for counts, chosen in ((self._agreed, ~disagrees), (self._disagreed, disagrees)):
            np.add.at(counts[CHALLENGER], hashes[mirrored & chosen], 1)

    def sides(self) -> tuple[SlotStats, SlotStats]:
        """The numbers of Champion and Challenger."""
        champion, challenger = (self._side(side) for side in (CHAMPION, CHALLENGER))
        return champion, challenger

    def _side(self, side: int) -> SlotStats:
        counts = (self._answered, self._failed, self._latency, self._compute, self._labels,
                  self._agreed, self._disagreed)  # fmt: skip
        rows = zip(*(table[side].tolist() for table in counts), strict=True)
        return SlotStats(
            tuple(
                KeyBucket(answered, failed, tuple(latency), tuple(compute),
                          dict(zip(LABELS, labels, strict=True)), agreed, disagreed)
                for answered, failed, latency, compute, labels, agreed, disagreed in rows
            )
        )  # fmt: skip


def _buckets(times_ms: np.ndarray) -> np.ndarray:
    """Buckets as service_kit.histogram.bucket_of chooses them."""
    buckets = np.ceil(PER_DOUBLING * np.log2(times_ms / LEAST_MS)).clip(0, BUCKETS - 1)
    return np.asarray(buckets, int)


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
