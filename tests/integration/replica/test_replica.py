"""One replica over real gRPC, with a tiny real model and a registry in memory."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from google.rpc.status_pb2 import Status
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from inference_svc.engines.choice import create_engine
from inference_svc.main import REFLECTED
from inference_svc.model.model_files import GOLDEN_FILE
from inference_svc.service import InferenceService
from inference_svc.settings import InferenceSettings
from mesh.v1 import predict_pb2 as pb
from mesh.v1 import predict_pb2_grpc, reload_pb2, replica_pb2, replica_pb2_grpc
from service_kit.interceptor import STATUS_DETAILS_KEY
from service_kit.model_registry.records import CHAMPION, SERVING
from service_kit.server import GrpcServer
from tests.twins.replica import LABELS, FakeRegistry, until, write_golden, write_model

SERVING_STATE = reload_pb2.MODEL_STATE_SERVING


class Client:
    """The stubs of one replica."""

    def __init__(self, channel: aio.Channel) -> None:
        self.predict = predict_pb2_grpc.PredictServiceStub(channel)
        self.replica = replica_pb2_grpc.ReplicaServiceStub(channel)
        self.health: Any = health_pb2_grpc.HealthStub(channel)

    async def ask(self, *texts: str, model: str = "reviews", **fields: Any) -> pb.PredictResponse:
        return await self.predict.Predict(pb.PredictRequest(model=model, texts=texts, **fields))

    async def reload(self, version: str, model: str = "reviews") -> replica_pb2.ActivateResponse:
        await self.replica.Prepare(replica_pb2.PrepareRequest(model=model, version=version))
        return await self.replica.Activate(
            replica_pb2.ActivateRequest(model=model, version=version)
        )

    async def state(self) -> replica_pb2.GetStateResponse:
        return await self.replica.GetState(replica_pb2.GetStateRequest())


class Replica:
    """A replica whose server a test may start and stop."""

    def __init__(self, state_dir: Path, registry: FakeRegistry) -> None:
        self.settings = InferenceSettings(
            replica_id="replica-1",
            state_dir=state_dir,
            device="cpu",
            drain_seconds=0,
            grace_seconds=5,
            max_stream_requests=4,
        )
        self.registry = registry
        self.server: GrpcServer | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Client]:
        engine = create_engine("auto", "cpu", "auto", threads=1)
        service = InferenceService(self.settings, engine, lambda: self.registry)
        async with GrpcServer(service, self.settings, REFLECTED) as server:
            self.server = server
            async with aio.insecure_channel(server.address) as channel:
                yield Client(channel)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {
        str(version): write_model(folder / str(version), version, with_graph=version < 5)
        for version in range(1, 6)
    }


@pytest.fixture
def registry(models: dict[str, Path]) -> FakeRegistry:
    registry = FakeRegistry()
    registry.models["reviews"] = {}
    for version, folder in models.items():
        registry.add("reviews", version, folder)
    registry.models["reviews"] = {CHAMPION: "1", SERVING: "1"}
    return registry


@pytest.fixture
def replica(tmp_path: Path, registry: FakeRegistry) -> Replica:
    return Replica(tmp_path / "state", registry)


@pytest.fixture
async def client(replica: Replica) -> AsyncIterator[Client]:
    async with replica.running() as client:
        yield client


async def failure(call: Any) -> aio.AioRpcError:
    with pytest.raises(aio.AioRpcError) as failed:
        await call
    return failed.value


def error_info(error: aio.AioRpcError) -> error_details_pb2.ErrorInfo:
    details = dict(error.trailing_metadata() or ())[STATUS_DETAILS_KEY]
    info = error_details_pb2.ErrorInfo()
    for detail in Status.FromString(details).details:
        if detail.Unpack(info):
            return info
    raise AssertionError("no ErrorInfo")


async def test_predict_answers_in_order_and_tells_version_and_timing(client: Client) -> None:
    texts = ("a great film", "awful", "word " * 100)
    response = await client.ask(*texts, all_scores=True)
    assert len(response.predictions) == 3
    for text, prediction in zip(texts, response.predictions, strict=True):
        alone = (await client.ask(text)).predictions[0]
        assert alone.label == prediction.label
        assert alone.score == pytest.approx(prediction.score, abs=0.05)
        assert sum(item.score for item in prediction.scores) == pytest.approx(1, abs=1e-5)
        assert prediction.scores[0].label == prediction.label
        assert not alone.scores
    assert [prediction.truncated for prediction in response.predictions] == [False, False, True]
    assert response.model == pb.ServedModel(
        name="reviews",
        version="1",
        alias="Champion",
        run_id="run-1",
        batch_id="retrain__reviews__1",
    )
    assert response.replica == "replica-1"
    assert response.timing.compute_ms > 0
    assert response.timing.batch_texts in (1, 2, 3)


async def test_listed_model_tells_what_it_is(client: Client) -> None:
    models = (await client.predict.ListModels(pb.ListModelsRequest())).models
    assert [(model.name, model.version, tuple(model.labels)) for model in models] == [
        ("reviews", "1", LABELS)
    ]
    assert models[0] == await client.predict.GetModel(pb.GetModelRequest(model="reviews"))
    assert models[0].max_tokens == 64
    assert models[0].engine.startswith("openvino ")


@pytest.mark.parametrize(
    ("request_", "problem"),
    [
        (pb.PredictRequest(model="Reviews", texts=["a"]), "model: 'Reviews'"),
        (pb.PredictRequest(model="reviews"), "texts: is empty"),
        (pb.PredictRequest(model="reviews", texts=["a"] * 1025), "texts: has 1,025"),
        (pb.PredictRequest(model="reviews", texts=["a", " "]), "texts[1]: is blank"),
        (pb.PredictRequest(model="reviews", texts=["a" * 32_769]), "texts[0]: has 32,769"),
    ],
)
async def test_bad_input_names_field_and_limit(
    client: Client, request_: pb.PredictRequest, problem: str
) -> None:
    error = await failure(client.predict.Predict(request_))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert problem in (error.details() or "")


async def test_model_without_answers_says_what_to_do(
    client: Client, registry: FakeRegistry
) -> None:
    registry.models |= {"news": {}, "mails": {CHAMPION: "3"}}
    for model, code, message in (
        ("films", grpc.StatusCode.NOT_FOUND, "there is no model films; served here: reviews"),
        (
            "news",
            grpc.StatusCode.FAILED_PRECONDITION,
            "no version of news is promoted yet: train one first",
        ),
        (
            "mails",
            grpc.StatusCode.FAILED_PRECONDITION,
            "version 3 of mails is promoted but not served yet: reload it",
        ),
    ):
        error = await failure(client.ask("a", model=model))
        assert (error.code(), error.details()) == (code, message)
    registry.away = True
    error = await failure(client.ask("a", model="unheard_of"))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    await client.ask("a")


async def test_reload_under_traffic_fails_nothing_and_never_mixes_versions(
    client: Client, registry: FakeRegistry
) -> None:
    versions: list[str] = []
    stop = asyncio.Event()

    async def ask() -> None:
        while not stop.is_set():
            response = await client.ask("a great film", "awful", "the film was good " * 9)
            versions.append(response.model.version)

    clients = [asyncio.create_task(ask()) for _ in range(8)]
    for version in ("2", "3"):
        swap = await client.reload(version)
        assert swap.from_version == str(int(version) - 1)
        assert 0 <= swap.drained_requests <= 8
    stop.set()
    await asyncio.gather(*clients)
    assert (await client.ask("a")).model.version == "3"
    assert set(versions) <= {"1", "2", "3"}


async def test_prepare_is_shared_and_idempotent(client: Client, registry: FakeRegistry) -> None:
    registry.downloads.clear()
    request = replica_pb2.PrepareRequest(model="reviews", version="2")
    await asyncio.gather(*(client.replica.Prepare(request) for _ in range(4)))
    again = await client.replica.Prepare(request)
    assert registry.downloads == [("reviews", "2")]
    assert again.serving_version == "1"
    activate = replica_pb2.ActivateRequest(model="reviews", version="2")
    first = await client.replica.Activate(activate)
    second = await client.replica.Activate(activate)
    assert (first.from_version, second.from_version) == ("1", "2")


async def test_state_tells_every_slot(client: Client) -> None:
    before = (await client.state()).slots[0]
    assert not before.HasField("first_answer_at")
    await client.ask("a")
    await client.replica.Prepare(replica_pb2.PrepareRequest(model="reviews", version="2"))
    state = await client.state()
    assert state.replica == "replica-1"
    assert state.device.startswith("cpu (")
    assert [(slot.version, slot.state) for slot in state.slots] == [
        ("1", SERVING_STATE),
        ("2", reload_pb2.MODEL_STATE_READY),
    ]
    assert state.slots[0].HasField("first_answer_at")
    await client.replica.Abort(replica_pb2.AbortRequest(model="reviews", version="2"))
    assert len((await client.state()).slots) == 1
    error = await failure(
        client.replica.Activate(replica_pb2.ActivateRequest(model="reviews", version="2"))
    )
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_challenger_answers_its_role_and_champion_where_there_is_none(
    client: Client,
) -> None:
    role = reload_pb2.MODEL_ROLE_CHALLENGER
    request = pb.PredictRequest(model="reviews", texts=["a"])
    asked = (("x-mesh-role", "challenger"),)
    assert (await client.predict.Predict(request, metadata=asked)).model.alias == "Champion"
    await client.replica.Prepare(
        replica_pb2.PrepareRequest(model="reviews", version="2", role=role)
    )
    await client.replica.Activate(
        replica_pb2.ActivateRequest(model="reviews", version="2", role=role)
    )
    call = client.predict.Predict(request, metadata=asked)
    answer = (await call).model
    assert (answer.version, answer.alias) == ("2", "Challenger")
    # Envoy's access log has it from there.
    told = {"model": "reviews", "version": "2", "alias": "Challenger", "replica": "replica-1"}
    sent = dict(await call.trailing_metadata())
    assert {name: sent[f"x-mesh-{name}"] for name in told} == told
    assert (await client.ask("a")).model.version == "1"


async def broken(tmp_path: Path, models: dict[str, Path], what: str) -> Path:
    folder = write_model(tmp_path / "broken", seed=1)
    if what == "no golden set":
        (folder / GOLDEN_FILE).unlink()
    elif what == "other answers":
        entry = {"text": "a great film", "scores": [0.5, 0.5]}
        both = [entry | {"label": label} for label in LABELS]
        write_golden(folder, LABELS, both)
    elif what == "three labels":
        write_golden(folder, ("a", "b", "c"), [])
    else:
        (folder / "model" / "model.safetensors").write_bytes(b"nothing")
    return folder


@pytest.mark.parametrize(
    ("what", "step"),
    [
        ("no golden set", "golden set"),
        ("other answers", "golden set"),
        ("three labels", "warm-up"),
        ("no weights", "load"),
        ("not there", "download"),
    ],
)
async def test_version_that_cannot_be_prepared_names_the_step_and_changes_nothing(
    client: Client,
    registry: FakeRegistry,
    tmp_path: Path,
    models: dict[str, Path],
    what: str,
    step: str,
) -> None:
    if what != "not there":
        registry.add("reviews", "9", await broken(tmp_path, models, what))
    request = replica_pb2.PrepareRequest(model="reviews", version="9")
    error = await failure(client.replica.Prepare(request))
    assert error.code() is grpc.StatusCode.ABORTED
    info = error_info(error)
    assert (info.reason, info.metadata["step"]) == ("PREPARE_FAILED", step)
    assert (await client.ask("a")).model.version == "1"
    failed = (await client.state()).slots[1]
    assert (failed.state, failed.step) == (reload_pb2.MODEL_STATE_FAILED, step)


async def test_prepare_while_mlflow_is_away_can_be_tried_again(
    client: Client, registry: FakeRegistry
) -> None:
    registry.away = True
    request = replica_pb2.PrepareRequest(model="reviews", version="2")
    error = await failure(client.replica.Prepare(request))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert error_info(error).metadata["step"] == "download"
    registry.away = False
    await client.replica.Prepare(request)


async def test_replica_starts_from_its_cache_and_catches_up_when_mlflow_is_back(
    replica: Replica, registry: FakeRegistry
) -> None:
    async with replica.running() as client:
        await client.reload("2")
    registry.away = True
    async with replica.running() as client:
        assert (await client.ask("a")).model.version == "2"
        registry.models["reviews"][SERVING] = "3"
        registry.away = False

        async def caught_up() -> bool:
            return (await client.ask("a")).model.version == "3"

        await until(caught_up)


async def test_model_that_cannot_be_loaded_does_not_stop_the_others(
    replica: Replica, registry: FakeRegistry, tmp_path: Path, models: dict[str, Path]
) -> None:
    registry.add("broken", "1", await broken(tmp_path, models, "no weights"), SERVING)
    async with replica.running() as client:
        assert (await client.ask("a")).model.version == "1"
        error = await failure(client.ask("a", model="broken"))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        registry.folders[("broken", "1")] = models["2"]

        async def loaded() -> bool:
            slots = (await client.state()).slots
            return [slot.state for slot in slots] == [SERVING_STATE] * 2

        await until(loaded)
        assert (await client.ask("a", model="broken")).model.version == "1"


async def test_replica_without_models_serves(tmp_path: Path) -> None:
    async with Replica(tmp_path, FakeRegistry()).running() as client:
        health = await client.health.Check(health_pb2.HealthCheckRequest())
        assert health.status == health_pb2.HealthCheckResponse.SERVING
        error = await failure(client.ask("a"))
        assert error.details() == "there is no model reviews; served here: none"


async def test_every_public_service_is_reflected(replica: Replica, client: Client) -> None:
    assert replica.server is not None
    address = replica.server.address

    def names() -> Iterable[str]:
        with grpc.insecure_channel(address) as channel:
            return ProtoReflectionDescriptorDatabase(channel).get_services()

    found = set(await asyncio.to_thread(names))
    assert {f"mesh.v1.{name}Service" for name in ("Predict", "Train", "Reload", "Data")} <= found
    assert "mesh.v1.ReplicaService" not in found


async def test_stream_answers_every_item_and_one_bad_item_does_not_end_it(client: Client) -> None:
    requests = [
        pb.PredictRequest(model="reviews", texts=["a great film"], id=str(i)) for i in range(50)
    ]
    requests[7] = pb.PredictRequest(model="reviews", id="7")
    requests[8] = pb.PredictRequest(model="films", texts=["a"], id="8")
    answers = {answer.id: answer async for answer in client.predict.PredictStream(iter(requests))}
    assert len(answers) == 50
    assert answers["7"].error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert answers["8"].error.code == grpc.StatusCode.NOT_FOUND.value[0]
    assert sum(answer.HasField("response") for answer in answers.values()) == 48


async def test_stream_answers_an_undecodable_message(replica: Replica, client: Client) -> None:
    assert replica.server is not None
    async with aio.insecure_channel(replica.server.address) as channel:
        stream = channel.stream_stream(
            "/mesh.v1.PredictService/PredictStream",
            request_serializer=bytes,
            response_deserializer=pb.PredictStreamResponse.FromString,
        )
        good = pb.PredictRequest(model="reviews", texts=["a"], id="x").SerializeToString()
        answers = [answer async for answer in stream(iter([b"\x12\x01\xff", good]))]
    assert sorted(answer.WhichOneof("result") for answer in answers) == ["error", "response"]


async def test_draining_replica_answers_calls_and_ends_streams_with_unavailable(
    replica: Replica, client: Client
) -> None:
    stream = client.predict.PredictStream()
    await stream.write(pb.PredictRequest(model="reviews", texts=["a"], id="1"))
    answer = await stream.read()
    assert isinstance(answer, pb.PredictStreamResponse)
    assert answer.id == "1"
    assert replica.server is not None
    await replica.server.drain()
    await client.ask("a")
    assert (await client.state()).draining
    assert (await failure(stream.read())).code() is grpc.StatusCode.UNAVAILABLE


async def test_call_cancelled_by_its_client_harms_nobody(client: Client) -> None:
    calls = [
        client.predict.Predict(pb.PredictRequest(model="reviews", texts=["a good film"] * 50))
        for _ in range(20)
    ]
    for call in calls[::2]:
        call.cancel()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(answer, pb.PredictResponse) for answer in answers[1::2])
    assert all(isinstance(answer, asyncio.CancelledError) for answer in answers[::2])


async def test_old_versions_leave_the_cache_but_none_in_use(
    client: Client, replica: Replica
) -> None:
    for version in ("2", "3", "4", "5"):
        await client.reload(version)
    folder = replica.settings.state_dir / "models" / "reviews"
    assert sorted(path.name for path in folder.iterdir()) == ["3", "4", "5"]
