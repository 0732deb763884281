"""What a web page makes its visitor's browser send ends at Envoy: rebound names, foreign origins,
and bodies that a page may send without asking first."""

from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio
from grpc import StatusCode, aio

from mesh.v1 import predict_pb2, predict_pb2_grpc
from tests.integration.abuse.honest_clients import honest_clients
from tests.twins.toy_mesh import ToyMesh, running_mesh

pytestmark = pytest.mark.asyncio(loop_scope="module")

EVERY_DOOR = (
    ("GET", "/v1/fleet"),
    ("POST", "/v1/models/reviews:predict"),
    ("POST", "/v1/models/reviews:rollback"),
    ("POST", "/v1/models/reviews:trigger"),
    ("POST", "/v1/models/reviews/examples"),
    ("GET", "/v2/health/ready"),
    ("POST", "/v2/models/reviews/infer"),
)
GRPC = (
    "/mesh.v1.TrainService/Train",
    "/mesh.v1.PredictService/Predict",
    "/grpc.health.v1.Health/Check",
)
FOREIGN_HOSTS = ("evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.io")
OWN_HOSTS = (
    "localhost",
    "LOCALHOST:8000",
    "127.0.0.1:1",
    "[::1]:8000",
    "envoy:8000",
    "a.localhost",
)
FOREIGN_ORIGINS = ("https://evil.example", "null", "http://localhost:3000", "file://", "")
# The operating methods, each with a body of its own kind.
OPERATING = (
    ("POST", "/v1/models/reviews:train"),
    ("POST", "/v1/models/reviews:reload"),
    ("POST", "/v1/models/reviews:rollback"),
    ("POST", "/v1/models/reviews:trigger"),
    ("POST", "/v1/models/reviews/examples"),
    ("PUT", "/v1/models/reviews/traffic"),
    ("POST", "/v1/trainings/1:cancel"),
)


@pytest.mark.parametrize("host", FOREIGN_HOSTS)
async def test_a_name_that_is_not_the_meshs_is_refused_and_told_the_setting(
    mesh: ToyMesh, host: str
) -> None:
    async with honest_clients(mesh.envoy):
        for method, path in EVERY_DOOR:
            answer = await mesh.http.request(method, path, json={}, headers={"host": host})
            assert answer.status_code == httpx.codes.FORBIDDEN, path
            assert "CONTROL_ALLOWED_HOSTS" in answer.text
        for path in GRPC:
            for kind in ("application/grpc", "application/grpc-web"):
                headers = {"host": host, "content-type": kind}
                answer = await mesh.http.post(path, content=b"\0" * 5, headers=headers)
                assert answer.headers["grpc-status"] == str(StatusCode.PERMISSION_DENIED.value[0])
                assert "CONTROL_ALLOWED_HOSTS" in answer.headers["grpc-message"]


@pytest.mark.parametrize("host", OWN_HOSTS)
async def test_the_meshs_own_names_are_taken(mesh: ToyMesh, host: str) -> None:
    answer = await mesh.http.get("/v1/models/reviews", headers={"host": host})
    assert answer.status_code == httpx.codes.OK


@pytest.mark.parametrize("origin", FOREIGN_ORIGINS)
async def test_a_foreign_origin_is_refused_before_any_service(mesh: ToyMesh, origin: str) -> None:
    before = mesh.train.calls
    async with honest_clients(mesh.envoy):
        for method, path in EVERY_DOOR:
            answer = await mesh.http.request(method, path, json={}, headers={"origin": origin})
            assert answer.status_code == httpx.codes.FORBIDDEN, path
            assert "CONTROL_ALLOWED_ORIGINS" in answer.text
        for path in GRPC:
            headers = {"origin": origin, "content-type": "application/grpc-web"}
            answer = await mesh.http.post(path, content=b"\0" * 5, headers=headers)
            assert answer.headers["grpc-status"] == str(StatusCode.PERMISSION_DENIED.value[0])
    assert mesh.train.calls == before


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_pages_of_the_mesh_itself_may_call_it(mesh: ToyMesh, scheme: str) -> None:
    own = {"origin": f"{scheme}://{mesh.envoy.address}"}
    answer = await mesh.http.post("/v1/models/reviews:predict", json={"texts": ["a"]}, headers=own)
    assert answer.status_code == httpx.codes.OK
    almost = {"origin": f"{scheme}://evil{mesh.envoy.address}"}
    answer = await mesh.http.post(
        "/v1/models/reviews:predict", json={"texts": ["a"]}, headers=almost
    )
    assert answer.status_code == httpx.codes.FORBIDDEN


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "", None])
async def test_an_operating_method_takes_no_body_but_json(mesh: ToyMesh, kind: str | None) -> None:
    before = mesh.train.calls
    headers = {} if kind is None else {"content-type": kind}
    async with honest_clients(mesh.envoy):
        for method, path in OPERATING:
            answer = await mesh.http.request(method, path, content=b"{}", headers=headers)
            assert answer.status_code == httpx.codes.UNSUPPORTED_MEDIA_TYPE, path
            assert "application/json" in answer.json()["message"]
    assert mesh.train.calls == before


@pytest.mark.parametrize(
    "headers", [{"content-type": "application/json"}, {"content-type": "Application/JSON; a=b"}]
)
async def test_json_is_taken_and_no_body_needs_no_type(
    mesh: ToyMesh, headers: dict[str, str]
) -> None:
    before = mesh.train.calls
    for content, own in ((b"{}", headers), (b"", headers), (b"", {})):
        answer = await mesh.http.post("/v1/models/reviews:train", content=content, headers=own)
        assert answer.status_code == httpx.codes.OK, answer.text
    assert mesh.train.calls == before + 3


async def test_a_prediction_may_come_as_curl_sends_it(mesh: ToyMesh) -> None:
    answer = await mesh.http.post(
        "/v1/models/reviews:predict?nope=",
        content=b'{"texts": ["a"]}',
        headers={"content-type": "application/x-www-form-urlencoded"},
    )
    assert answer.status_code != httpx.codes.UNSUPPORTED_MEDIA_TYPE


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def listed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ToyMesh]:
    folder = tmp_path_factory.mktemp("listed")
    hosts = ("mesh.example.com", "*.inner.example")
    async with running_mesh(folder, ("https://ui.example",), hosts=hosts) as running:
        yield running


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("mesh.example.com", 200),
        ("Mesh.Example.com:443", 200),
        ("a.inner.example", 200),
        ("127.0.0.1", 200),
        ("inner.example", 403),
        ("mesh.example.com.evil.io", 403),
        ("meshXexample.com", 403),
    ],
)
async def test_a_list_of_names_is_kept_to(listed: ToyMesh, host: str, status: int) -> None:
    answer = await listed.http.get("/v1/models/reviews", headers={"host": host})
    assert answer.status_code == status


async def test_a_listed_origin_gets_everything_that_a_page_needs(listed: ToyMesh) -> None:
    origin = "https://ui.example"
    asked = "authorization,content-type,x-request-id,x-mesh-key"
    preflight = await listed.http.options(
        "/v1/models/reviews:predict",
        headers={
            "origin": origin,
            "access-control-request-method": "POST",
            "access-control-request-headers": asked,
        },
    )
    assert preflight.status_code == httpx.codes.OK
    allowed = preflight.headers["access-control-allow-headers"].split(", ")
    assert set(asked.split(",")) <= set(allowed)
    answer = await listed.http.post(
        "/v1/models/reviews:predict", json={"texts": ["a"]}, headers={"origin": origin}
    )
    assert answer.headers["access-control-allow-origin"] == origin
    assert "x-request-id" in answer.headers["access-control-expose-headers"].split(", ")


async def test_a_mesh_that_is_published_elsewhere_takes_any_name_without_a_list(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("published")
    async with running_mesh(folder, published_on="0.0.0.0") as mesh:
        answer = await mesh.http.get("/v1/models/reviews", headers={"host": "mesh.example.com"})
        assert answer.status_code == httpx.codes.OK


async def test_grpc_clients_that_name_the_mesh_are_served(mesh: ToyMesh) -> None:
    port = mesh.envoy.address.rpartition(":")[2]
    request = predict_pb2.PredictRequest(model="reviews", texts=["a"])
    async with aio.insecure_channel(f"localhost:{port}") as channel:
        stub = predict_pb2_grpc.PredictServiceStub(channel)
        assert (await stub.Predict(request, timeout=20)).predictions
