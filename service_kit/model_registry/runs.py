"""The MLflow runs of trainings that nothing needs any more."""

from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import Any

from service_kit.errors import NotFound
from service_kit.model_registry.mlflow_api import MlflowApi
from service_kit.model_registry.records import TAG_JOB_ID

_PAGE = 100


class Runs:
    """Every method raises Unavailable while MLflow is away."""

    def __init__(self, api: MlflowApi) -> None:
        self._api = api

    async def unused(self, model: str, before_ms: int, most: int) -> list[str]:
        """Return at most `most` ids of runs that began before a time and no version refers to.

        They are runs of the mesh's own trainings of a model, whose MLflow experiment has its name.
        before_ms: milliseconds since 1970. Runs that have not ended are not among them.
        """
        found: list[str] = []
        async for run in self._ended_runs(model, before_ms):
            run_id = run["info"]["run_id"]
            tags = {tag["key"] for tag in run["data"].get("tags", [])}
            if TAG_JOB_ID in tags and not await self._has_versions(run_id):
                found.append(run_id)
            if len(found) == most:
                break
        return found

    async def delete(self, run_id: str) -> None:
        """Mark a run as deleted, if it exists. `mlflow gc` removes it for good later."""
        with suppress(NotFound):
            await self._api.call("POST", "runs/delete", {"run_id": run_id})

    async def _ended_runs(self, model: str, before_ms: int) -> AsyncIterator[Mapping[str, Any]]:
        try:
            answer = await self._api.call(
                "GET", "experiments/get-by-name", {"experiment_name": model}
            )
        except NotFound:
            return
        search = {
            "experiment_ids": [answer["experiment"]["experiment_id"]],
            "filter": f"attributes.start_time < {before_ms} and attributes.status != 'RUNNING'",
            "order_by": ["attributes.start_time ASC"],
            "max_results": _PAGE,
        }
        async for run in self._api.items("POST", "runs/search", "runs", search):
            yield run

    async def _has_versions(self, run_id: str) -> bool:
        """Whether any version, of whichever model, came from this run."""
        query = {"filter": f"run_id='{run_id}'", "max_results": "1"}
        answer = await self._api.call("GET", "model-versions/search", query)
        return bool(answer.get("model_versions"))
