"""Every way into a running mesh."""

import json
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from mesh.client import AsyncMeshClient, MeshClient
from mesh.v1 import predict_pb2
from tests.whole_mesh.running_mesh import Mesh

TEXT = "The soup was cold and so was the waiter."
PREDICT = "mesh.v1.PredictService/Predict"


def test_generated_client(mesh: Mesh, reviews: str) -> None:
    with MeshClient(mesh.address) as client:
        answer = client.predict(reviews, [TEXT, "Lovely."], all_scores=True)
        assert len(answer.predictions) == 2
        for prediction in answer.predictions:
            assert prediction.label == prediction.scores[0].label
            assert sum(item.score for item in prediction.scores) == pytest.approx(1, abs=1e-3)
        texts = [f"{TEXT} {number}" for number in range(300)]
        scored = list(client.score(reviews, texts))
        assert len(scored) == len(texts)


async def test_async_client_scores_in_bulk(mesh: Mesh, reviews: str) -> None:
    async with AsyncMeshClient(mesh.address) as client:
        scored = [prediction async for prediction in client.score(reviews, [TEXT] * 200)]
    assert len(scored) == 200
    assert {prediction.label for prediction in scored} <= {"negative", "positive"}


def test_json_by_curl(mesh: Mesh, reviews: str) -> None:
    result = subprocess.run(
        [
            *("curl", "--silent", "--show-error", "--fail", "--max-time", "30"),
            *("-H", "Content-Type: application/json", "-d", json.dumps({"texts": [TEXT]})),
            f"{mesh.url}/v1/models/{reviews}:predict",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    answer = json.loads(result.stdout)
    assert answer["predictions"][0]["label"] in ("negative", "positive")
    assert answer["predictions"][0]["truncated"] is False
    assert answer["model"]["alias"] == "Champion"
    assert answer["model"]["batchId"].startswith("retrain__reviews__")
    assert answer["replica"].startswith("replica-")


def test_grpc_web(mesh: Mesh, reviews: str) -> None:
    message = predict_pb2.PredictRequest(model=reviews, texts=[TEXT]).SerializeToString()
    response = httpx.post(
        f"{mesh.url}/{PREDICT}",
        content=b"\0" + struct.pack(">I", len(message)) + message,
        headers={"content-type": "application/grpc-web+proto", "x-grpc-web": "1"},
        timeout=30,
    )
    assert response.status_code == 200
    flag, length = struct.unpack(">BI", response.content[:5])
    assert flag == 0
    answer = predict_pb2.PredictResponse.FromString(response.content[5 : 5 + length])
    assert answer.predictions[0].label in ("negative", "positive")
    assert b"grpc-status:0" in response.content[5 + length :]


def _reflection_client(mesh: Mesh) -> list[str]:
    grpcurl = shutil.which("grpcurl")
    if grpcurl:
        return [grpcurl, "-plaintext", "-d", "@", mesh.address, PREDICT]
    npx = shutil.which("npx")
    if npx is None:
        pytest.skip("neither grpcurl nor npx (for buf) is installed")
    buf = [npx, "--yes", "@bufbuild/buf@1.75.0", "curl", "--protocol", "grpc"]
    return [*buf, "--http2-prior-knowledge", "-d", "@-", f"{mesh.url}/{PREDICT}"]


def test_reflection_client(mesh: Mesh, reviews: str, tmp_path: Path) -> None:
    result = subprocess.run(
        _reflection_client(mesh),
        input=json.dumps({"model": reviews, "texts": [TEXT]}),
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["predictions"][0]["label"] in ("negative", "positive")


def test_cli(mesh: Mesh, reviews: str) -> None:
    answer = mesh.json("predict", reviews, TEXT, "Lovely.")
    assert len(answer["predictions"]) == 2
    shown = mesh.run("predict", reviews, TEXT).stdout
    assert f"{reviews} version {answer['model']['version']} (@Champion)" in shown


def test_cli_from_any_folder_without_the_environment_of_up(mesh: Mesh, tmp_path: Path) -> None:
    # MESH_HOME alone is set: the CLI reads the ports from the record that `mesh up` wrote.
    environment = {"MESH_HOME": str(mesh.home), "PATH": "/usr/bin:/bin"}
    result = subprocess.run(
        [Path(sys.executable).parent / "mesh", "status", "--json"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    status = json.loads(result.stdout)
    assert status["healthy"] is True
    assert status["urls"]["mesh"] == mesh.url


def test_mlflow_shows_the_run_and_the_aliases(mesh: Mesh, reviews: str) -> None:
    mlflow = mesh.json("status")["urls"]["mlflow"]
    model = httpx.get(
        f"{mlflow}/api/2.0/mlflow/registered-models/get", params={"name": reviews}
    ).json()["registered_model"]
    aliases = {alias["alias"] for alias in model["aliases"]}
    assert {"Champion", "Serving"} <= aliases
    version = httpx.get(
        f"{mlflow}/api/2.0/mlflow/model-versions/get", params={"name": reviews, "version": "1"}
    ).json()["model_version"]
    tags = {tag["key"]: tag["value"] for tag in version["tags"]}
    assert tags["mesh.batch_id"].startswith("retrain__reviews__")
    run = httpx.get(
        f"{mlflow}/api/2.0/mlflow/runs/get", params={"run_id": version["run_id"]}
    ).json()["run"]
    metrics = {metric["key"] for metric in run["data"]["metrics"]}
    assert "accuracy" in metrics
    assert run["inputs"]["dataset_inputs"]
