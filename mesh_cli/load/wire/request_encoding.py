"""Encodes the requests of a load before its clock runs."""

import json
from collections.abc import Iterator
from itertools import chain, cycle, islice

from mesh.v1 import predict_pb2
from mesh_cli.load.plan.spec import LoadSpec

GRPC_METHOD = "/mesh.v1.PredictService/Predict"


def encode_requests(spec: LoadSpec) -> list[bytes]:
    """Every distinct request of a load in its order: gRPC messages, or whole HTTP requests.

    Each text is in one of them. The last request is filled up with texts from the beginning.
    """
    bodies = spec.bodies or [_body(spec, texts) for texts in _groups(spec)]
    if spec.protocol == "grpc":
        return list(bodies)
    path = spec.path or f"/v1/models/{spec.model}:predict"
    return [_http(spec, path, body) for body in bodies]


def _groups(spec: LoadSpec) -> Iterator[list[str]]:
    size = spec.texts_per_request
    for begin in range(0, len(spec.texts), size):
        yield list(islice(chain(spec.texts[begin : begin + size], cycle(spec.texts)), size))


def _body(spec: LoadSpec, texts: list[str]) -> bytes:
    if spec.protocol == "grpc":
        return predict_pb2.PredictRequest(model=spec.model, texts=texts).SerializeToString()
    return json.dumps({"texts": texts}, ensure_ascii=False).encode()


def _http(spec: LoadSpec, path: str, body: bytes) -> bytes:
    token = f"authorization: Bearer {spec.token}\r\n" if spec.token else ""
    head = (
        f"POST {path} HTTP/1.1\r\nhost: {spec.authority}\r\n{token}"
        "content-type: application/json\r\n"
        f"accept: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
