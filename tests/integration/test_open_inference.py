"""The Open Inference Protocol v2: a replica, a real Envoy before it, and Triton's own clients."""

import asyncio
import json
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import pytest_asyncio
from grpc import aio

from control_plane.topology import Address, MeshTopology, Split
from inference import open_inference_pb2 as pb
from inference import open_inference_pb2_grpc
from inference_svc.main import REFLECTED
from inference_svc.service import InferenceService
from inference_svc.settings import InferenceSettings
from mesh.v1 import reload_pb2, replica_pb2, replica_pb2_grpc
from service_kit.registry import CHAMPION, SERVING
from service_kit.server import GrpcServer
from tests.envoy import RunningEnvoy, running_envoy
from tests.inference import FakeRegistry, SteeredEngine, write_steered_version
from tests.postgres import free_port

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIMIT = 8 * 1024 * 1024
INFER = "/v2/models/reviews/infer"
BODY = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"]}]}
# Of `films` all goes to the Challenger.
SPLITS = (("films", Split(0, 100)),)


@dataclass
class OneReplica:
    """A replica that serves two models, and the Envoy before it."""

    server: GrpcServer
    envoy: RunningEnvoy
    http: httpx.AsyncClient
    direct: httpx.AsyncClient
    stub: Any


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[OneReplica]:
    folder = tmp_path_factory.mktemp("open-inference")
    registry = FakeRegistry()
    for version in ("1", "2"):
        files = write_steered_version(folder / version)
        for model in ("reviews", "films"):
            registry.add(model, version, files)
    for model in ("reviews", "films"):
        registry.models[model] = {CHAMPION: "1", SERVING: "1"}
    registry.models["news"] = {}
    settings = InferenceSettings(
        replica_id="replica-1",
        state_dir=folder / "state",
        http_port=free_port(),
        drain_seconds=0,
        grace_seconds=1,
    )
    service = InferenceService(settings, SteeredEngine(), lambda: registry)
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(GrpcServer(service, settings, REFLECTED))
        address = Address.parse(server.address)
        await serve_challenger(server.address, "films", "2")
        topology = MeshTopology(
            (address,),
            training=Address("127.0.0.1", 1),
            trigger=Address("127.0.0.1", 1),
            control_plane=Address("127.0.0.1", 1),
            replicas_http=(Address("127.0.0.1", settings.http_port),),
            replicas_unary=(Address("127.0.0.1", settings.http_port),),
            splits=SPLITS,
            port=free_port(),
            admin_port=free_port(),
        )
        envoy = await stack.enter_async_context(running_envoy(folder, topology))
        for cluster in ("champion-unary", "challenger-unary", "champion-http"):
            await envoy.wait_healthy(cluster, 1)
        through = httpx.AsyncClient(base_url=envoy.url, timeout=20)
        direct = httpx.AsyncClient(base_url=f"http://127.0.0.1:{settings.http_port}", timeout=20)
        for client in (through, direct):
            await stack.enter_async_context(client)
        channel = await stack.enter_async_context(aio.insecure_channel(envoy.address))
        stub: Any = open_inference_pb2_grpc.GRPCInferenceServiceStub(channel)
        yield OneReplica(server, envoy, through, direct, stub)


async def serve_challenger(address: str, model: str, version: str) -> None:
    asked: dict[str, Any] = {
        "model": model,
        "version": version,
        "role": reload_pb2.MODEL_ROLE_CHALLENGER,
    }
    async with aio.insecure_channel(address) as channel:
        stub = replica_pb2_grpc.ReplicaServiceStub(channel)
        await stub.Prepare(replica_pb2.PrepareRequest(**asked))
        await stub.Activate(replica_pb2.ActivateRequest(**asked))


def request(*texts: bytes, model: str = "reviews", **fields: Any) -> pb.ModelInferRequest:
    contents = pb.InferTensorContents(bytes_contents=texts)
    tensor = pb.ModelInferRequest.InferInputTensor(
        name="text", datatype="BYTES", shape=[len(texts)], contents=contents
    )
    return pb.ModelInferRequest(model_name=model, inputs=[tensor], **fields)


async def failure(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(aio.AioRpcError) as failed:
        await call
    return failed.value.code(), failed.value.details() or ""


async def test_grpc_answers_with_labels_and_scores(mesh: OneReplica) -> None:
    answer = await mesh.stub.ModelInfer(request(b"a film", b"good", id="7"), timeout=5)
    assert (answer.model_name, answer.model_version, answer.id) == ("reviews", "1", "7")
    told = {name: value.string_param for name, value in answer.parameters.items()}
    assert told == {"version": "1", "alias": "Champion", "replica": "replica-1"}
    label, score, scores = answer.outputs
    assert (label.datatype, list(label.shape)) == ("BYTES", [2])
    assert list(label.contents.bytes_contents) == [b"good", b"good"]
    assert (score.datatype, list(score.shape)) == ("FP32", [2])
    assert list(score.contents.fp32_contents) == [0.75, 0.75]
    assert list(scores.shape) == [2, 2]
    assert list(scores.contents.fp32_contents) == [0.25, 0.75, 0.25, 0.75]
    assert json.loads(scores.parameters["labels"].string_param) == ["bad", "good"]
    assert not answer.raw_output_contents


@pytest.mark.parametrize(
    ("changed", "code", "problem"),
    [
        (request(model="Reviews"), grpc.StatusCode.INVALID_ARGUMENT, "model_name: 'Reviews'"),
        (request(), grpc.StatusCode.INVALID_ARGUMENT, "text: has 0 texts"),
        (request(*[b"a"] * 1025), grpc.StatusCode.INVALID_ARGUMENT, "text: has 1,025 texts"),
        (request(b"a", b" "), grpc.StatusCode.INVALID_ARGUMENT, "text[1]: is blank"),
        (request(b"a" * 32_769), grpc.StatusCode.INVALID_ARGUMENT, "text[0]: has 32,769"),
        (request(b"\xff"), grpc.StatusCode.INVALID_ARGUMENT, "text[0]: is not UTF-8"),
        (request(b"a", raw_input_contents=[b"x"]), grpc.StatusCode.INVALID_ARGUMENT, "raw_input"),
        (request(b"a", model_version="9"), grpc.StatusCode.NOT_FOUND, "version '9' of reviews"),
        (request(b"a", model="other"), grpc.StatusCode.NOT_FOUND, "there is no model other"),
        (request(b"a", model="news"), grpc.StatusCode.FAILED_PRECONDITION, "train one first"),
    ],
)
async def test_a_bad_grpc_request_is_told_what_is_wrong(
    mesh: OneReplica, changed: pb.ModelInferRequest, code: grpc.StatusCode, problem: str
) -> None:
    if changed.model_name == "Reviews":
        changed.inputs[0].CopyFrom(request(b"a").inputs[0])
    found, details = await failure(mesh.stub.ModelInfer(changed, timeout=5))
    assert found is code
    assert details.startswith(problem) or problem in details


async def test_ready_is_said_of_what_is_served(mesh: OneReplica) -> None:
    assert (await mesh.stub.ServerReady(pb.ServerReadyRequest(), timeout=5)).ready
    for model, version, ready in (
        ("reviews", "", True),
        ("reviews", "1", True),
        ("reviews", "9", False),
        ("news", "", False),
        ("other", "", False),
    ):
        asked = pb.ModelReadyRequest(name=model, version=version)
        assert (await mesh.stub.ModelReady(asked, timeout=5)).ready is ready
        path = f"/v2/models/{model}" + (f"/versions/{version}" if version else "")
        assert (await mesh.http.get(f"{path}/ready")).is_success is ready


async def test_a_split_models_calls_reach_its_challenger_by_grpc(mesh: OneReplica) -> None:
    answer = await mesh.stub.ModelInfer(request(b"a", model="films"), timeout=5)
    assert (answer.model_version, answer.parameters["alias"].string_param) == ("2", "Challenger")
    named = await mesh.stub.ModelInfer(request(b"a", model="films", model_version="1"), timeout=5)
    assert named.model_version == "1"
    over_http = await mesh.http.post("/v2/models/films/infer", json=BODY)
    assert over_http.json()["model_version"] == "1"


async def test_the_access_log_tells_who_answered(mesh: OneReplica) -> None:
    ids = [str(uuid.uuid4()) for _ in range(3)]
    metadata = (("x-request-id", ids[0]),)
    await mesh.stub.ModelInfer(request(b"a", model="films"), timeout=5, metadata=metadata)
    await mesh.http.post("/v2/models/films/infer", json=BODY, headers={"x-request-id": ids[1]})
    await mesh.http.get("/v2/health/live", headers={"x-request-id": ids[2]})
    logged = await mesh.envoy.logged(ids)
    names = ("model", "version", "alias", "replica")
    assert [[logged[i][name] for name in names] for i in ids] == [
        ["films", "2", "Challenger", "replica-1"],
        ["films", "1", "Champion", "replica-1"],
        [""] * 4,
    ]


async def test_http_answers_in_json(mesh: OneReplica) -> None:
    answer = await mesh.http.post(INFER, json=BODY | {"id": "7"})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("application/json")
    assert answer.json() == {
        "model_name": "reviews",
        "model_version": "1",
        "id": "7",
        "parameters": {"version": "1", "alias": "Champion", "replica": "replica-1"},
        "outputs": [
            {"name": "label", "datatype": "BYTES", "shape": [1], "data": ["good"]},
            {"name": "score", "datatype": "FP32", "shape": [1], "data": [0.75]},
            {
                "name": "scores",
                "datatype": "FP32",
                "shape": [1, 2],
                "data": [0.25, 0.75],
                "parameters": {"labels": '["bad", "good"]'},
            },
        ],
    }
    metadata = (await mesh.http.get("/v2/models/reviews/versions/1")).json()
    assert [tensor["shape"] for tensor in metadata["outputs"]] == [[-1], [-1], [-1, 2]]
    assert (await mesh.http.get("/v2")).json()["extensions"] == ["binary_tensor_data"]


@pytest.mark.parametrize(
    ("method", "path", "content", "status", "problem"),
    [
        ("POST", INFER, b"{", 400, "body: is not JSON"),
        ("POST", INFER, b"", 400, "body: is not JSON"),
        ("POST", INFER, b"[" * 100_000, 400, "body: is not JSON"),
        ("POST", INFER, b'{"inputs": []}', 400, "inputs: one tensor 'text'"),
        ("POST", "/v2/models/other/infer", None, 404, "there is no model other"),
        ("POST", "/v2/models/news/infer", None, 400, "train one first"),
        ("POST", "/v2/models/reviews/versions/9/infer", None, 404, "version '9' of reviews"),
        ("GET", "/v2/models/other", None, 404, "there is no model other"),
        ("GET", "/v2/nothing/here", None, 404, "there is nothing at /v2/nothing/here"),
        ("GET", INFER, None, 405, "send POST"),
        ("POST", INFER, b" " * (LIMIT + 1), 413, "8,388,608"),
    ],
)
async def test_an_error_over_http_is_the_protocols(
    mesh: OneReplica, method: str, path: str, content: bytes | None, status: int, problem: str
) -> None:
    content = json.dumps(BODY).encode() if content is None else content
    for client in (mesh.http, mesh.direct):
        answer = await client.request(method, path, content=content)
        assert answer.status_code == status
        assert set(answer.json()) == {"error"}
        assert problem in answer.json()["error"]


async def test_a_body_of_the_limit_is_taken(mesh: OneReplica) -> None:
    content = json.dumps(BODY).encode()
    answer = await mesh.http.post(INFER, content=content + b" " * (LIMIT - len(content)))
    assert answer.status_code == 200


async def test_the_replica_tells_its_http_port(mesh: OneReplica) -> None:
    async with aio.insecure_channel(mesh.server.address) as channel:
        stub = replica_pb2_grpc.ReplicaServiceStub(channel)
        state = await stub.GetState(replica_pb2.GetStateRequest())
    assert state.http_port == mesh.direct.base_url.port
    assert "inference.GRPCInferenceService" in REFLECTED


# Exact, so that the test says of which clients it is true.
TRITON = (
    *("tritonclient==2.73.0", "numpy==2.4.6", "python-rapidjson==1.25", "urllib3==2.8.0"),
    *("ml_dtypes==0.5.4", "packaging==26.3"),
    *("grpcio==1.85.1", "protobuf==6.33.6", "typing_extensions==4.16.0"),
    *("geventhttpclient==2.6.1", "gevent==26.9.0", "greenlet==3.3.2", "brotli==1.2.1"),
    *("certifi==2026.10.18", "zope.event==6.2", "zope.interface==8.7"),
)
USE = """
import sys
import numpy as np
import tritonclient.grpc as over_grpc
import tritonclient.http as over_http

texts = ["a great film", "süß " * 9, "good"]
for kit in (over_grpc, over_http):
    client = kit.InferenceServerClient(sys.argv[1])
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("reviews") and client.is_model_ready("reviews", "1")
    assert not client.is_model_ready("reviews", "9") and not client.is_model_ready("other")
    http = kit is over_http
    server = client.get_server_metadata(**({} if http else {"as_json": True}))
    assert server["name"] == "champion-mesh", server
    model = client.get_model_metadata("reviews", **({} if http else {"as_json": True}))
    assert [o["name"] for o in model["outputs"]] == ["label", "score", "scores"], model
    for shape in ([3], [3, 1]):
        tensor = kit.InferInput("text", shape, "BYTES")
        data = np.array([t.encode() for t in texts], dtype=np.object_).reshape(shape)
        for binary in ((True, False) if http else (None,)):
            option = {} if binary is None else {"binary_data": binary}
            tensor.set_data_from_numpy(data, **option)
            everything = client.infer("reviews", [tensor], request_id="7")
            assert everything.as_numpy("label").tolist() in ([b"good"] * 3, ["good"] * 3)
            assert everything.as_numpy("scores").tolist() == [[0.25, 0.75]] * 3
            assert everything.as_numpy("scores").dtype == np.float32
            wanted = [kit.InferRequestedOutput("score", **option)]
            one = client.infer("reviews", [tensor], outputs=wanted)
            assert one.as_numpy("score").tolist() == [0.75] * 3
            assert one.as_numpy("label") is None
    try:
        client.infer("other", [tensor])
    except Exception as error:
        assert "there is no model other" in str(error), error
    else:
        raise SystemExit("an unknown model answered")
    client.close()
print("ok")
"""


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of an environment with Triton's clients and nothing else."""
    folder = tmp_path_factory.mktemp("triton")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    install = (*("-m", "pip", "install", "--quiet"), *("--no-compile", "--no-deps"), *TRITON)
    subprocess.run([str(python), *install], check=True, capture_output=True)
    return python


async def test_tritons_clients_are_answered_over_grpc_and_http(
    triton: Path, mesh: OneReplica
) -> None:
    process = await asyncio.create_subprocess_exec(
        triton, "-c", USE, mesh.envoy.address, stdout=-1, stderr=-1
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    assert out.decode().strip() == "ok"


async def test_a_replica_that_drains_is_not_ready_and_ends_its_http_listener(
    mesh: OneReplica,
) -> None:
    # The last test of the file: nothing is answered over HTTP after it.
    await mesh.server.drain()
    assert not (await mesh.stub.ServerReady(pb.ServerReadyRequest(), timeout=5)).ready
    with pytest.raises(httpx.ConnectError):
        await mesh.direct.get("/v2/health/ready")
