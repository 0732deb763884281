"""Judges a Challenger's share of the traffic against the Champion's; pure.

Envoy gives requests to the two versions at random in the same minutes, so a disturbance of the
fleet hits both. Each test asks whether the difference between them can be chance.

A canary looks many times: every second for catastrophes, and at the end of each step. Its budget
of false alarms is divided by all these looks and tests (Bonferroni), half of it among the ends of
steps and half among the seconds. So an equal Challenger is rolled back by chance in at most
`false_alarms` of all canaries, however long they last. Promotion needs no such division: it is
decided once, by the comparison on held-out rows, and further looks do not change that comparison.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from control_plane.canary.held_out import HeldOut
from control_plane.canary.significance import above, drifted, more_often, slower
from control_plane.fleet.slot_stats import SlotStats
from service_kit.histogram import quantile_bucket, quantile_ms

# Tests of a look at the live numbers.
TESTS = 6
# Smaller p-values are shown as "below" this one: sums of small numbers are not exact there.
LEAST_SHOWN = 1e-12


class Action(StrEnum):
    """The next action of a canary."""

    CONTINUE = "continue"
    ROLL_BACK = "roll_back"
    PAUSE = "pause"
    PROMOTE = "promote"


@dataclass(frozen=True)
class Rules:
    """Limits of the judge."""

    false_alarms: float = 0.01
    """Share of canaries of an equal Challenger that may be rolled back by chance."""

    canary_p_value: float = 0.025
    """Largest p-value of the comparison on held-out rows with which a Challenger is promoted. It is
    half of the training's limit, so that of a few hundred canaries of equal Challengers no more
    than 5 % end in a promotion."""

    slower_buckets: int = 2
    """Tolerated latency, in quarters of a doubling: 2 means 1.41 times the Champion's."""

    least_answered: int = 100
    """Requests that each side must have answered in a step."""

    least_compared: int = 50
    """Mirrored texts that both sides must have answered in a step, if requests are mirrored."""

    least_ranked: int = 30
    """Requests that each side needs before its latency is tested."""

    confidence: float = 0.99
    """Confidence of the bound on the disagreement that the held-out rows leave plausible."""

    more_disagreement: float = 0.05
    """Added to that bound, since live texts differ from the held-out rows."""

    unknown_disagreement: float = 0.25
    """The bound when the two versions were never compared."""

    def allowed_disagreement(self, held_out: HeldOut, champion: str) -> float:
        """Return the share of texts that the two versions may answer differently, 0..1."""
        bound = held_out.most_disagreement(champion, self.confidence)
        if bound is None:
            return self.unknown_disagreement
        return min(1.0, bound + self.more_disagreement)


@dataclass(frozen=True)
class Case:
    """The situation in which the numbers are judged."""

    champion_version: str
    held_out: HeldOut
    steps: int = 1
    looks_a_step: int = 1
    mirrored: bool = True
    last: bool = False
    """This is the canary's last step."""


@dataclass(frozen=True)
class Finding:
    """The result of one test. `p_value` is the chance of such numbers from an equal Challenger."""

    criterion: str
    p_value: float
    p_value_limit: float
    material: bool
    """The difference is large enough to matter."""

    detail: str

    @property
    def failed(self) -> bool:
        """Whether the difference matters and cannot be chance."""
        return self.material and self.p_value <= self.p_value_limit


@dataclass(frozen=True)
class Verdict:
    """The next action, with its reason in words and numbers."""

    action: Action
    reason: str
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class Judge:
    """Applies the rules."""

    rules: Rules = field(default_factory=Rules)

    def during_step(self, champion: SlotStats, challenger: SlotStats, case: Case) -> Verdict:
        """Judge a step that is under way: roll back in a catastrophe, else continue."""
        findings = self._findings(champion, challenger, case, case.steps * case.looks_a_step)
        failed = [finding for finding in findings if finding.failed]
        if failed:
            return Verdict(Action.ROLL_BACK, _failures(failed), findings)
        return Verdict(Action.CONTINUE, "under way", findings)

    def after_step(self, champion: SlotStats, challenger: SlotStats, case: Case) -> Verdict:
        """Judge a whole step. Only this decides on promotion and pause."""
        findings = self._findings(champion, challenger, case, case.steps)
        failed = [finding for finding in findings if finding.failed]
        if failed:
            return Verdict(Action.ROLL_BACK, _failures(failed), findings)
        missing = self._missing(champion, challenger, case)
        if missing:
            return Verdict(Action.PAUSE, f"too few to judge by: {missing}", findings)
        passed = "; ".join(finding.detail for finding in findings)
        if not case.last:
            return Verdict(Action.CONTINUE, f"passed: {passed}", findings)
        proven, evidence = self._evidence(case)
        action = Action.PROMOTE if proven else Action.PAUSE
        return Verdict(action, f"{evidence}; live: {passed}", findings)

    def _evidence(self, case: Case) -> tuple[bool, str]:
        """Return whether the Challenger is known to be better, and why.

        Only held-out rows can tell, since live texts have no true labels.
        """
        held_out, champion = case.held_out, case.champion_version
        if held_out.compared_with != champion:
            compared = f"version {held_out.compared_with}" if held_out.compared_with else "none"
            return False, (
                f"not known to be better than version {champion}: it was compared with {compared} "
                "on held-out rows"
            )
        limit = self.rules.canary_p_value
        comparison = f"p = {held_out.p_value:.2g} on {held_out.rows:,} held-out rows"
        if held_out.p_value > limit:
            return False, f"no worse, but not known to be better: {comparison}, above {limit:g}"
        return True, f"better than version {champion}: {comparison}"

    def _missing(self, champion: SlotStats, challenger: SlotStats, case: Case) -> str:
        rules = self.rules
        missing = [
            f"the {name} answered {side.answered:,} of the {rules.least_answered:,} requests needed"
            for name, side in (("Challenger", challenger), ("Champion", champion))
            if side.answered < rules.least_answered
        ]
        compared = challenger.agreed + challenger.disagreed
        if case.mirrored and compared < rules.least_compared:
            missing.append(
                f"{compared:,} of the {rules.least_compared:,} mirrored texts needed were compared"
                f" ({challenger.not_compared:,} requests left out for want of time)"
            )
        return ", ".join(missing)

    def _findings(
        self, champion: SlotStats, challenger: SlotStats, case: Case, looks: int
    ) -> tuple[Finding, ...]:
        limit = self.rules.false_alarms / 2 / (looks * TESTS)
        allowed = self.rules.allowed_disagreement(case.held_out, case.champion_version)
        findings = [*self._held_out(case), _errors(champion, challenger, limit)]
        findings += self._latency(champion, challenger, limit)
        findings += _agreement(challenger, allowed, limit)
        findings += _drift(champion, challenger, allowed, limit)
        return tuple(findings)

    def _held_out(self, case: Case) -> Iterator[Finding]:
        """Find a Challenger that is worse on held-out rows; no live number can make up for that."""
        held_out = case.held_out
        if held_out.compared_with == case.champion_version:
            detail = f"worse than version {case.champion_version} on {held_out.rows:,} rows"
            limit = self.rules.false_alarms / 2
            if held_out.p_worse <= limit:
                yield Finding("held-out rows", held_out.p_worse, limit, True, detail)

    def _latency(
        self, champion: SlotStats, challenger: SlotStats, limit: float
    ) -> Iterator[Finding]:
        if min(sum(champion.latency), sum(challenger.latency)) < self.rules.least_ranked:
            return
        shift = self.rules.slower_buckets
        for criterion, times, others in (
            ("latency", challenger.latency, champion.latency),
            ("computation", challenger.compute, champion.compute),
        ):
            compared = f"{quantile_ms(times, 0.5):.1f} ms against {quantile_ms(others, 0.5):.1f} ms"
            p_value = slower(times, others, shift)
            yield Finding(criterion, p_value, limit, True, f"median {criterion} {compared}")
        yield self._tail(champion.latency, challenger.latency, limit)

    def _tail(self, others: tuple[int, ...], times: tuple[int, ...], limit: float) -> Finding:
        pooled = (SlotStats(latency=others) + SlotStats(latency=times)).latency
        # The bound of slow requests is the p99 of both sides together: a bound from one side alone
        # would favour that side.
        slow = quantile_bucket(pooled, 0.99) + 1
        p_value = more_often(sum(times[slow:]), sum(times), sum(others[slow:]), sum(others))
        worse = quantile_bucket(times, 0.99) - quantile_bucket(others, 0.99)
        compared = f"{quantile_ms(times, 0.99):.1f} ms against {quantile_ms(others, 0.99):.1f} ms"
        material = worse >= self.rules.slower_buckets
        return Finding("tail latency", p_value, limit, material, f"p99 latency {compared}")


def _errors(champion: SlotStats, challenger: SlotStats, limit: float) -> Finding:
    of, other_of = (side.answered + side.failed for side in (challenger, champion))
    p_value = more_often(challenger.failed, of, champion.failed, other_of)
    detail = f"{challenger.failed:,} of {of:,} failed against {champion.failed:,} of {other_of:,}"
    return Finding("errors", p_value, limit, True, detail)


def _agreement(challenger: SlotStats, allowed: float, limit: float) -> Iterator[Finding]:
    texts = challenger.agreed + challenger.disagreed
    if not texts:
        return
    # In the worst case all texts of a request are alike, so requests are counted and not texts.
    requests = min(challenger.compared, texts)
    p_value = above(round(challenger.disagreed * requests / texts), requests, allowed)
    detail = (
        f"{challenger.disagreed:,} of {texts:,} mirrored texts ({challenger.disagreed / texts:.1%})"
        f" answered differently, {allowed:.1%} allowed"
    )
    yield Finding("agreement", p_value, limit, challenger.disagreed > allowed * texts, detail)


def _drift(
    champion: SlotStats, challenger: SlotStats, allowed: float, limit: float
) -> Iterator[Finding]:
    if not champion.texts or not challenger.texts:
        return
    names = champion.labels.keys() | challenger.labels.keys()
    # The distance is never larger than the share of texts that the two would answer differently.
    distance = 0.5 * sum(
        abs(
            challenger.labels.get(name, 0) / challenger.texts
            - champion.labels.get(name, 0) / champion.texts
        )
        for name in names
    )
    p_value = drifted(
        challenger.labels,
        champion.labels,
        challenger.answered / challenger.texts,
        champion.answered / champion.texts,
    )
    detail = f"labels {distance:.1%} apart"
    yield Finding("label drift", p_value, limit, distance > allowed, detail)


def _failures(findings: list[Finding]) -> str:
    return "; ".join(
        f"{finding.criterion}: {finding.detail} (p {_chance(finding.p_value)})"
        for finding in findings
    )


def _chance(p_value: float) -> str:
    """Return a p-value for people."""
    return f"= {p_value:.2g}" if p_value >= LEAST_SHOWN else f"< {LEAST_SHOWN:g}"
