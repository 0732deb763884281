"""Many turns of the loop, after which nothing that has a retention has grown.

Fault: none but time. PostgreSQL, MLflow, the trigger service, the training service's runner with
its folders and its retention, and a replica's cache are real. The trainer is a stub that registers
a small file as each version, and Airflow is the one in memory.
Invariants: the numbers of versions, their files, cached copies, job folders, open files and tasks,
and the memory, are no larger than after the first turns; rows of jobs go after 30 days.
"""

import asyncio
import gc
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from inference_svc.versions.cache import ModelCache
from inference_svc.versions.identity import VersionId
from service_kit.database import Database, apply_schema
from service_kit.model_registry import promotion
from service_kit.model_registry.promotion import Promotions
from service_kit.model_registry.records import CHAMPION, TAG_JOB_ID
from service_kit.model_registry.registry import Registry
from tests.chaos.conftest import Hold
from tests.real_parts.trigger_service import examples, query, running_trigger
from training_svc.jobs import job_store as training_store
from training_svc.jobs.caller_actions import CallerActions
from training_svc.jobs.child_process import ChildEnd
from training_svc.jobs.folders import JobFolders
from training_svc.jobs.job import Job, Params, State, Submission
from training_svc.jobs.job import Promotion as PromotionMode
from training_svc.jobs.job_changes import JobChanges
from training_svc.jobs.job_runner import JobRunner
from training_svc.jobs.job_store import PostgresJobs
from training_svc.jobs.promoter import MlflowPromoter
from training_svc.jobs.retention import Retention
from trigger_svc.bridge.airflow import Run, RunState
from trigger_svc.bridge.airflow_memory import MemoryAirflow

# Models whose turns go on side by side; each model has one turn at a time.
MODELS = 5
KEEP_VERSIONS = 3
KEEP_CACHED = 2
# A pool opens one more connection when more calls than ever before are under way at once, which is
# at most one call a model.
LATE_CONNECTIONS = MODELS
MODEL_BYTES = 50_000
LOOK_S = 0.2
# MiB by which the process that runs everything here may grow. In 500 turns a leak of 100 kB a turn
# would be 50 MB.
MORE_MIB = 25.0


class StubTrainer:
    """Registers a small file as the job's version, and always decides to promote it."""

    def __init__(self, mlflow_url: str) -> None:
        self._http = httpx.AsyncClient(base_url=f"{mlflow_url}/api/2.0")
        self._registry = Registry(mlflow_url)

    async def launch(self, job: Job, folder: Path) -> "StubChild":
        (folder / "checkpoints").mkdir(exist_ok=True)
        (folder / "checkpoints" / "weights").write_bytes(bytes(MODEL_BYTES))
        return StubChild(await self._registered(job))

    async def _registered(self, job: Job) -> Mapping[str, Any]:
        model = await self._registry.find_model(job.model)
        champion = model.aliases.get(CHAMPION, "") if model else ""
        run = (await self._post("runs/create", {"experiment_id": "0"}))["run"]["info"]
        base = run["artifact_uri"].removeprefix("mlflow-artifacts:/")
        path = f"/mlflow-artifacts/artifacts/{base.strip('/')}/model/weights"
        (await self._http.put(path, content=bytes(MODEL_BYTES))).raise_for_status()
        version = await self._post(
            "model-versions/create",
            {
                "name": job.model,
                "source": f"{run['artifact_uri']}/model",
                "run_id": run["run_id"],
                "tags": [{"key": TAG_JOB_ID, "value": job.id}],
            },
        )
        decision = {
            "outcome": "PROMOTED",
            "reason": "better",
            "champion_version": champion,
            "champion_accuracy": 0.8,
            "challenger_accuracy": 0.9,
            "p_value": 0.01,
        }
        return {"version": version["model_version"]["version"], "decision": decision}

    async def _post(self, method: str, body: Mapping[str, Any]) -> Any:
        answer = await self._http.post(f"/mlflow/{method}", json=body)
        assert answer.is_success, answer.text
        return answer.json()

    async def close(self) -> None:
        await self._http.aclose()
        await self._registry.close()


@dataclass
class StubChild:
    """A child process that sends one report and ends."""

    report: Mapping[str, Any]

    async def reports(self) -> AsyncIterator[Mapping[str, Any]]:
        yield self.report

    async def wait(self) -> ChildEnd:
        return ChildEnd(0)

    def kill(self) -> None:
        raise AssertionError("nobody kills it")


@dataclass
class StubAirflow(MemoryAirflow):
    """Takes a run's two steps itself: trains, then lets a replica's cache fetch the new version."""

    actions: CallerActions
    cache: ModelCache
    registry: Registry
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()

    async def start_run(self, run: Run) -> None:
        await super().start_run(run)
        task = asyncio.create_task(self._run(run))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _run(self, run: Run) -> None:
        model = run.conf["model"]
        job = await self.actions.submit(Submission(model, run.id, Params(), PromotionMode.AUTO))
        async for seen in self.actions.watch(job.id):
            job = seen
        assert job.state is State.SUCCEEDED, job
        source = (await self.registry.get_version(model, job.version)).source
        version = VersionId(job.version, source)
        await self.cache.fetch(self.registry, model, version)
        self.cache.prune(model, {version})
        self.end(run.id, RunState.SUCCEEDED)


@dataclass
class Loop:
    """The parts that a turn of the loop touches."""

    database_url: str
    registry: Registry
    folder: Path
    session_folder: Path
    models: list[str]

    async def turn(self, model: str) -> None:
        """Insert a row and wait until its batch has succeeded."""
        before = await self._succeeded(model)
        sql = f"INSERT INTO training.{model} (text, label) VALUES (%s, 'a')"
        await asyncio.to_thread(query, self.database_url, sql, uuid.uuid4().hex)
        async with asyncio.timeout(120):
            while await self._succeeded(model) == before:
                await asyncio.sleep(LOOK_S)

    async def _succeeded(self, model: str) -> int:
        """Number of a model's batches that have succeeded."""
        sql = "SELECT count(*) FROM mesh.batches WHERE model = %s AND state = 'SUCCEEDED'"
        [[count]] = await asyncio.to_thread(query, self.database_url, sql, model)
        return int(count)

    async def turns(self, count: int) -> None:
        """Take `count` turns, the same number of each model."""

        async def turns_of(model: str) -> None:
            for _ in range(count // len(self.models)):
                await self.turn(model)

        async with asyncio.TaskGroup() as group:
            for model in self.models:
                group.create_task(turns_of(model))

    async def sizes(self) -> dict[str, float]:
        """The numbers that must not grow, by name."""
        versions = [await self.registry.list_versions(model) for model in self.models]
        gc.collect()
        return {
            "versions": sum(map(len, versions)),
            "cached versions": len(list((self.folder / "cache").glob("*/*/mesh-version.json"))),
            "job folders": len(list((self.folder / "state" / "jobs").iterdir())),
            "artifact files": sum(
                p.is_file() for p in self.session_folder.glob("mlflow[0-9]*/artifacts/**/weights")
            ),
            "open files": psutil.Process().num_fds(),
            "tasks": len(asyncio.all_tasks()),
        }


@asynccontextmanager
async def running_loop(
    postgres_url: str, mlflow_url: str, folder: Path, session_folder: Path
) -> AsyncIterator[Loop]:
    database = Database(postgres_url, "training service")
    await apply_schema(database, "training jobs", training_store.SCHEMA)
    await apply_schema(database, "promotions", promotion.SCHEMA)
    registry, trainer, changes = Registry(mlflow_url), StubTrainer(mlflow_url), JobChanges()
    jobs = PostgresJobs(database)
    folders = JobFolders(folder / "state", keep_failed=1)
    folders.lock()
    runner = JobRunner(
        *(jobs, changes, trainer),
        MlflowPromoter(registry, Promotions(postgres_url, registry)),
        *(folders, Retention(registry, jobs, KEEP_VERSIONS).apply),
    )
    actions = CallerActions(jobs, changes, registry, runner.wake, runner.cancel, 1000)
    cache = ModelCache(folder / "cache", KEEP_CACHED)
    cache.open()
    running = asyncio.create_task(runner.run())
    airflow = StubAirflow(actions, cache, registry)
    models = [f"m{uuid.uuid4().hex[:12]}" for _ in range(MODELS)]
    try:
        async with running_trigger(
            postgres_url, airflow, seal_quiet_ms=0, mlflow_url=mlflow_url
        ) as client:
            for model in models:
                await client.import_examples(model, examples(4), no_train=True)
            yield Loop(postgres_url, registry, folder, session_folder, models)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await trainer.close()
        await registry.close()
        await database.close()
        folders.unlock()


@pytest.mark.parametrize("turns", [20, pytest.param(500, marks=pytest.mark.chaos_full)])
async def test_nothing_grows(
    postgres_url: str,
    mlflow_url: str,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    hold: Hold,
    turns: int,
) -> None:
    async with running_loop(
        postgres_url, mlflow_url, tmp_path, tmp_path_factory.getbasetemp()
    ) as loop:
        await loop.turns(max(MODELS * (KEEP_VERSIONS + 1), turns // 5))
        before, rss = await loop.sizes(), psutil.Process().memory_info().rss
        # `sizes` counts files by their paths: with a wrong path it would count none at any time.
        assert before["cached versions"]
        assert before["artifact files"]
        await loop.turns(turns)
        after, more = await loop.sizes(), (psutil.Process().memory_info().rss - rss) / 2**20
        for name, size in after.items():
            late = LATE_CONNECTIONS if name == "open files" else 0
            hold(f"no growth: {name}", size <= before[name] + late, f"{before[name]} → {size}")
        hold(
            "no growth: versions beyond their retention",
            # The Champion and the previous Champion are among the newest, so they are no more.
            after["versions"] == MODELS * KEEP_VERSIONS,
            f"{after['versions']} of {MODELS} models that keep {KEEP_VERSIONS}",
        )
        hold("no growth: memory", more <= MORE_MIB, f"{more:+.1f} MiB in {turns} turns")
        # Jobs are 31 days older now, so the next retention deletes their rows.
        for column in ("ended_at", "created_at"):
            sql = f"UPDATE mesh.training_jobs SET {column} = {column} - interval '31 days'"
            query(postgres_url, sql)
        await loop.turns(MODELS)
        [[rows]] = query(postgres_url, "SELECT count(*) FROM mesh.training_jobs")
        hold("no growth: rows of old jobs", rows <= MODELS, f"{rows} rows of jobs")
