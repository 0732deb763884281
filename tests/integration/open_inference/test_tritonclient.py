"""Triton's own clients, from the package index, call a replica through Envoy."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.open_inference.conftest import OneReplica

pytestmark = pytest.mark.asyncio(loop_scope="module")

# Exact versions, so that the test says which clients work.
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
    names = [o["name"] for o in model["outputs"]]
    assert names == ["label", "score", "scores", "truncated"], model
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
            assert everything.as_numpy("truncated").tolist() == [False] * 3
            assert everything.as_numpy("truncated").dtype == np.bool_
            wanted = [kit.InferRequestedOutput("score", **option)]
            one = client.infer("reviews", [tensor], outputs=wanted)
            assert one.as_numpy("score").tolist() == [0.75] * 3
            assert one.as_numpy("label") is None
    counted = kit.InferRequestedOutput("scores", class_count=1)
    shared = kit.InferRequestedOutput("label")
    shared.set_shared_memory("region", 100)
    shared_text = kit.InferInput("text", [1], "BYTES")
    shared_text.set_shared_memory("region", 100)
    for model_name, inputs, options, problem in (
        ("other", [tensor], {}, "there is no model other"),
        ("reviews", [tensor], {"outputs": [counted]}, "'classification' is not known here"),
        ("reviews", [tensor], {"outputs": [shared]}, "is not known here"),
        ("reviews", [shared_text], {}, "is not known here"),
        ("reviews", [tensor], {"priority": 1}, "'priority' is not known here"),
        ("reviews", [tensor], {"sequence_id": 7}, "is not known here"),
    ):
        try:
            client.infer(model_name, inputs, **options)
        except Exception as error:
            assert problem in str(error), error
        else:
            raise SystemExit(f"{options} was answered")
    if http:
        for packing in ("gzip", "deflate"):
            packed = client.infer("reviews", [tensor], request_compression_algorithm=packing)
            assert packed.as_numpy("scores").shape == (3, 2)
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
