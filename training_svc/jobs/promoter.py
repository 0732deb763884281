"""Carries a decision out: explains it in the version's tags, then moves the aliases."""

from collections.abc import Mapping
from typing import Any, Protocol

from service_kit.model_registry.promotion import Promotions
from service_kit.model_registry.records import (
    TAG_COMPARED_WITH,
    TAG_DISAGREEMENT,
    TAG_HELD_OUT_ROWS,
    TAG_P_VALUE,
    TAG_P_WORSE,
)
from service_kit.model_registry.registry import Registry
from training_svc.jobs.job import Job, Promotion

TAG_DECISION = "mesh.decision"
TAG_REASON = "mesh.decision_reason"


class Promoter(Protocol):
    """Carries decisions out. Every method is idempotent and raises Unavailable while MLflow or
    PostgreSQL is away."""

    async def explain(self, job: Job) -> None:
        """Tag the job's version with its decision, so that no version becomes Champion without an
        explanation. Moves no alias."""

    async def carry_out(self, job: Job) -> None:
        """Move the aliases as the decision asks for.

        Raises Aborted when another version has become Champion since the comparison.
        """

    async def end_run(self, job: Job) -> None:
        """Mark the MLflow run, and the version if there is one, of a job that failed or was
        cancelled as ended without a decision."""


class MlflowPromoter:
    """The real Promoter."""

    def __init__(self, registry: Registry, promotions: Promotions) -> None:
        self._registry = registry
        self._promotions = promotions

    async def explain(self, job: Job) -> None:
        """See Promoter."""
        assert job.decision is not None
        for key, value in _tags(job.decision).items():
            await self._registry.tag_version(job.model, job.version, key, value)

    async def carry_out(self, job: Job) -> None:
        """See Promoter."""
        decision = job.decision
        assert decision is not None
        if decision["outcome"] == "PROMOTED":
            await self._promotions.promote(
                job.model,
                job.version,
                decision["champion_version"],
                serve=job.serve,
                run_id=job.run_id,
            )
        elif decision["outcome"] == "INCONCLUSIVE" or job.promotion is Promotion.CHALLENGER_ONLY:
            await self._promotions.challenge(job.model, job.version)

    async def end_run(self, job: Job) -> None:
        """See Promoter."""
        if job.run_id:
            status = "FAILED" if job.error else "KILLED"
            await self._registry.end_run(job.run_id, status)
        if job.version and job.decision is not None:
            why = f"its training {job.state.lower()} before the decision was carried out"
            await self._registry.tag_version(job.model, job.version, TAG_DECISION, job.state)
            await self._registry.tag_version(job.model, job.version, TAG_REASON, why)


def _tags(decision: Mapping[str, Any]) -> dict[str, str]:
    """The decision and its reason for people, and the numbers by which a canary judges."""
    tags = {TAG_DECISION: decision["outcome"], TAG_REASON: decision["reason"]}
    if decision["champion_version"]:
        tags[TAG_COMPARED_WITH] = decision["champion_version"]
        tags[TAG_P_VALUE] = repr(decision["p_value"])
        # A job that was decided by an older release lacks these.
        if decision.get("held_out_rows"):
            tags[TAG_DISAGREEMENT] = repr(decision["disagreement"])
            tags[TAG_HELD_OUT_ROWS] = str(decision["held_out_rows"])
        if "p_worse" in decision:
            tags[TAG_P_WORSE] = repr(decision["p_worse"])
    return tags
