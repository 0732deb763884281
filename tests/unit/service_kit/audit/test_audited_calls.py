"""What the audit says of a call, for every way in which a call can end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from grpc import aio

from control_plane.access.rules import Scope
from control_plane.xds.access.method_scopes import SCOPE_OF
from mesh.v1 import data_pb2, data_pb2_grpc, reload_pb2, reload_pb2_grpc, train_pb2, train_pb2_grpc
from service_kit.callers.audit_entry import Entry
from service_kit.callers.audited_calls import AUDITED
from service_kit.errors import NotFound
from service_kit.interceptor import ServiceInterceptor
from tests.real_parts.waiting import until

CHANGES = (Scope.DATA, Scope.TRAIN, Scope.RELEASE)
SHOP = (("x-mesh-subject", "shop"), ("x-mesh-token-id", "t1"), ("x-mesh-models", "reviews*"))


def test_every_method_of_the_scopes_that_change_something_is_audited() -> None:
    assert {method for method, scope in SCOPE_OF.items() if scope in CHANGES} == AUDITED


def test_every_audited_method_has_one_response() -> None:
    for file in (data_pb2, train_pb2, reload_pb2):
        for service in file.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                if f"/{service.full_name}/{method.name}" in AUDITED:
                    assert not method.server_streaming, method.full_name


# The type stubs ask for every method.
TrainBase: Any = train_pb2_grpc.TrainServiceServicer
DataBase: Any = data_pb2_grpc.DataServiceServicer
ReloadBase: Any = reload_pb2_grpc.ReloadServiceServicer


class Train(TrainBase):  # type: ignore[misc]
    """Fails as its caller asks."""

    def __init__(self) -> None:
        self.cancelled = asyncio.Event()

    async def Train(self, request: Any, context: Any) -> Any:
        if request.request_id == "unknown":
            raise NotFound("no training rows\x1b[2J of it")
        if request.request_id == "broken":
            raise ValueError("a secret")
        if request.request_id == "slow":
            try:
                await asyncio.sleep(60)
            finally:
                self.cancelled.set()
        return train_pb2.TrainingJob(id="7", model=request.model, request_id="made-up")

    async def CancelTraining(self, request: Any, context: Any) -> Any:
        return train_pb2.TrainingJob(id=request.id, model="reviews")

    async def GetTraining(self, request: Any, context: Any) -> Any:
        return train_pb2.TrainingJob(id=request.id)


class Data(DataBase):  # type: ignore[misc]
    """Counts rows."""

    async def ImportExamples(self, requests: AsyncIterator[Any], context: Any) -> Any:
        rows = 0
        async for request in requests:
            rows += len(request.examples)
        return data_pb2.ImportExamplesResponse(rows=data_pb2.SplitCounts(train=rows))

    async def DeleteExamples(self, request: Any, context: Any) -> Any:
        return data_pb2.DeleteExamplesResponse(deleted=len(request.texts), request_id="made-up")


class Reload(ReloadBase):  # type: ignore[misc]
    """Lacks every method but one."""

    async def SetTraffic(self, request: Any, context: Any) -> Any:
        return reload_pb2.Traffic(model=request.model)


class Rig:
    """A server of these, and what its audit took."""

    def __init__(self, channel: aio.Channel, train: Train) -> None:
        self.entries: list[Entry] = []
        self.servicer = train
        self.channel = channel
        self.train: Any = train_pb2_grpc.TrainServiceStub(channel)
        self.data: Any = data_pb2_grpc.DataServiceStub(channel)
        self.reload: Any = reload_pb2_grpc.ReloadServiceStub(channel)

    @property
    def entry(self) -> Entry:
        """The only one."""
        [entry] = self.entries
        return entry


@asynccontextmanager
async def running() -> AsyncIterator[Rig]:
    entries: list[Entry] = []
    train = Train()
    server = aio.server(interceptors=[ServiceInterceptor(entries.append)])
    train_pb2_grpc.add_TrainServiceServicer_to_server(train, server)
    data_pb2_grpc.add_DataServiceServicer_to_server(Data(), server)
    reload_pb2_grpc.add_ReloadServiceServicer_to_server(Reload(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        rig = Rig(channel, train)
        rig.entries = entries
        yield rig
    await server.stop(0)


async def refused(call: Any) -> grpc.StatusCode:
    with pytest.raises(aio.AioRpcError) as error:
        await call
    code: grpc.StatusCode = error.value.code()
    return code


async def test_a_call_that_worked_is_noted_with_who_what_and_what_came_of_it() -> None:
    async with running() as rig:
        request = train_pb2.TrainRequest(
            model="reviews", serve=True, params={"epochs": 3, "learning_rate": 1e-5}
        )
        await rig.train.Train(request, metadata=SHOP)
        entry = rig.entry
        assert (entry.subject, entry.token_id) == ("shop", "t1")
        assert (entry.method, entry.model) == ("mesh.v1.TrainService/Train", "reviews")
        assert (entry.request_id, entry.outcome) == ("made-up", "OK")
        assert entry.detail == "params.epochs 3, params.learning_rate 1e-05, serve; → id 7"


async def test_the_subject_of_a_foreign_issuer_is_told_apart() -> None:
    async with running() as rig:
        issuer = (("x-mesh-issuer", "https://id.example"),)
        await rig.train.Train(train_pb2.TrainRequest(model="reviews"), metadata=SHOP + issuer)
        assert rig.entry.subject == "shop@https://id.example"


async def test_a_call_without_a_token_is_noted_as_such() -> None:
    async with running() as rig:
        await rig.train.Train(train_pb2.TrainRequest(model="reviews"))
        assert (rig.entry.subject, rig.entry.token_id) == ("(no token)", "")


async def test_a_refusal_for_the_model_is_noted() -> None:
    async with running() as rig:
        request = train_pb2.TrainRequest(model="films", request_id="r1")
        code = await refused(rig.train.Train(request, metadata=SHOP))
        assert code is grpc.StatusCode.PERMISSION_DENIED
        entry = rig.entry
        assert (entry.model, entry.request_id, entry.outcome) == ("films", "r1", code.name)
        assert entry.detail == "the token of shop is for the models reviews*, not for films"


async def test_failures_are_noted_in_inert_words_and_faults_without_theirs() -> None:
    async with running() as rig:
        for request_id, outcome, detail in (
            ("unknown", "NOT_FOUND", "no training rows\\x1b[2J of it"),
            ("broken", "INTERNAL", ""),
        ):
            rig.entries.clear()
            request = train_pb2.TrainRequest(model="reviews", request_id=request_id)
            await refused(rig.train.Train(request, metadata=SHOP))
            assert (rig.entry.outcome, rig.entry.detail) == (outcome, detail)


async def test_a_method_that_is_missing_and_a_message_that_is_none_are_noted() -> None:
    async with running() as rig:
        await refused(rig.reload.Reload(reload_pb2.ReloadRequest(model="reviews"), metadata=SHOP))
        assert rig.entry.outcome == "UNIMPLEMENTED"
        rig.entries.clear()
        send: Any = rig.channel.unary_unary("/mesh.v1.TrainService/Train")
        await refused(send(b"\xff", metadata=SHOP))
        assert (rig.entry.outcome, rig.entry.subject) == ("INVALID_ARGUMENT", "shop")


async def test_a_call_that_its_caller_left_is_noted() -> None:
    async with running() as rig:
        request = train_pb2.TrainRequest(model="reviews", request_id="slow")
        code = await refused(rig.train.Train(request, metadata=SHOP, timeout=0.2))
        assert code is grpc.StatusCode.DEADLINE_EXCEEDED
        await rig.servicer.cancelled.wait()
        await until(lambda: bool(rig.entries))
        assert rig.entry.outcome == "CANCELLED"
        assert "may go on" in rig.entry.detail


async def test_a_call_about_a_job_has_the_jobs_model() -> None:
    async with running() as rig:
        request = train_pb2.CancelTrainingRequest(id="7", request_id="r1")
        await rig.train.CancelTraining(request, metadata=SHOP)
        entry = rig.entry
        assert (entry.model, entry.request_id, entry.detail) == ("reviews", "r1", "id 7; → id 7")


def import_of(*models: str) -> list[data_pb2.ImportExamplesRequest]:
    example = data_pb2.Example(text="a secret text", label="b")
    first, *others = models
    header = data_pb2.ImportHeader(model=first, request_id="r1", source="a.csv", no_train=True)
    return [
        data_pb2.ImportExamplesRequest(header=header, examples=[example]),
        *(data_pb2.ImportExamplesRequest(examples=[example]) for _ in range(2)),
        *(
            data_pb2.ImportExamplesRequest(header=data_pb2.ImportHeader(model=model))
            for model in others
        ),
    ]


async def test_a_stream_is_one_entry_whatever_its_messages_are() -> None:
    async with running() as rig:
        await rig.data.ImportExamples(iter(import_of("reviews")), metadata=SHOP)
        entry = rig.entry
        assert (entry.model, entry.request_id, entry.outcome) == ("reviews", "r1", "OK")
        assert entry.detail == "no_train, source a.csv; → rows.train 3"
        rig.entries.clear()
        await refused(rig.data.ImportExamples(iter(import_of("reviews", "films")), metadata=SHOP))
        assert (rig.entry.model, rig.entry.outcome) == ("reviews", "PERMISSION_DENIED")
        assert "not for films" in rig.entry.detail
        rig.entries.clear()
        await rig.data.ImportExamples(iter([]), metadata=SHOP)
        assert (rig.entry.model, rig.entry.outcome) == ("", "OK")


async def test_texts_of_customers_are_counted_and_not_noted() -> None:
    async with running() as rig:
        request = data_pb2.DeleteExamplesRequest(model="reviews", texts=["a secret text"])
        await rig.data.DeleteExamples(request, metadata=SHOP)
        assert rig.entry.detail == "texts: 1; → deleted 1"


async def test_calls_that_change_nothing_are_not_noted() -> None:
    async with running() as rig:
        await rig.train.GetTraining(train_pb2.GetTrainingRequest(id="7"), metadata=SHOP)
        assert rig.entries == []


@pytest.mark.parametrize("name", ["a" * 5000, "\x1b]0;x\x07" * 5000, "\u202e" * 5000])
def test_every_value_is_short_and_inert(name: str) -> None:
    entry = Entry(name, name, name, name, name, name, name)
    values = (entry.subject, entry.method, entry.model, entry.token_id, entry.request_id)
    for value in (*values, entry.outcome):
        assert len(value) == 200
        assert value.isprintable()
    assert len(entry.detail) == 500
    assert entry.detail.isprintable()
