"""Judges a Challenger's share of the traffic against the Champion's; pure.

Envoy deals keys (x-mesh-key; a request without one is dealt on its own) to the two versions at
random in the same minutes, so a disturbance of the fleet hits both. Each test asks whether the
difference between them can be chance, see by_keys.

A canary looks many times: every second for catastrophes, and at the end of each step. Its budget
of false alarms is divided among all of this (Bonferroni), so an equal Challenger is rolled back by
chance in at most `false_alarms` of all canaries, however long they last: a fifth goes to the
comparison on held-out rows, two fifths to the ends of steps and two fifths to the seconds. These
are divided by steps, looks and tests, and a step that a crash of the control plane made begin anew
has half of what it had before: 1/2 + 1/4 + 1/8 and so on of its part. Promotion needs no such
division: it is decided once, by the comparison on held-out rows, and further looks do not change
that comparison.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from control_plane.canary.by_keys import shares_of
from control_plane.canary.findings import Finding, agreement, drift, errors, latency
from control_plane.canary.held_out import HeldOut
from control_plane.fleet.slot_stats import SlotStats

# Tests of a look at the live numbers.
TESTS = 6
# Parts of the budget of false alarms; together 1.
HELD_OUT_PART, ENDS_PART, LOOKS_PART = 0.2, 0.4, 0.4
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
    """Requests dealt to each side that it must have answered in a step."""

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
    share: float = 0.05
    """Chance with which Envoy deals a key to the Challenger."""

    begun: int = 1
    """How many times this step was begun: once, and again after each crash."""

    mirrored: bool = True
    last: bool = False
    """This is the canary's last step."""


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
        findings = self._findings(champion, challenger, case, LOOKS_PART / case.looks_a_step)
        failed = [finding for finding in findings if finding.failed]
        if failed:
            return Verdict(Action.ROLL_BACK, _failures(failed), findings)
        return Verdict(Action.CONTINUE, "under way", findings)

    def after_step(self, champion: SlotStats, challenger: SlotStats, case: Case) -> Verdict:
        """Judge a whole step. Only this decides on promotion and pause."""
        findings = self._findings(champion, challenger, case, ENDS_PART)
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
            f"the {name} answered {side.total.answered:,} of the {rules.least_answered:,} requests "
            "needed that the split dealt to it"
            for name, side in (("Challenger", challenger), ("Champion", champion))
            if side.total.answered < rules.least_answered
        ]
        compared = challenger.total.agreed + challenger.total.disagreed
        if case.mirrored and compared < rules.least_compared:
            missing.append(
                f"{compared:,} of the {rules.least_compared:,} mirrored texts needed were compared"
                f" ({challenger.not_compared:,} requests left out for want of time)"
            )
        return ", ".join(missing)

    def _findings(
        self, champion: SlotStats, challenger: SlotStats, case: Case, part: float
    ) -> tuple[Finding, ...]:
        # `part` of the budget belongs to this kind of look in all steps.
        budget = self.rules.false_alarms * part / case.steps / 2**case.begun
        limit = budget / TESTS
        allowed = self.rules.allowed_disagreement(case.held_out, case.champion_version)
        shares = shares_of(case.share, challenger, champion)
        findings = [*self._held_out(case), errors(champion, challenger, shares, limit)]
        if min(champion.total.answered, challenger.total.answered) >= self.rules.least_ranked:
            tolerated = self.rules.slower_buckets
            findings += latency(champion, challenger, tolerated, shares, limit)
        findings += agreement(challenger, allowed, limit)
        findings += drift(champion, challenger, shares, allowed, limit)
        return tuple(findings)

    def _held_out(self, case: Case) -> Iterator[Finding]:
        """Find a Challenger that is worse on held-out rows; no live number can make up for that."""
        held_out = case.held_out
        if held_out.compared_with == case.champion_version:
            detail = f"worse than version {case.champion_version} on {held_out.rows:,} rows"
            limit = self.rules.false_alarms * HELD_OUT_PART
            if held_out.p_worse <= limit:
                yield Finding("held-out rows", held_out.p_worse, limit, True, detail)


def _failures(findings: list[Finding]) -> str:
    return "; ".join(
        f"{finding.criterion}: {finding.detail} (p {_chance(finding.p_value)})"
        for finding in findings
    )


def _chance(p_value: float) -> str:
    """Return a p-value for people."""
    return f"= {p_value:.2g}" if p_value >= LEAST_SHOWN else f"< {LEAST_SHOWN:g}"
