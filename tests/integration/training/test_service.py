"""The training service with real PostgreSQL, real MLflow and real children, on tiny data."""

import asyncio
import json
import os
import signal
import uuid
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Protocol

import grpc
import pytest

from mesh.v1 import train_pb2
from service_kit.model_registry.registry import Registry
from tests.real_parts.postgres import execute
from tests.real_parts.training_service import (
    Service,
    import_rows,
    make_rows,
    make_tiny_bert,
    running_service,
)
from tests.real_parts.waiting import until

SUCCEEDED = train_pb2.TRAINING_STATE_SUCCEEDED
FAILED = train_pb2.TRAINING_STATE_FAILED
CANCELLED = train_pb2.TRAINING_STATE_CANCELLED
NOTHING_LEARNED = train_pb2.TrainParams(epochs=1, learning_rate=1e-7)
WELL_LEARNED = train_pb2.TrainParams(epochs=15, learning_rate=1e-2)
FOR_A_WHILE = train_pb2.TrainParams(epochs=1000, learning_rate=1e-3)


class Running(Protocol):
    def __call__(self, **settings: str) -> AbstractAsyncContextManager[Service]: ...


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_bert(tmp_path_factory.mktemp("tiny-base"))


@pytest.fixture
def model() -> str:
    """A name of a model that no other test uses in the session's MLflow."""
    return f"m{uuid.uuid4().hex[:12]}"


@pytest.fixture
def service_log(tmp_path: Path) -> Path:
    return tmp_path / "training.log"


@pytest.fixture
def running(
    postgres_url: str, mlflow_url: str, tiny_base: Path, tmp_path: Path, service_log: Path
) -> Running:
    settings = {
        "database_url": postgres_url,
        "mlflow_url": mlflow_url,
        "state_dir": str(tmp_path / "state"),
        "base_model": str(tiny_base),
        "device": "cpu",
        "drain_seconds": "0",
        "checkpoint_seconds": "0.5",
    }
    return lambda **more: running_service(settings | more, service_log)


async def aliases(mlflow_url: str, model: str) -> dict[str, str]:
    registry = Registry(mlflow_url)
    registered = await registry.find_model(model)
    await registry.close()
    assert registered is not None
    return dict(registered.aliases)


async def test_better_challengers_become_champions(
    running: Running,
    postgres_url: str,
    mlflow_url: str,
    model: str,
    tmp_path: Path,
    service_log: Path,
) -> None:
    import_rows(postgres_url, model, [*make_rows(160), ("  ", "pos", "train")], new=True)
    async with running() as service:
        await service.train(model, f"retrain__{model}__1", params=NOTHING_LEARNED)
        first = await service.ended(f"retrain__{model}__1")
        assert first.error == ""
        assert first.state == SUCCEEDED
        assert first.decision.outcome == train_pb2.DECISION_OUTCOME_PROMOTED
        assert first.decision.reason.startswith("first version: ")
        assert (first.rows.train, first.rows.test, first.rows.dropped) == (80, 80, 1)
        assert dict(first.rows.dropped_by_reason) == {"blank text": 1}
        assert first.params.max_examples == 100_000
        assert await aliases(mlflow_url, model) == {"Champion": first.version}

        await service.train(model, f"retrain__{model}__2", params=WELL_LEARNED)
        seen = [job async for job in service.watch(f"retrain__{model}__2")]
        second = seen[-1]
        assert second.error == ""
        assert second.decision.outcome == train_pb2.DECISION_OUTCOME_PROMOTED
        assert second.decision.champion_version == first.version
        assert second.decision.p_value <= 0.05
        assert second.metrics["accuracy"] == second.decision.challenger_accuracy > 0.9
        assert second.progress.step == second.progress.total_steps
        states = [job.state for job in seen]
        assert states == sorted(states)
        assert await aliases(mlflow_url, model) == {
            "Champion": second.version,
            "Previous": first.version,
        }
        forget_that_it_succeeded(postgres_url, second.id)
        await service.train(model, f"retrain__{model}__2")
        again = await service.ended(f"retrain__{model}__2")
        assert (again.state, again.attempt) == (SUCCEEDED, 2)
        assert (again.version, again.run_id) == (second.version, second.run_id)
        assert again.decision == second.decision

    await check_version(mlflow_url, second, tmp_path)
    assert list((tmp_path / "state" / "jobs").iterdir()) == []
    levels = {json.loads(line)["level"] for line in service_log.read_text().splitlines()}
    assert levels == {"INFO"}


def forget_that_it_succeeded(postgres_url: str, job_id: str) -> None:
    """Make it look as if the service had failed after the promotion, before it saved the end."""
    execute(postgres_url, f"UPDATE mesh.training_jobs SET state = 'FAILED' WHERE id = '{job_id}'")


async def check_version(mlflow_url: str, job: train_pb2.TrainingJob, folder: Path) -> None:
    """Check that the version has the job's tags and the files that a replica needs."""
    registry = Registry(mlflow_url)
    version = await registry.get_version(job.model, job.version)
    await registry.download(job.model, job.version, folder / "download")
    await registry.close()
    assert version.run_id == job.run_id
    expected = {
        "mesh.batch_id": job.request_id,
        "mesh.job_id": job.id,
        "model": job.model,
        "mesh.decision": "PROMOTED",
        "mesh.decision_reason": job.decision.reason,
    }
    assert expected.items() <= version.tags.items()
    for name in ("MLmodel", "model/model.safetensors", "components/tokenizer/tokenizer.json"):
        assert (folder / "download" / name).is_file()
    golden = json.loads((folder / "download" / "golden.json").read_text())
    assert (folder / "download" / golden["graph"]["file"]).is_file()
    assert golden["labels"] == ["neg", "pos"]
    assert golden["max_tokens"] == 32
    assert len(golden["golden"]) == 32
    for entry in golden["golden"]:
        assert entry["label"] == golden["labels"][entry["scores"].index(max(entry["scores"]))]
        assert sum(entry["scores"]) == pytest.approx(1)


async def test_killed_service_resumes_its_job_with_the_same_rows(
    running: Running,
    postgres_url: str,
    mlflow_url: str,
    model: str,
    tmp_path: Path,
    service_log: Path,
) -> None:
    rows = make_rows(80)
    import_rows(postgres_url, model, rows[:40], new=True)
    async with running() as service:
        assert service.seconds_to_serve < 10
        await service.train(model, "r1", params=train_pb2.TrainParams(epochs=200, warm_start=True))
        before = await service.trained_on("r1", steps=1)
        await until(lambda: any((tmp_path / "state").glob("jobs/*/checkpoints/checkpoint-*")))
        child = await service.child_pid()
        service.process.kill()
        await until(lambda: has_ended(child))
    import_rows(postgres_url, model, rows[40:], new=False)
    async with running() as service:
        after = await service.ended("r1")
    assert logged(service_log, "fine-tuned")["resumed_from_step"] > 0
    assert after.error == ""
    assert after.state == SUCCEEDED
    assert (after.id, after.attempt) == (before.id, 1)
    assert after.rows == before.rows
    assert after.run_id == before.run_id
    assert await aliases(mlflow_url, model) == {"Champion": after.version}


def logged(log: Path, message: str) -> dict[str, Any]:
    """The last entry of the log that has this message."""
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    last: dict[str, Any] = [entry for entry in entries if entry["message"] == message][-1]
    return last


def has_ended(pid: int) -> bool:
    """Whether the process has ended, even if its new parent has not waited for it yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


async def test_killed_child_fails_its_job_and_the_next_attempt_can_be_cancelled(
    running: Running, postgres_url: str, model: str
) -> None:
    import_rows(postgres_url, model, make_rows(40), new=True)
    async with running() as service:
        await service.train(model, "r1", params=FOR_A_WHILE)
        os.kill(await service.child_pid(), signal.SIGKILL)
        failed = await service.ended("r1")
        assert failed.state == FAILED
        assert "killed by signal 9 (SIGKILL)" in failed.error

        again = await service.train(model, "r1", params=FOR_A_WHILE)
        assert (again.id, again.attempt, again.error) == (failed.id, 2, "")
        assert (await service.train(model, "r1")).attempt == 2
        child = await service.child_pid()
        cancelled = await service.stub.CancelTraining(train_pb2.CancelTrainingRequest(id="r1"))
        assert cancelled.state == CANCELLED
        assert not Path(f"/proc/{child}").exists()
        assert (await service.ended(again.id)).state == CANCELLED
        listed = await service.stub.ListTrainings(train_pb2.ListTrainingsRequest(model=model))
        assert [job.id for job in listed.trainings] == [again.id]


async def test_rows_that_cannot_be_trained_on_fail_at_once_with_what_to_do(
    running: Running, postgres_url: str, model: str
) -> None:
    import_rows(postgres_url, model, [("only one", "pos", "train")], new=True)
    async with running() as service:
        await service.train(model, "r1")
        job = await asyncio.wait_for(service.ended("r1"), 20)
    assert job.state == FAILED
    assert "at least two labels" in job.error
    assert job.lasting_error
    assert job.rows.digest == ""


@pytest.mark.parametrize(
    ("request_", "code", "words"),
    [
        (train_pb2.TrainRequest(model="nobody"), grpc.StatusCode.NOT_FOUND, "mesh import nobody"),
        (train_pb2.TrainRequest(model="Bad!"), grpc.StatusCode.INVALID_ARGUMENT, "model: "),
        (
            train_pb2.TrainRequest(model="known", params=train_pb2.TrainParams(epochs=2000)),
            grpc.StatusCode.INVALID_ARGUMENT,
            "params.epochs: is 2000; it must be 1 to 1,000",
        ),
        (
            train_pb2.TrainRequest(model="other", request_id="taken"),
            grpc.StatusCode.ALREADY_EXISTS,
            "belongs to a training of another model",
        ),
    ],
)
async def test_bad_request_is_refused(
    running: Running,
    postgres_url: str,
    request_: train_pb2.TrainRequest,
    code: grpc.StatusCode,
    words: str,
) -> None:
    for name in ("known", "other"):
        import_rows(postgres_url, name, [], new=True)
    async with running() as service:
        await service.train("known", "taken")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await service.stub.Train(request_)
    assert caught.value.code() == code
    assert words in (caught.value.details() or "")


async def test_unknown_job_is_not_found(running: Running) -> None:
    async with running() as service:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await service.stub.GetTraining(train_pb2.GetTrainingRequest(id="nobody"))
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


async def test_a_caller_names_base_models_and_no_paths(
    running: Running, postgres_url: str, model: str, tiny_base: Path
) -> None:
    import_rows(postgres_url, model, make_rows(160), new=True)
    words = set()
    async with running(base_models="gone=/no/such/folder") as service:
        for name in (str(tiny_base), "/no/such/folder", "org/private"):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await service.train(model, "r1", params=train_pb2.TrainParams(base_model=name))
            words.add((caught.value.code(), caught.value.details()))
        await service.train(model, "r2", params=train_pb2.TrainParams(base_model="gone"))
        job = await service.ended("r2")
    [(code, _)] = words
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert (job.state, job.lasting_error) == (FAILED, True)
    assert "TRAINING_BASE_MODELS" in job.error
    assert "/no/such" not in job.error
