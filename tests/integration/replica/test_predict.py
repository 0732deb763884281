"""Calls of PredictService: answers, errors, and streams."""

import asyncio
from collections.abc import Iterable

import grpc
import pytest
from grpc import aio
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from mesh.v1 import predict_pb2 as pb
from mesh.v1 import reload_pb2, replica_pb2
from service_kit.model_registry.records import CHAMPION
from tests.integration.replica.rig import Client, Replica, failure
from tests.twins.replica import LABELS, FakeRegistry


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
