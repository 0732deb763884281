"""Whatever is sent to the public port, the answer keeps the contract, and the mesh goes on."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from inference import open_inference_pb2
from mesh.v1 import data_pb2, predict_pb2, reload_pb2, train_pb2
from tests.integration.fuzz.fuzz_rig import AWAY, MODEL, SPLIT_MODEL, FuzzedMesh, fuzzed_mesh
from tests.integration.fuzz.fuzzing import ANSWERS, answered, json_values, methods, wire
from tests.real_parts.postgres import execute, with_database

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIMIT = 8 * 1024 * 1024
NAMES = (MODEL, SPLIT_MODEL, "nobody", "text", "BYTES", "label", "1", "train", "a good film", "r-1")
PUBLIC = (predict_pb2, train_pb2, reload_pb2, data_pb2, open_inference_pb2, health_pb2)
METHODS = sorted(
    methods(*(service for file in PUBLIC for service in file.DESCRIPTOR.services_by_name.values())),
    key=lambda method: method[0],
)
VERBS = ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "BREW")
PATHS = [
    "/v1/models",
    "/v1/models/{model}",
    "/v1/models/{model}:predict",
    "/v1/models/{model}:train",
    "/v1/models/{model}/trainings",
    "/v1/trainings/{model}",
    "/v1/trainings/{model}:cancel",
    "/v1/models/{model}:reload",
    "/v1/models/{model}:rollback",
    "/v1/models/{model}/traffic",
    "/v1/models/{model}/examples",
    "/v1/models/{model}:trigger",
    "/v1/models/{model}/batches",
    "/v1/fleet",
    "/v2",
    "/v2/models/{model}",
    "/v2/models/{model}/infer",
    "/v2/models/{model}/versions/1/infer",
    "/v2/health/ready",
]
FIELDS = (
    *("texts", "allScores", "requestId", "params", "promotion", "version", "examples", "text"),
    *("label", "split", "championWeight", "challengerWeight", "mirrorPercent", "limit", "model"),
    *("inputs", "outputs", "id", "parameters", "steps", "stepSeconds", "epochs", "seed"),
)
PREFIXES = (
    b"",
    b"GET / HTTP/1.1\r\n",
    b"POST /v1/models/reviews:predict HTTP/1.1\r\nhost: a\r\n",
    b"POST /v2/models/reviews/infer HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
)
# Bytes of memory that Python and Envoy keep for themselves after large bodies.
ROOM_BYTES = 700 * 1024 * 1024


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(
    tmp_path_factory: pytest.TempPathFactory, postgres_server: str, mlflow_url: str
) -> AsyncIterator[FuzzedMesh]:
    execute(postgres_server, "CREATE DATABASE fuzz")
    url = with_database(postgres_server, "fuzz")
    async with fuzzed_mesh(tmp_path_factory.mktemp("fuzz"), url, mlflow_url) as running:
        examples = {"examples": [{"text": f"text {n}", "label": "ab"[n % 2]} for n in range(40)]}
        yield running
        # After all that was sent, every service still answers, and the replica's queue is empty.
        response = await running.http.post(f"/v1/models/{MODEL}:predict", json={"texts": ["a"]})
        assert response.status_code == 200, response.text
        assert (await running.http.get("/v1/fleet")).status_code == 200
        for path in (f"/v1/models/{MODEL}/trainings", f"/v1/models/{MODEL}/examples"):
            assert (await running.http.get(path)).status_code in (200, 404)
        response = await running.http.post(f"/v1/models/{MODEL}/examples", json=examples)
        assert response.status_code in (200, 404), response.text
        assert running.queued_texts() == 0
    execute(postgres_server, "DROP DATABASE fuzz WITH (FORCE)")


def assert_contract(response: httpx.Response) -> None:
    """An error has the form of the contract, and none is a fault of the mesh itself (5xx)."""
    request = f"{response.request.method} {response.request.extensions.get('target')!r}"
    assert response.status_code < 500, f"{request}: {response.text}"
    assert "Traceback" not in response.text
    if response.status_code >= 400 and response.request.method != "HEAD":
        error = response.json()
        in_form = error.keys() == {"error"} or error.keys() >= {"code", "message", "details"}
        assert in_form, f"{request}: {response.text}"


@pytest.mark.parametrize(("method", "kind"), METHODS, ids=[name for name, _ in METHODS])
@settings(max_examples=max(settings().max_examples // 3, 1))
@given(data=st.data())
async def test_any_message_to_any_method(
    mesh: FuzzedMesh, method: str, kind: Any, data: st.DataObject
) -> None:
    most = 4 if method.endswith(("PredictStream", "ImportExamples")) else 1
    requests = data.draw(st.lists(wire(kind, NAMES), min_size=1, max_size=most))
    answer = await answered(mesh.channel, method, *requests)
    if answer.details == AWAY:
        await mesh.healthy()
        answer = await answered(mesh.channel, method, *requests)
    assert answer.code in ANSWERS, f"{answer.code}: {answer.details}"
    if method.endswith("PredictStream"):
        for item in map(predict_pb2.PredictStreamResponse.FromString, answer.messages):
            assert item.error.code in {code.value[0] for code in ANSWERS}, item


json_bodies = st.one_of(
    json_values(NAMES),
    st.dictionaries(st.sampled_from(FIELDS), json_values(NAMES), max_size=5),
    st.builds(lambda texts: {"texts": texts}, st.lists(st.text(max_size=20), max_size=5)),
).map(lambda value: json.dumps(value).encode())
raw_bodies = st.one_of(
    json_bodies,
    st.binary(max_size=200),
    st.tuples(json_bodies, st.integers(0, 1000)).map(lambda case: case[0][: case[1]]),
)


@given(
    verb=st.sampled_from(VERBS) | st.just("POST"),
    path=st.sampled_from(PATHS),
    model=st.sampled_from((*NAMES, "%00", "%ff", "a%2Fb", "..", "", "x" * 5000)),
    query=st.sampled_from(("", "", "?limit=-1", "?model=x", "?limit=x", "?%00=%ff", "?texts=a")),
    body=raw_bodies,
    kind=st.sampled_from(("application/json", "text/plain", "application/grpc", "a/b;charset=x")),
)
async def test_any_json_to_any_path(
    mesh: FuzzedMesh, verb: str, path: str, model: str, query: str, body: bytes, kind: str
) -> None:
    target = (path.format(model=model) + query).encode()
    response = await ask(mesh, verb, target, body, {"content-type": kind})
    # An error in answer to gRPC is in its headers, as gRPC wants it.
    if kind != "application/grpc":
        assert_contract(response)


@given(
    target=st.binary(max_size=50) | st.text(max_size=30).map(str.encode),
    verb=st.sampled_from(VERBS),
    headers=st.dictionaries(
        st.sampled_from(("x-mesh-key", "x-mesh-role", "grpc-timeout", "te", "accept", "x-a")),
        st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20).map(str.strip),
    ),
)
async def test_any_path(
    mesh: FuzzedMesh, target: bytes, verb: str, headers: dict[str, str]
) -> None:
    assert_contract(await ask(mesh, verb, b"/" + target, b"{}", headers))


async def ask(
    mesh: FuzzedMesh, verb: str, target: bytes, body: bytes, headers: dict[str, str]
) -> httpx.Response:
    request = mesh.http.build_request(verb, "/", content=body, headers=headers)
    request.extensions["target"] = target
    try:
        response = await mesh.http.send(request)
        if response.status_code == 503 and AWAY in response.text:
            await mesh.healthy()
            response = await mesh.http.send(request)
        return response
    except httpx.LocalProtocolError:
        # httpx itself refuses to send such a request; the next test sends bytes without httpx.
        reject()


@given(content=st.binary(max_size=200), prefix=st.sampled_from(PREFIXES))
async def test_any_bytes_to_the_port(mesh: FuzzedMesh, content: bytes, prefix: bytes) -> None:
    host, port = mesh.envoy.address.rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(prefix + content)
    writer.write_eof()
    try:
        async with asyncio.timeout(60):
            answer = await reader.read(100)
    except ConnectionError:
        answer = b""
    writer.close()
    assert not answer.startswith(b"HTTP/1.1 5")


PARAMETERS = st.sampled_from(
    ("binary_data_size", "binary_data", "content_type", "classification", "shared_memory_region")
)
output_fields = st.fixed_dictionaries(
    {"name": st.sampled_from(("label", "score", "scores", "truncated")) | json_values(NAMES)},
    optional={"parameters": st.dictionaries(PARAMETERS, json_values(NAMES), max_size=2)},
)
tensor_fields = st.fixed_dictionaries(
    {},
    optional={
        "name": st.just("text") | json_values(NAMES),
        "datatype": st.just("BYTES") | json_values(NAMES),
        "shape": st.just([1]) | st.lists(st.integers(-2, 1100), max_size=3) | json_values(NAMES),
        "data": st.just(["a"]) | json_values(NAMES),
        "parameters": st.none() | st.dictionaries(PARAMETERS, json_values(NAMES), max_size=2),
    },
)
infer_requests = st.fixed_dictionaries(
    {"inputs": st.lists(tensor_fields, max_size=2) | json_values(NAMES)},
    optional={
        "id": json_values(NAMES),
        "outputs": st.lists(output_fields, max_size=2) | json_values(NAMES),
        "parameters": json_values(NAMES),
    },
)


@given(
    request=infer_requests,
    binary=st.binary(max_size=30),
    length=st.none() | st.integers(-1, 100).map(str) | st.sampled_from(("9" * 5000, "1e1", "")),
)
async def test_any_tensor_over_http(
    mesh: FuzzedMesh, request: Any, binary: bytes, length: str | None
) -> None:
    body = json.dumps(request).encode()
    headers = {"content-type": "application/octet-stream"}
    if length is not None:
        headers["Inference-Header-Content-Length"] = length if length != "" else str(len(body))
    target = f"/v2/models/{MODEL}/infer".encode()
    assert_contract(await ask(mesh, "POST", target, body + binary, headers))


def largest(begin: str, unit: str, end: str) -> bytes:
    """A body of the largest size that the mesh takes, with as many units as fit."""
    return (begin + unit * ((LIMIT - len(begin) - len(end)) // len(unit)) + end).encode()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (f"/v1/models/{MODEL}:predict", largest('{"texts":[""', ',""', "]}")),
        (f"/v1/models/{MODEL}:predict", largest('{"texts":["', "\\u0001", '"]}')),
        (f"/v1/models/{MODEL}:predict", largest("", "[", "")),
        (f"/v1/models/{MODEL}:predict", largest('{"a":', '{"a":', "1")),
        (f"/v1/models/{MODEL}/examples", largest('{"examples":[{}', ",{}", "]}")),
        (f"/v2/models/{MODEL}/infer", largest("", "[", "")),
        (f"/v2/models/{MODEL}/infer", largest('{"inputs":[{}', ",{}", "]}")),
        (f"/v2/models/{MODEL}/infer", b"9" * LIMIT),
        (f"/v2/models/{MODEL}/infer", largest('{"inputs":[""', ',""', "]}")),
        (f"/v2/models/{MODEL}/infer", largest('{"a":1', ',"a":1', "}")),
    ],
    ids=lambda value: None if isinstance(value, str) else ascii(value[:16]),
)
async def test_the_largest_bodies_leave_no_memory_behind(
    mesh: FuzzedMesh, path: str, body: bytes
) -> None:
    before = mesh.memory_bytes()
    # Without its type the body of an operating method is refused before it is read.
    headers = {"content-type": "application/json"}
    responses = await asyncio.gather(
        *(mesh.http.post(path, content=body, headers=headers) for _ in range(3))
    )
    for response in responses:
        assert_contract(response)
        assert response.status_code >= 400
    assert mesh.memory_bytes() - before < ROOM_BYTES
