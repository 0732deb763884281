"""The requests of a load as bytes."""

import json
from dataclasses import replace

from mesh.v1 import predict_pb2
from mesh_cli.load import LoadSpec, OpenLoop
from mesh_cli.load.wire.request_encoding import encode_requests

SPEC = LoadSpec("127.0.0.1:8000", "reviews", OpenLoop(100), texts=("a", "b", "ü", "d", "e"))


def test_every_text_is_sent_once_before_any_is_sent_again() -> None:
    requests = [predict_pb2.PredictRequest.FromString(r) for r in encode_requests(SPEC)]
    assert [list(request.texts) for request in requests] == [["a"], ["b"], ["ü"], ["d"], ["e"]]
    assert {request.model for request in requests} == {"reviews"}
    pairs = encode_requests(replace(SPEC, texts_per_request=2))
    texts = [list(predict_pb2.PredictRequest.FromString(pair).texts) for pair in pairs]
    assert texts == [["a", "b"], ["ü", "d"], ["e", "a"]]
    more = encode_requests(replace(SPEC, texts_per_request=12))
    assert list(predict_pb2.PredictRequest.FromString(more[0]).texts) == [*"abüde", *"abüde", *"ab"]


def test_json_requests_are_whole_http_messages() -> None:
    request = encode_requests(replace(SPEC, protocol="json"))[2]
    head, _, body = request.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/models/reviews:predict HTTP/1.1\r\nhost: 127.0.0.1:8000\r\n")
    assert f"content-length: {len(body)}".encode() in head
    assert json.loads(body) == {"texts": ["ü"]}


def test_bodies_of_other_servers_are_sent_as_they_are() -> None:
    spec = replace(SPEC, protocol="json", texts=(), bodies=(b"{}",), path="/invocations")
    assert encode_requests(spec)[0].startswith(b"POST /invocations HTTP/1.1\r\n")
    assert encode_requests(spec)[0].endswith(b"content-length: 2\r\n\r\n{}")
