"""A canary, in the messages of the contract."""

from dataclasses import asdict

from control_plane.canary.findings import Finding
from control_plane.canary.record import Canary, Comparison, Side
from mesh.v1 import reload_pb2


def canary_message(canary: Canary) -> reload_pb2.Canary:
    """Translate a canary."""
    message = reload_pb2.Canary(
        model=canary.model,
        version=canary.version,
        champion_version=canary.champion,
        state=f"CANARY_STATE_{canary.state.name}",
        step=canary.step,
        steps=canary.plan.steps,
        step_seconds=canary.plan.step_seconds,
        mirror_percent=canary.plan.mirror_percent,
        challenger_weight=canary.weight,
        reason=canary.reason,
        comparison=_comparison(canary.comparison) if canary.comparison else None,
        request_id=canary.request_id,
    )
    message.started_at.FromDatetime(canary.started_at)
    message.updated_at.FromDatetime(canary.updated_at)
    return message


def _comparison(comparison: Comparison) -> reload_pb2.CanaryComparison:
    return reload_pb2.CanaryComparison(
        champion=_slice(comparison.champion),
        challenger=_slice(comparison.challenger),
        compared_texts=comparison.compared_texts,
        disagreed_texts=comparison.disagreed_texts,
        allowed_disagreement=comparison.allowed_disagreement,
        tests=[_test(finding) for finding in comparison.tests],
    )


def _test(finding: Finding) -> reload_pb2.CanaryTest:
    return reload_pb2.CanaryTest(
        criterion=finding.criterion,
        p_value=finding.p_value,
        p_value_limit=finding.p_value_limit,
        failed=finding.failed,
        detail=finding.detail,
    )


def _slice(side: Side) -> reload_pb2.CanarySlice:
    return reload_pb2.CanarySlice(**asdict(side))
