"""What the DAG's tasks do, against a scripted mesh and a local webhook; no Airflow needed."""

import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mesh.client import MeshClient
from mesh.errors import Unavailable
from mesh.v1 import train_pb2
from tests.real_parts.airflow import DAGS
from tests.real_parts.postgres import free_port
from tests.twins.stub_mesh import StubMesh, running_stub_mesh
from tests.twins.webhook import SECRET, ThreadedWebhook, running_webhook

sys.path.insert(0, str(DAGS))

import mesh_pipeline as pipeline

PARAMS = train_pb2.TrainParams()


def no_sleep(seconds: float) -> None:
    """The scripted mesh counts questions, not seconds."""


@pytest.fixture
def mesh() -> Iterator[tuple[StubMesh, MeshClient]]:
    with running_stub_mesh() as (stub, address), MeshClient(address) as client:
        yield stub, client


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadedWebhook]:
    monkeypatch.delenv("SLACK_URL_FILE", raising=False)
    with running_webhook() as running:
        monkeypatch.setenv("SLACK_URL", running.url)
        yield running


def train(client: MeshClient, model: str) -> train_pb2.TrainingJob:
    return pipeline.train(client, model, f"run-of-{model}", PARAMS, sleep=no_sleep)


def test_a_job_is_followed_to_its_good_end(mesh: tuple[StubMesh, MeshClient]) -> None:
    job = train(mesh[1], "reviews")
    assert job.request_id == "run-of-reviews"
    assert pipeline.outcome(job)["promoted"]


def test_a_second_try_finds_the_same_job(mesh: tuple[StubMesh, MeshClient]) -> None:
    first, second = train(mesh[1], "reviews"), train(mesh[1], "reviews")
    assert (first.id, first.attempt) == (second.id, second.attempt)


def test_a_failed_job_raises_its_own_words_and_a_retry_starts_the_next_attempt(
    mesh: tuple[StubMesh, MeshClient],
) -> None:
    with pytest.raises(pipeline.TrainingFailed, match="attempt 1: the loss is not a number"):
        train(mesh[1], "flaky")
    assert train(mesh[1], "flaky").attempt == 2


def test_a_cancelled_job_is_not_a_failed_one(mesh: tuple[StubMesh, MeshClient]) -> None:
    stub, client = mesh
    client.train("reviews", request_id="run-of-reviews")
    stub.jobs["run-of-reviews"].state = train_pb2.TRAINING_STATE_CANCELLED
    with pytest.raises(pipeline.TrainingCancelled):
        train(client, "reviews")


def test_a_mesh_that_is_away_for_a_while_is_waited_for(
    mesh: tuple[StubMesh, MeshClient],
) -> None:
    assert train(mesh[1], "away").state == train_pb2.TRAINING_STATE_SUCCEEDED


def test_patience_has_an_end() -> None:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    def call() -> None:
        raise Unavailable("away")

    with pytest.raises(Unavailable):
        pipeline.patiently(call, patience_s=60, clock=lambda: now[0], sleep=sleep)
    assert now[0] == 60


def test_only_hyperparameters_that_were_set_are_sent() -> None:
    values: dict[str, Any] = {"model": "reviews", "rows": 5, "epochs": 3, "base_model": ""}
    params = pipeline.train_params(values | {"learning_rate": 5e-5, "warm_start": False})
    assert params == train_pb2.TrainParams(epochs=3, learning_rate=5e-5)


def test_a_canary_promotes_only_where_there_is_a_champion_to_try_it_against(
    mesh: tuple[StubMesh, MeshClient],
) -> None:
    _, client = mesh
    steps = pipeline.canary_steps("5,50")
    only = train_pb2.PROMOTION_CHALLENGER_ONLY
    assert pipeline.promotion(client, "reviews", steps) == only
    assert pipeline.promotion(client, "new", steps) == train_pb2.PROMOTION_AUTO
    assert pipeline.promotion(client, "unknown", steps) == train_pb2.PROMOTION_AUTO
    assert pipeline.promotion(client, "reviews", []) == train_pb2.PROMOTION_AUTO
    assert pipeline.canary_steps("") == []


@pytest.mark.parametrize(
    ("model", "state", "said"),
    [
        ("reviews", "PROMOTED", "version 2 passed its canary and serves now: better"),
        ("paused", "PAUSED", "version 2 is paused in its canary: too few to judge by"),
    ],
)
def test_a_canary_is_followed_to_its_end_and_told(
    mesh: tuple[StubMesh, MeshClient], model: str, state: str, said: str
) -> None:
    stub, client = mesh
    found = pipeline.canary(client, model, "run-1", [5, 50], 30, sleep=no_sleep)
    assert found["canary"] == state
    request = stub.calls[-1]
    assert (list(request.steps), request.step_seconds, request.request_id) == ([5, 50], 30, "run-1")
    trained = pipeline.outcome(train(client, model)) | {"promoted": False}
    assert said in pipeline.success_text(model, trained, found)


def test_slack_is_told(webhook: ThreadedWebhook) -> None:
    assert pipeline.notify("reviews: version 2 serves now")
    assert webhook.texts == ["reviews: version 2 serves now"]


def test_the_webhook_may_be_in_a_file(
    webhook: ThreadedWebhook, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("SLACK_URL")
    assert not pipeline.notify("nobody hears")
    (tmp_path / "slack").write_text(webhook.url + "\n")
    monkeypatch.setenv("SLACK_URL_FILE", str(tmp_path / "slack"))
    assert pipeline.notify("heard")
    monkeypatch.setenv("SLACK_URL_FILE", str(tmp_path / "missing"))
    assert not pipeline.notify("nobody hears")
    assert webhook.texts == ["heard"]


def test_slack_answering_500_slow_down_or_malformed_never_raises_nor_shows_its_url(
    webhook: ThreadedWebhook, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    webhook.status = 500
    assert not pipeline.notify("500")
    monkeypatch.setattr(pipeline, "SLACK_TIMEOUT_S", 0.1)
    webhook.hold.clear()
    assert not pipeline.notify("slow")
    webhook.hold.set()
    for url in (f"http://127.0.0.1:{free_port()}/{SECRET}", f"http://[/{SECRET}", SECRET):
        monkeypatch.setenv("SLACK_URL", url)
        assert not pipeline.notify("down")
    assert SECRET not in caplog.text


def test_notifications_say_what_serves() -> None:
    trained = {
        "version": "3",
        "promoted": True,
        "reason": "better",
        "champion_version": "2",
        "champion_accuracy": 0.8412,
        "challenger_accuracy": 0.9,
    }
    assert (
        pipeline.success_text("reviews", trained)
        == "reviews: version 3 serves now (accuracy 0.900, version 2 had 0.841)"
    )
    kept = trained | {"promoted": False, "reason": "not better", "champion_version": ""}
    assert (
        pipeline.success_text("reviews", kept)
        == "reviews: version 3 was not promoted: not better (accuracy 0.900)"
    )
