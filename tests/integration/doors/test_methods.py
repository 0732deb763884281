"""HEAD, OPTIONS, methods that a path does not take, and encodings of bodies."""

import gzip
import re
from typing import Any

import httpx
import pytest

from control_plane.xds.routes.known_paths import known_paths
from tests.integration.doors.conftest import ORIGIN
from tests.integration.doors.raw_http import exchange
from tests.integration.envoy.door_checks import PREDICT
from tests.twins.toy_mesh import ToyMesh

pytestmark = pytest.mark.asyncio(loop_scope="module")

VERBS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH")
# Headers that differ from one answer to the next.
OF_ONE_ANSWER = ("date", "x-request-id", "grpc-accept-encoding")
# Each kind of path of the contract once.
PATHS = {
    "/healthz": "GET, HEAD, OPTIONS",
    "/v1/models": "GET, HEAD, OPTIONS",
    "/v1/models/reviews": "DELETE, GET, HEAD, OPTIONS",
    "/v1/models/reviews:predict": "OPTIONS, POST",
    "/v1/models/reviews/examples": "GET, HEAD, OPTIONS, POST",
    "/v1/models/reviews/examples:delete": "OPTIONS, POST",
    "/v1/models/reviews/traffic": "GET, HEAD, OPTIONS, PUT",
    "/v1/models/reviews/trainings": "GET, HEAD, OPTIONS",
    "/v1/batches": "GET, HEAD, OPTIONS",
    "/v1/fleet": "GET, HEAD, OPTIONS",
    "/v1/trainings/7": "GET, HEAD, OPTIONS",
    "/v1/trainings/7:watch": "GET, HEAD, OPTIONS",
    "/v1/trainings/7:cancel": "OPTIONS, POST",
    "/v2": "GET, HEAD, OPTIONS",
    "/v2/models/reviews": "GET, HEAD, OPTIONS",
    "/v2/models/reviews/versions/1/infer": "OPTIONS, POST",
    "/mesh.v1.PredictService/Predict": "OPTIONS, POST",
    "/inference.GRPCInferenceService/ModelInfer": "OPTIONS, POST",
    "/grpc.health.v1.Health/Check": "OPTIONS, POST",
}


@pytest.mark.parametrize("path", PATHS)
async def test_a_method_that_a_path_does_not_take_is_405_with_allow(
    mesh: ToyMesh, path: str
) -> None:
    allowed = PATHS[path]
    for verb in VERBS:
        if verb in allowed:
            continue
        answer = await mesh.http.request(verb, path, params={"a": "b"})
        assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
        if verb != "HEAD":
            told: dict[str, Any] = answer.json()
            assert "send" in (told["error"] if path.startswith("/v2") else told["message"])
    options = await mesh.http.options(path)
    assert (options.status_code, options.headers["allow"], options.content) == (204, allowed, b"")


async def test_the_table_of_paths_knows_every_path_that_is_tried_here() -> None:
    for path, allowed in PATHS.items():
        methods = [known.methods for known in known_paths() if re.fullmatch(known.pattern, path)]
        assert [", ".join(sorted((*found, "OPTIONS"))) for found in methods] == [allowed]


@pytest.mark.parametrize("path", ["/nope", "/v1", "/v1/models/reviews:foo", "/v1/models/a/b/c"])
async def test_a_path_that_nothing_answers_stays_404(mesh: ToyMesh, path: str) -> None:
    for verb in ("POST", "OPTIONS"):
        assert (await mesh.http.request(verb, path)).status_code == 404


async def test_a_grpc_call_by_another_method_is_refused_and_stays_off_the_replicas(
    mesh: ToyMesh,
) -> None:
    before = sum(replica.calls for replica in mesh.replicas)
    for verb in ("PUT", "HEAD", "PATCH", "DELETE", "GET"):
        answer = await mesh.http.request(
            verb, "/mesh.v1.PredictService/Predict", headers={"content-type": "application/grpc"}
        )
        assert (answer.headers["grpc-status"], answer.headers["allow"]) == ("12", "OPTIONS, POST")
    assert sum(replica.calls for replica in mesh.replicas) == before
    answers = [await mesh.http.post(PREDICT, json={"texts": ["a"]}) for _ in range(10)]
    assert {answer.status_code for answer in answers} == {200}


async def test_json_at_a_path_of_grpc_is_415(mesh: ToyMesh) -> None:
    answer = await mesh.http.post("/mesh.v1.PredictService/Predict", json={"texts": ["a"]})
    assert (answer.status_code, answer.headers["accept-post"]) == (415, "application/grpc")
    assert "application/grpc" in answer.json()["message"]


HEAD_PATHS = (
    "/v1/models/reviews",
    "/v1/models/NOT-A-NAME",
    "/v1/trainings/7",
    "/v1/trainings/unknown",
    "/v1/models/reviews?nope=1",
    "/v2/health/ready",
    "/healthz",
    "/nope",
)


@pytest.mark.parametrize("http2", [False, True])
@pytest.mark.parametrize("path", HEAD_PATHS)
async def test_head_answers_as_get_does_without_content(
    mesh: ToyMesh, path: str, http2: bool
) -> None:
    async with httpx.AsyncClient(
        base_url=mesh.envoy.url, http1=not http2, http2=http2, timeout=20
    ) as http:
        get = await http.get(path)
        # The second question shows that the connection is as it should be after the first.
        for _ in range(2):
            head = await http.head(path)
            assert head.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
            assert (head.status_code, head.content) == (get.status_code, b"")
            assert comparable(head) == comparable(get)
        assert (await http.get("/v1/models/reviews")).json()["name"] == "reviews"


async def test_head_of_a_stream_ends_at_once(mesh: ToyMesh) -> None:
    mesh.train.step.clear()
    for http2 in (False, True):
        async with httpx.AsyncClient(
            base_url=mesh.envoy.url, http1=not http2, http2=http2, timeout=20
        ) as http:
            head = await http.head("/v1/trainings/7:watch?nope=1")
            assert (head.status_code, head.content) == (400, b"")
            head = await http.head("/v1/trainings/7:watch")
            assert (head.status_code, head.content) == (200, b"")
            assert head.headers["content-type"] == "application/json"
            assert (await http.head("/v1/trainings/unknown:watch")).status_code == 404


async def test_questions_in_a_row_on_one_connection_survive_head(mesh: ToyMesh) -> None:
    end = b" HTTP/1.1\r\nHost: x\r\n"
    received = await exchange(
        mesh,
        b"".join(
            (
                *(b"HEAD /v1/models/reviews", end, b"\r\n"),
                *(b"HEAD /v1/trainings/7", end, b"\r\n"),
                *(b"HEAD /v1/trainings/7:watch", end, b"\r\n"),
                *(b"GET /v1/models/reviews", end, b"Connection: close\r\n\r\n"),
            )
        ),
    )
    *heads, last, body = received.split(b"\r\n\r\n")
    assert all(part.startswith(b"HTTP/1.1 200 OK\r\n") for part in (*heads, last))
    assert (len(heads), body.count(b'"name":"reviews"')) == (3, 1)


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd", "deflate", "identity, gzip", "x"])
async def test_an_encoded_body_is_415_and_told_what_is_taken(mesh: ToyMesh, encoding: str) -> None:
    answer = await mesh.http.post(
        PREDICT,
        content=gzip.compress(b'{"texts":["a"]}'),
        headers={"content-encoding": encoding, "content-type": "application/json"},
    )
    assert (answer.status_code, answer.headers["accept-encoding"]) == (415, "identity")
    assert answer.json()["code"] == 3
    assert "content-encoding" in answer.json()["message"]


@pytest.mark.parametrize(
    "headers",
    [
        {"content-encoding": "identity"},
        {"content-encoding": ""},
        # What `curl -d` sends.
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "text/plain"},
        {"content-type": "application/json; charset=utf-8"},
    ],
)
async def test_a_body_of_json_is_read_whatever_its_type_is_called(
    mesh: ToyMesh, headers: dict[str, str]
) -> None:
    answer = await mesh.http.post(PREDICT, content=b'{"texts":["a"]}', headers=headers)
    assert answer.status_code == 200


@pytest.mark.parametrize("path", [PREDICT, "/v1/fleet", "/mesh.v1.PredictService/Predict", "/v2"])
async def test_a_browser_may_ask_before_a_call_when_its_origin_may_call(
    mesh: ToyMesh, path: str
) -> None:
    async def preflight(origin: str) -> httpx.Response:
        headers = {"origin": origin, "access-control-request-method": "POST"}
        return await mesh.http.options(path, headers=headers)

    allowed = await preflight(ORIGIN)
    assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, ORIGIN)
    foreign = await preflight("https://other.example")
    assert foreign.status_code == 403
    assert "access-control-allow-origin" not in foreign.headers
    told = foreign.json()
    assert "origin" in told["error" if path == "/v2" else "message"]


async def test_an_answer_in_json_may_be_read_by_pages_of_an_allowed_origin(mesh: ToyMesh) -> None:
    answer = await mesh.http.get("/v1/models/reviews", headers={"origin": ORIGIN})
    assert answer.headers["access-control-allow-origin"] == ORIGIN


def comparable(answer: httpx.Response) -> dict[str, str]:
    found = {name: value for name, value in answer.headers.items() if name not in OF_ONE_ANSWER}
    if found.get("content-length") == "0":
        # HTTP/2 leaves it out of an answer that has no content.
        del found["content-length"]
    return found
