"""TrainService over a real gRPC connection, with a job store in memory behind it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import grpc
import pytest
from grpc import aio

from mesh.v1 import train_pb2, train_pb2_grpc
from service_kit.model_registry.registry import Registry
from service_kit.server import GrpcServer
from service_kit.settings import ServiceSettings
from tests.real_parts.waiting import until
from tests.unit.training.fakes import DECISION, MemoryJobs
from training_svc.jobs.caller_actions import CallerActions
from training_svc.jobs.job import Job, Params, Promotion, State
from training_svc.jobs.job_changes import JobChanges
from training_svc.servicer import TrainServicer, job_message

JOB = Job("job-r1", "r1", "reviews", state=State.RUNNING)


class Fake:
    """A service with one running job."""

    names: Sequence[str] = ("mesh.v1.TrainService",)

    def __init__(self) -> None:
        self.changes = JobChanges()
        store = MemoryJobs()
        store.jobs = {JOB.id: JOB}
        self.actions = CallerActions(
            store, self.changes, Registry("http://mlflow"), lambda: None, lambda job_id: None, 1000
        )

    def register(self, server: aio.Server) -> None:
        train_pb2_grpc.add_TrainServiceServicer_to_server(TrainServicer(self.actions), server)

    async def startup(self) -> None: ...

    async def drain(self) -> None:
        self.changes.close()

    async def shutdown(self) -> None: ...


@asynccontextmanager
async def connected(
    server: GrpcServer,
) -> AsyncIterator["train_pb2_grpc.TrainServiceAsyncStub"]:
    async with aio.insecure_channel(server.address) as channel:
        yield train_pb2_grpc.TrainServiceStub(channel)


SETTINGS = ServiceSettings(drain_seconds=0)
WATCH = train_pb2.WatchTrainingRequest(id="r1")


async def test_watcher_that_hangs_up_leaves_nothing_behind() -> None:
    fake = Fake()
    async with GrpcServer(fake, SETTINGS) as server, connected(server) as stub:
        watch = stub.WatchTraining(WATCH)
        first = await watch.read()
        assert isinstance(first, train_pb2.TrainingJob)
        assert first.state == train_pb2.TRAINING_STATE_RUNNING
        assert fake.changes.watchers() == 1
        watch.cancel()
        await until(lambda: fake.changes.watchers() == 0)


async def test_stop_ends_every_watch_at_once_with_unavailable() -> None:
    async with GrpcServer(Fake(), SETTINGS) as server, connected(server) as stub:
        watches = [stub.WatchTraining(WATCH) for _ in range(2)]
        for watch in watches:
            await watch.read()
        await server.__aexit__()
        for watch in watches:
            with pytest.raises(aio.AioRpcError) as caught:
                await watch.read()
            assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


async def test_unknown_promotion_is_refused() -> None:
    async with GrpcServer(Fake(), SETTINGS) as server, connected(server) as stub:
        with pytest.raises(aio.AioRpcError) as caught:
            await stub.Train(train_pb2.TrainRequest(model="reviews", promotion=9))  # type: ignore[arg-type]
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_whole_job_is_translated() -> None:
    job = replace(
        JOB.ended(State.SUCCEEDED),
        params=Params(epochs=3, warm_start=True),
        promotion=Promotion.CHALLENGER_ONLY,
        progress={"step": 5, "total_steps": 9, "epoch": 1.5, "loss": 0.25},
        metrics={"accuracy": 0.9},
        decision=DECISION,
        rows={"train": 4, "test": 2, "dropped": 1, "digest": "abc"},
        version="7",
    )
    message = job_message(job)
    assert message.state == train_pb2.TRAINING_STATE_SUCCEEDED
    assert message.promotion == train_pb2.PROMOTION_CHALLENGER_ONLY
    assert message.params == train_pb2.TrainParams(epochs=3, warm_start=True)
    assert message.progress.loss == 0.25
    assert message.metrics["accuracy"] == 0.9
    assert message.decision.outcome == train_pb2.DECISION_OUTCOME_PROMOTED
    assert message.rows.dropped == 1
    assert message.HasField("ended_at")
    assert not message.HasField("started_at")


def test_job_without_a_decision_has_none() -> None:
    message = job_message(JOB)
    assert not message.HasField("decision")
    assert not message.HasField("progress")
    assert not message.HasField("rows")


async def test_list_goes_on_where_the_page_before_ended() -> None:
    fake = Fake()
    async with GrpcServer(fake, SETTINGS) as server, connected(server) as stub:
        for number in range(5):
            await stub.Train(train_pb2.TrainRequest(model="reviews", request_id=f"more{number}"))
        asked = train_pb2.ListTrainingsRequest(model="reviews", page_size=4, limit=1)
        first = await stub.ListTrainings(asked)
        asked.page_token = first.next_page_token
        second = await stub.ListTrainings(asked)
    assert [job.request_id for job in first.trainings] == [f"more{n}" for n in (4, 3, 2, 1)]
    assert [job.request_id for job in second.trainings] == ["more0", "r1"]
    assert second.next_page_token == ""


@pytest.mark.parametrize(
    ("field", "value"),
    [("page_token", "forged"), ("page_size", 1001), ("limit", -1)],
)
async def test_page_that_cannot_be_is_refused(field: str, value: object) -> None:
    async with GrpcServer(Fake(), SETTINGS) as server, connected(server) as stub:
        request = train_pb2.ListTrainingsRequest(model="reviews")
        setattr(request, field, value)
        with pytest.raises(aio.AioRpcError) as caught:
            await stub.ListTrainings(request)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert field in (caught.value.details() or "")


async def test_service_says_how_many_rows_it_takes_by_itself_and_keeps_the_wish_to_serve() -> None:
    async with GrpcServer(Fake(), SETTINGS) as server, connected(server) as stub:
        request = train_pb2.TrainRequest(model="reviews", request_id="r2", serve=True)
        job = await stub.Train(request)
    assert (job.params.max_examples, job.serve) == (1000, True)


async def test_a_job_of_another_model_is_neither_shown_nor_watched_nor_cancelled() -> None:
    fake = Fake()
    films = (("x-mesh-subject", "shop"), ("x-mesh-models", "films*"))
    reviews = (("x-mesh-subject", "shop"), ("x-mesh-models", "reviews"))
    async with GrpcServer(fake, SETTINGS) as server, connected(server) as stub:
        for call in (
            stub.GetTraining(train_pb2.GetTrainingRequest(id="job-r1"), metadata=films),
            stub.GetTraining(train_pb2.GetTrainingRequest(id="r1"), metadata=films),
            stub.CancelTraining(train_pb2.CancelTrainingRequest(id="r1"), metadata=films),
            stub.WatchTraining(WATCH, metadata=films).read(),
        ):
            # As of an id that no job has.
            with pytest.raises(aio.AioRpcError, match="no training has the id") as refused:
                await call
            assert refused.value.code() is grpc.StatusCode.NOT_FOUND
        with pytest.raises(aio.AioRpcError, match="not for reviews"):
            await stub.ListTrainings(
                train_pb2.ListTrainingsRequest(model="reviews"), metadata=films
            )
        shown = await stub.GetTraining(train_pb2.GetTrainingRequest(id="r1"), metadata=reviews)
        assert shown.state == train_pb2.TRAINING_STATE_RUNNING
        assert fake.changes.watchers() == 0
