"""What the DAG's tasks do, against a scripted mesh; no Airflow needed."""

from collections.abc import Callable, Iterator
from typing import Any

import mesh_steps
import pytest

from mesh.client import MeshClient
from mesh.errors import DeadlineExceeded, MeshError, NotFound, Unavailable
from mesh.v1 import train_pb2
from tests.twins.stub_mesh import StubMesh, running_stub_mesh

PARAMS = train_pb2.TrainParams()


class FakeTime:
    """Stands in for the module `time` in mesh_steps."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self.monotonic = monotonic

    def sleep(self, seconds: float) -> None:
        """No time passes."""


def no_sleep(seconds: float) -> None:
    """The scripted mesh counts the calls that it gets, not seconds."""


@pytest.fixture
def mesh() -> Iterator[tuple[StubMesh, MeshClient]]:
    with running_stub_mesh() as (stub, address), MeshClient(address) as client:
        yield stub, client


def train(client: MeshClient, model: str) -> train_pb2.TrainingJob:
    return mesh_steps.train(client, model, f"run-of-{model}", PARAMS, sleep=no_sleep)


def test_a_job_is_followed_to_its_good_end(mesh: tuple[StubMesh, MeshClient]) -> None:
    job = train(mesh[1], "reviews")
    assert job.request_id == "run-of-reviews"
    outcome = mesh_steps.outcome(job)
    assert (outcome["outcome"], outcome["promoted"]) == ("PROMOTED", True)


def test_a_second_try_finds_the_same_job(mesh: tuple[StubMesh, MeshClient]) -> None:
    first, second = train(mesh[1], "reviews"), train(mesh[1], "reviews")
    assert (first.id, first.attempt) == (second.id, second.attempt)


def test_a_failed_job_raises_its_own_words_and_a_retry_starts_the_next_attempt(
    mesh: tuple[StubMesh, MeshClient],
) -> None:
    with pytest.raises(mesh_steps.TrainingFailed, match="attempt 1: the loss is not a number"):
        train(mesh[1], "flaky")
    assert train(mesh[1], "flaky").attempt == 2


def test_a_cancelled_job_is_not_a_failed_one(mesh: tuple[StubMesh, MeshClient]) -> None:
    stub, client = mesh
    client.train("reviews", request_id="run-of-reviews")
    stub.jobs["run-of-reviews"].state = train_pb2.TRAINING_STATE_CANCELLED
    with pytest.raises(mesh_steps.TrainingEnded, match="was cancelled"):
        train(client, "reviews")


def test_an_error_that_another_attempt_would_repeat_is_told_apart(
    mesh: tuple[StubMesh, MeshClient],
) -> None:
    with pytest.raises(mesh_steps.TrainingEnded, match="rows of at least two labels"):
        train(mesh[1], "onelabel")


def test_a_training_that_takes_too_long_is_cancelled_and_its_time_in_the_queue_does_not_count(
    mesh: tuple[StubMesh, MeshClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    stub, client = mesh
    clock = iter(range(0, 10_000_000, 3600))
    monkeypatch.setattr(mesh_steps, "time", FakeTime(lambda: float(next(clock))))
    with pytest.raises(mesh_steps.TrainingEnded, match="it trained for 6 h"):
        train(client, "endless")
    assert stub.jobs["run-of-endless"].state == train_pb2.TRAINING_STATE_CANCELLED
    stub.queued_polls = 20
    assert train(client, "reviews").state == train_pb2.TRAINING_STATE_SUCCEEDED


def test_what_the_training_itself_promotes_is_to_be_served(
    mesh: tuple[StubMesh, MeshClient],
) -> None:
    stub, client = mesh
    for request_id, promotion in (
        ("auto", train_pb2.PROMOTION_AUTO),
        ("canary", train_pb2.PROMOTION_CHALLENGER_ONLY),
    ):
        mesh_steps.train(client, "reviews", request_id, PARAMS, sleep=no_sleep, promotion=promotion)
    requests = [call for call in stub.calls if isinstance(call, train_pb2.TrainRequest)]
    assert [request.serve for request in requests] == [True, False]


def test_a_cancel_that_does_not_get_through_raises_nothing(
    mesh: tuple[StubMesh, MeshClient],
) -> None:
    stub, client = mesh
    client.train("endless", request_id="run-1")
    mesh_steps.cancel(client, "run-1")
    assert stub.jobs["run-1"].state == train_pb2.TRAINING_STATE_CANCELLED
    mesh_steps.cancel(client, "nobody")


def test_a_mesh_that_is_away_for_a_while_is_waited_for(
    mesh: tuple[StubMesh, MeshClient],
) -> None:
    assert train(mesh[1], "away").state == train_pb2.TRAINING_STATE_SUCCEEDED


@pytest.mark.parametrize("error", [Unavailable("away"), DeadlineExceeded("late")])
def test_patience_has_an_end(monkeypatch: pytest.MonkeyPatch, error: MeshError) -> None:
    monkeypatch.setattr(mesh_steps, "POLL_S", 0.01)
    calls: list[None] = []

    def call() -> None:
        calls.append(None)
        raise error

    with pytest.raises(type(error)):
        mesh_steps.patiently(call, patience_s=0.05)
    assert 2 <= len(calls) <= 6


def test_an_error_that_is_no_absence_is_raised_at_once() -> None:
    calls: list[None] = []

    def call() -> None:
        calls.append(None)
        raise NotFound("no such model")

    with pytest.raises(NotFound):
        mesh_steps.patiently(call, sleep=no_sleep)
    assert len(calls) == 1


def test_the_training_of_a_run_is_found_by_the_runs_id(mesh: tuple[StubMesh, MeshClient]) -> None:
    job = train(mesh[1], "reviews")
    found = mesh_steps.training_of(mesh[1], "run-of-reviews")
    assert found is not None
    assert found.id == job.id


def test_a_run_without_a_training_has_none(mesh: tuple[StubMesh, MeshClient]) -> None:
    assert mesh_steps.training_of(mesh[1], "nobody") is None


def test_only_hyperparameters_that_were_set_are_sent() -> None:
    values: dict[str, Any] = {"model": "reviews", "rows": 5, "epochs": 3, "base_model": ""}
    params = mesh_steps.train_params(values | {"learning_rate": 5e-5, "warm_start": False})
    assert params == train_pb2.TrainParams(epochs=3, learning_rate=5e-5)


def test_a_canary_promotes_only_where_there_is_a_champion_to_try_it_against(
    mesh: tuple[StubMesh, MeshClient],
) -> None:
    _, client = mesh
    steps = mesh_steps.canary_steps("5,50")
    only = train_pb2.PROMOTION_CHALLENGER_ONLY
    assert mesh_steps.promotion(client, "reviews", steps) == only
    assert mesh_steps.promotion(client, "new", steps) == train_pb2.PROMOTION_AUTO
    assert mesh_steps.promotion(client, "unknown", steps) == train_pb2.PROMOTION_AUTO
    assert mesh_steps.promotion(client, "reviews", []) == train_pb2.PROMOTION_AUTO
    assert mesh_steps.canary_steps("") == []


@pytest.mark.parametrize(
    ("model", "state", "reason"),
    [
        ("reviews", "PROMOTED", "better"),
        ("paused", "PAUSED", "too few to judge by"),
    ],
)
def test_a_canary_is_followed_to_its_end(
    mesh: tuple[StubMesh, MeshClient], model: str, state: str, reason: str
) -> None:
    stub, client = mesh
    stub.running_looks = 1
    assert mesh_steps.canary(client, model, "run-1", [5, 50], 30) is None
    canary = mesh_steps.canary(client, model, "run-1", [5, 50], 30)
    assert canary is not None
    assert (canary["canary"], canary["reason"]) == (state, reason)
    assert (canary["from_version"], canary["to_version"]) == ("1", "2")
    request = stub.calls[-1]
    assert (list(request.steps), request.step_seconds, request.request_id) == ([5, 50], 30, "run-1")
