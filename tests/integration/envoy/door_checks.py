"""Calls and checks for tests of Envoy's doors: gRPC, JSON and gRPC-Web."""

from typing import Any

import grpc

from mesh.v1 import (
    predict_pb2,
    predict_pb2_grpc,
)
from tests.twins.toy_mesh import ToyMesh

PREDICT = "/v1/models/reviews:predict"


def predict_stub(mesh: ToyMesh) -> Any:
    return predict_pb2_grpc.PredictServiceStub(mesh.channel)


def predict_request(model: str = "reviews", *texts: str) -> predict_pb2.PredictRequest:
    return predict_pb2.PredictRequest(model=model, texts=texts or ("a",))


def assert_error(response: Any, code: grpc.StatusCode, words: str) -> None:
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert set(body) == {"code", "message", "details"}
    assert body["code"] == code.value[0]
    assert isinstance(body["details"], list)
    assert words in body["message"]
