"""Which models a caller may work with, at every kind of method of a gRPC server."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc import aio

from inference import open_inference_pb2 as oip
from mesh.v1 import data_pb2, predict_pb2, reload_pb2, train_pb2
from service_kit.callers.caller import ANYBODY, Caller, caller_of, check_message, current
from service_kit.errors import PermissionDenied
from service_kit.interceptor import ServiceInterceptor

REVIEWS = {"x-mesh-subject": "shop", "x-mesh-token-id": "1", "x-mesh-models": "reviews*"}
METADATA = tuple(REVIEWS.items())


def test_no_headers_are_a_call_of_the_mesh_or_an_open_one() -> None:
    assert caller_of({}) == ANYBODY
    assert ANYBODY.may("anything")


@pytest.mark.parametrize(
    ("models", "model", "allowed"),
    [
        ("*", "films", True),
        ("reviews*", "reviews", True),
        ("reviews*", "reviews_2", True),
        ("reviews*", "review", False),
        ("reviews", "reviews_2", False),
        ("films reviews*", "films", True),
        ("films reviews*", "films_2", False),
        ("", "reviews", False),
    ],
)
def test_patterns(models: str, model: str, allowed: bool) -> None:
    assert caller_of({"x-mesh-subject": "shop", "x-mesh-models": models}).may(model) is allowed


@pytest.mark.parametrize(
    ("models", "patterns"),
    [
        ("*", ["%"]),
        ("reviews_2* films", [r"reviews\_2%", "films"]),
        (r"f% a\*", ["f\\%", "a\\\\%"]),
    ],
)
def test_patterns_for_sql_match_what_the_caller_may(models: str, patterns: list[str]) -> None:
    assert caller_of({"x-mesh-subject": "shop", "x-mesh-models": models}).like_patterns == patterns


def test_the_subject_of_a_foreign_issuer_is_told_apart() -> None:
    own = caller_of({"x-mesh-subject": "ann"})
    foreign = caller_of({"x-mesh-subject": "ann", "x-mesh-issuer": "https://id.example"})
    assert (own.name, foreign.name) == ("ann", "ann@https://id.example")
    with pytest.raises(PermissionDenied, match=r"the token of ann@https://id\.example is for"):
        foreign.check("reviews")


def test_a_subject_without_models_may_use_none() -> None:
    assert not caller_of({"x-mesh-subject": "shop"}).may("reviews")


@pytest.mark.parametrize(
    "message",
    [
        predict_pb2.PredictRequest(model="films"),
        predict_pb2.GetModelRequest(model="films"),
        train_pb2.TrainRequest(model="films"),
        reload_pb2.RemoveModelRequest(model="films"),
        data_pb2.RetryRequest(model="films"),
        data_pb2.ImportExamplesRequest(header=data_pb2.ImportHeader(model="films")),
        oip.ModelInferRequest(model_name="films"),
        oip.ModelReadyRequest(name="films"),
        oip.ModelMetadataRequest(name="films"),
    ],
)
def test_a_message_about_another_model_is_refused(message: Any) -> None:
    caller = caller_of(REVIEWS)
    with pytest.raises(
        PermissionDenied,
        match=r"the token of shop is for the models reviews\*, not for films",
    ):
        check_message(caller, message)
    check_message(ANYBODY, message)


def test_messages_that_name_no_model_pass() -> None:
    caller = caller_of(REVIEWS)
    for message in (
        reload_pb2.GetFleetRequest(),
        data_pb2.ListBatchesRequest(),
        data_pb2.ImportExamplesRequest(),
        b"",
    ):
        check_message(caller, message)


class Methods(grpc.GenericRpcHandler):
    """A method of each arity; each notes its caller."""

    def __init__(self) -> None:
        self.callers: list[Caller] = []

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        name = details.method.rpartition("/")[2]
        make = getattr(grpc, f"{name}_rpc_method_handler")
        return make(
            getattr(self, name),
            predict_pb2.PredictRequest.FromString,
            predict_pb2.PredictResponse.SerializeToString,
        )

    async def unary_unary(self, request: Any, context: Any) -> Any:
        self.callers.append(current())
        return predict_pb2.PredictResponse()

    async def stream_unary(self, requests: AsyncIterator[Any], context: Any) -> Any:
        async for _ in requests:
            self.callers.append(current())
        return predict_pb2.PredictResponse()

    async def unary_stream(self, request: Any, context: Any) -> AsyncIterator[Any]:
        self.callers.append(current())
        yield predict_pb2.PredictResponse()

    async def stream_stream(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for _ in requests:
            self.callers.append(current())
            yield predict_pb2.PredictResponse()


async def _call(channel: aio.Channel, arity: str, models: list[str], metadata: Any) -> None:
    messages = [predict_pb2.PredictRequest(model=model) for model in models]
    method = getattr(channel, arity)(
        f"/a/{arity}",
        predict_pb2.PredictRequest.SerializeToString,
        predict_pb2.PredictResponse.FromString,
    )
    request = iter(messages) if arity.startswith("stream") else messages[-1]
    call = method(request, metadata=metadata, timeout=10)
    if arity.endswith("stream"):
        async for _ in call:
            continue
    else:
        await call


@pytest.mark.parametrize("arity", ["unary_unary", "stream_unary", "unary_stream", "stream_stream"])
async def test_each_message_of_a_call_is_checked_and_no_caller_leaks_into_another_call(
    arity: str,
) -> None:
    methods = Methods()
    server = aio.server(interceptors=[ServiceInterceptor()])
    server.add_generic_rpc_handlers((methods,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            await _call(channel, arity, ["reviews", "reviews_2"], METADATA)
            with pytest.raises(aio.AioRpcError) as refused:
                await _call(channel, arity, ["reviews", "films"], METADATA)
            await _call(channel, arity, ["films"], ())
    finally:
        await server.stop(None)
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert "not for films" in str(refused.value.details())
    assert methods.callers[0].subject == "shop"
    assert methods.callers[-1] == ANYBODY
