"""The state of a canary, as it is stored in a tag of its model and read again after a restart."""

import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import Enum
from typing import Any

from control_plane.canary.findings import Finding
from control_plane.canary.judge import Case, Rules
from control_plane.fleet.slot_stats import KeyBucket, SlotStats
from control_plane.topology import Split
from service_kit.errors import InvalidArgument
from service_kit.histogram import quantile_ms
from service_kit.model_registry.records import RegisteredModel

MAX_STEPS = 20
MAX_STEP_SECONDS = 86_400


class CanaryState(Enum):
    """The values are those of mesh.v1.CanaryState."""

    RUNNING = 1
    PROMOTED = 2
    ROLLED_BACK = 3
    PAUSED = 4
    STOPPED = 5


@dataclass(frozen=True)
class Plan:
    """The plan of a canary, as its caller set it."""

    steps: tuple[int, ...]
    """Shares of the Challenger, percent."""

    step_seconds: float
    mirror_percent: int = 0

    def check(self) -> None:
        """Raise InvalidArgument, naming the rule, if the plan breaks one."""
        steps = self.steps
        if not 1 <= len(steps) <= MAX_STEPS:
            raise InvalidArgument("steps", f"has {len(steps)} steps; it must have 1 to {MAX_STEPS}")
        for index, step in enumerate(steps):
            if not 1 <= step <= 99:
                raise InvalidArgument(f"steps[{index}]", f"is {step}; it must be 1 to 99 percent")
            if index and step <= steps[index - 1]:
                raise InvalidArgument(
                    f"steps[{index}]", f"is {step}; it must be above {steps[index - 1]}"
                )
        if not 1 <= self.step_seconds <= MAX_STEP_SECONDS:
            raise InvalidArgument(
                "step_seconds", f"is {self.step_seconds:g}; it must be 1 to {MAX_STEP_SECONDS:,}"
            )
        if not 0 <= self.mirror_percent <= 100:
            raise InvalidArgument(
                "mirror_percent", f"is {self.mirror_percent}; it must be 0 to 100"
            )

    def split(self, step: int) -> Split:
        """Return the traffic split of a step, which is numbered from 0."""
        return Split(100 - self.steps[step], self.steps[step], self.mirror_percent)


@dataclass(frozen=True)
class Side:
    """The numbers of one side of a comparison."""

    answered: int = 0
    failed: int = 0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    labels: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, stats: KeyBucket) -> "Side":
        """Take the part of the numbers that callers are shown."""
        p50, p99 = (quantile_ms(stats.latency, share) for share in (0.5, 0.99))
        return cls(stats.answered, stats.failed, p50, p99, dict(stats.labels))


@dataclass(frozen=True)
class Comparison:
    """The latest look at the numbers of both sides, and the tests of it."""

    champion: Side
    challenger: Side
    compared_texts: int = 0
    disagreed_texts: int = 0
    allowed_disagreement: float = 0.0
    tests: tuple[Finding, ...] = ()

    @classmethod
    def of(
        cls, champion: SlotStats, challenger: SlotStats, findings: tuple[Finding, ...], case: Case,
        rules: Rules,
    ) -> "Comparison":  # fmt: skip
        """Put together the numbers that were judged and the findings."""
        return cls(
            Side.of(champion.total),
            Side.of(challenger.total),
            challenger.total.agreed + challenger.total.disagreed,
            challenger.total.disagreed,
            rules.allowed_disagreement(case.held_out, case.champion_version),
            findings,
        )


@dataclass(frozen=True)
class Canary:
    """The state of one canary: a Challenger's trial on live traffic."""

    request_id: str
    model: str
    version: str
    champion: str
    plan: Plan
    started_at: datetime
    updated_at: datetime
    state: CanaryState = CanaryState.RUNNING
    step: int = 0
    """Number of the current step, from 0."""

    begun: int = 0
    """How many times the current step was begun: again after a crash of the control plane."""

    weight: int = 0
    """Current share of the Challenger, percent."""

    reason: str = ""
    comparison: Comparison | None = None
    created_at: int = 0
    """When its model was created, as RegisteredModel has it; 0: unknown."""

    def concerns(self, model: RegisteredModel) -> bool:
        """Return whether it is a canary of this model, and not of an earlier one of its name."""
        return not self.created_at or self.created_at == model.created_at

    def now(self, at: datetime, **changes: Any) -> "Canary":
        """Return a copy with these changes, made at this time."""
        return replace(self, updated_at=at, **changes)

    def to_json(self) -> str:
        """Write the value of the tag, without the comparison: the next look brings a new one."""
        return json.dumps(
            {
                "request_id": self.request_id,
                "version": self.version,
                "champion": self.champion,
                "steps": self.plan.steps,
                "step_seconds": self.plan.step_seconds,
                "mirror_percent": self.plan.mirror_percent,
                "started_at": self.started_at.isoformat(),
                "updated_at": self.updated_at.isoformat(),
                "state": self.state.name,
                "step": self.step,
                "begun": self.begun,
                "weight": self.weight,
                "reason": self.reason,
                "created_at": self.created_at,
            }
        )

    @classmethod
    def from_json(cls, model: str, text: str) -> "Canary":
        """Read the value of the tag, as `to_json` wrote it."""
        values = json.loads(text)
        return cls(
            values["request_id"],
            model,
            values["version"],
            values["champion"],
            Plan(tuple(values["steps"]), values["step_seconds"], values["mirror_percent"]),
            datetime.fromisoformat(values["started_at"]).astimezone(UTC),
            datetime.fromisoformat(values["updated_at"]).astimezone(UTC),
            CanaryState[values["state"]],
            values["step"],
            values.get("begun", 0),
            values["weight"],
            values["reason"],
            created_at=values.get("created_at", 0),
        )
