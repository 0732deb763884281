"""What goes after a job: over a twin of MLflow's API."""

import ast
import json
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from service_kit.model_registry.records import TAG_JOB_ID
from service_kit.model_registry.registry import Registry
from tests.unit.training.fakes import MemoryJobs
from tests.whole_mesh.running_mesh import ROOT
from training_svc.jobs.retention import KEEP_DAYS, MOST_RUNS, Retention

PAGE = 100


@dataclass
class MlflowTwin:
    """The runs of one experiment, all of them old, and the versions of one model."""

    runs: list[str] = field(default_factory=list)
    with_version: set[str] = field(default_factory=set)
    versions: dict[str, str] = field(default_factory=dict)
    """Number of each version and the URI of its files."""
    experiment: bool = True
    away: bool = False
    deleted_runs: list[str] = field(default_factory=list)
    deleted_versions: list[str] = field(default_factory=list)
    filters: list[str] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if self.away:
            raise httpx.ConnectError("refused")
        body = json.loads(request.content or b"{}")
        query = request.url.params
        match request.url.path.removeprefix("/api/2.0/mlflow/"):
            case "registered-models/get":
                return httpx.Response(200, json={"registered_model": {"name": query["name"]}})
            case "model-versions/search" if query["filter"].startswith("name="):
                return httpx.Response(200, json={"model_versions": self._versions()})
            case "model-versions/search":
                run_id = query["filter"].split("'")[1]
                found = [{"run_id": run_id}] if run_id in self.with_version else []
                return httpx.Response(200, json={"model_versions": found})
            case "model-versions/get-download-uri":
                return httpx.Response(200, json={"artifact_uri": self.versions[query["version"]]})
            case "model-versions/delete":
                self.deleted_versions.append(body["version"])
                return httpx.Response(200, json={})
            case "experiments/get-by-name" if self.experiment:
                return httpx.Response(200, json={"experiment": {"experiment_id": "7"}})
            case "runs/search":
                return httpx.Response(200, json=self._page(body))
            case "runs/delete":
                self.deleted_runs.append(body["run_id"])
                return httpx.Response(200, json={})
            case path if "mlflow-artifacts" in path:
                return httpx.Response(200, json={})
        return httpx.Response(404, json={"error_code": "RESOURCE_DOES_NOT_EXIST"})

    def _versions(self) -> list[dict[str, Any]]:
        tags = [{"key": TAG_JOB_ID, "value": "job"}]
        return [{"name": "reviews", "version": name, "tags": tags} for name in self.versions]

    def _page(self, body: dict[str, Any]) -> dict[str, Any]:
        assert body["experiment_ids"] == ["7"]
        self.filters.append(body["filter"])
        begin = int(body.get("page_token", 0))
        end = begin + body["max_results"]
        tags = [{"key": TAG_JOB_ID, "value": "job"}]
        page = {
            "runs": [
                {"info": {"run_id": run_id}, "data": {} if run_id == "theirs" else {"tags": tags}}
                for run_id in self.runs[begin:end]
            ]
        }
        return page | ({"next_page_token": str(end)} if end < len(self.runs) else {})


async def apply(twin: MlflowTwin) -> None:
    registry = Registry("http://mlflow:5000", httpx.MockTransport(twin))
    await Retention(registry, MemoryJobs(), keep_versions=1).apply("reviews")
    await registry.close()


async def test_old_runs_of_trainings_go_unless_a_version_came_from_them() -> None:
    twin = MlflowTwin(runs=["1", "2", "theirs", "3"], with_version={"2"})
    await apply(twin)
    assert twin.deleted_runs == ["1", "3"]
    [words] = twin.filters
    before_ms = int(words.split()[2])
    days = (time.time() * 1000 - before_ms) / 86_400_000
    assert KEEP_DAYS <= days < KEEP_DAYS + 0.01
    assert words.endswith("attributes.status != 'RUNNING'")


async def test_one_job_deletes_a_bounded_number_of_runs_and_looks_behind_those_that_stay() -> None:
    kept = {f"kept-{number}" for number in range(PAGE + 1)}
    twin = MlflowTwin(runs=[*sorted(kept), *map(str, range(MOST_RUNS + 5))], with_version=kept)
    await apply(twin)
    assert twin.deleted_runs == [str(number) for number in range(MOST_RUNS)]


async def test_a_model_without_an_experiment_has_no_runs() -> None:
    twin = MlflowTwin(experiment=False)
    await apply(twin)
    assert twin.deleted_runs == []


async def test_a_version_whose_files_cannot_be_deleted_does_not_keep_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    versions = {"1": "s3://elsewhere/1", "2": "mlflow-artifacts:/2", "3": "mlflow-artifacts:/3"}
    twin = MlflowTwin(runs=["a"], versions=versions)
    await apply(twin)
    assert twin.deleted_versions == ["2"]
    assert twin.deleted_runs == ["a"]
    assert "an old version cannot be deleted" in caplog.text


async def test_while_mlflow_is_away_everything_stays(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        await apply(MlflowTwin(away=True))
    assert "old versions, runs and jobs stay until the next job ends" in caplog.text


def names_in_code() -> Iterator[str]:
    """Every attribute and function name of the code that runs in a mesh."""
    for folder in ("training_svc", "inference_svc", "service_kit", "trigger_svc", "envoy", "dags"):
        for file in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Attribute):
                    yield f"{ast.unparse(node.value)}.{node.attr}"


def test_nothing_writes_traces_to_mlflow() -> None:
    """MLflow's traces have no retention here, since there are none."""
    tracing = {"mlflow.trace", "mlflow.start_span", "mlflow.autolog", "mlflow.transformers.autolog"}
    names = set(names_in_code())
    assert "mlflow.set_tracking_uri" in names
    assert names.isdisjoint(tracing)
