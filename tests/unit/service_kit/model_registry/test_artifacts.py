"""The server from which a version's files are downloaded follows from their URI."""

from collections.abc import Collection
from pathlib import Path

import httpx
import pytest

from service_kit.errors import MeshError
from service_kit.model_registry.registry import Registry

API = "/api/2.0/mlflow-artifacts/artifacts"


async def listed(artifact_uri: str, folder: Path) -> str:
    """Return the URL at which the registry looks for the files of a version."""
    urls: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("get-download-uri"):
            return httpx.Response(200, json={"artifact_uri": artifact_uri})
        urls.append(str(request.url))
        return httpx.Response(200, json={"files": []})

    registry = Registry("http://mlflow:5000", httpx.MockTransport(answer))
    await registry.download("reviews", "1", folder / "1")
    await registry.close()
    [url] = urls
    return url


@pytest.mark.parametrize(
    ("uri", "host"),
    [
        ("mlflow-artifacts:/1/m/artifacts", "mlflow:5000"),
        ("mlflow-artifacts://artifacts:5001/1/m/artifacts", "artifacts:5001"),
        (f"http://artifacts:5001{API}/1/m/artifacts", "artifacts:5001"),
    ],
)
async def test_files_are_read_from_the_host_of_their_uri_or_from_the_tracking_server(
    uri: str, host: str, tmp_path: Path
) -> None:
    assert await listed(uri, tmp_path) == f"http://{host}{API}?path=1%2Fm%2Fartifacts"


@pytest.mark.parametrize("uri", ["s3://bucket/1", "file:///etc", "http://elsewhere/1"])
async def test_uris_of_no_artifact_server_are_refused(uri: str, tmp_path: Path) -> None:
    with pytest.raises(MeshError, match="cannot be read"):
        await listed(uri, tmp_path)


FILES = {
    "golden.json": b"{}",
    "model/config.json": b"{}",
    "model/model.safetensors": b"weights for torch",
    "openvino/model.bin": b"weights of the graph",
    "openvino/model.xml": b"<net/>",
}


def artifact_server(request: httpx.Request) -> httpx.Response:
    """An artifact server that holds FILES below `1/m`."""
    if request.url.path.endswith("get-download-uri"):
        return httpx.Response(200, json={"artifact_uri": "mlflow-artifacts:/1/m"})
    path = request.url.path.removeprefix(API).lstrip("/")
    if path:
        return httpx.Response(200, content=FILES[path.removeprefix("1/m/")])
    folder = request.url.params["path"].removeprefix("1/m").lstrip("/")
    inside = {file.removeprefix(f"{folder}/" if folder else "") for file in FILES}
    inside = {name for name in inside if not folder or f"{folder}/{name}" in FILES}
    files = [
        {"path": name, "is_dir": f"{folder}/{name}".lstrip("/") not in FILES}
        for name in sorted({name.split("/")[0] for name in inside})
    ]
    return httpx.Response(200, json={"files": files})


def downloaded(folder: Path) -> dict[str, bytes]:
    files = [file for file in folder.rglob("*") if file.is_file()]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


async def test_all_files_are_downloaded_without_a_choice(tmp_path: Path) -> None:
    registry = Registry("http://mlflow:5000", httpx.MockTransport(artifact_server))
    await registry.download("reviews", "1", tmp_path / "1")
    assert downloaded(tmp_path / "1") == FILES
    await registry.close()


async def test_a_choice_sees_the_small_files_and_leaves_large_ones_out(tmp_path: Path) -> None:
    seen: dict[str, bytes] = {}
    offered: list[str] = []

    def choose(folder: Path, large: Collection[str]) -> Collection[str]:
        seen.update(downloaded(folder))
        offered.extend(large)
        return ["openvino/model.bin"]

    registry = Registry("http://mlflow:5000", httpx.MockTransport(artifact_server))
    await registry.download("reviews", "1", tmp_path / "1", choose)
    await registry.close()
    large = {"model/model.safetensors", "openvino/model.bin"}
    assert set(offered) == large
    assert seen == {name: content for name, content in FILES.items() if name not in large}
    assert downloaded(tmp_path / "1") == {**seen, "openvino/model.bin": b"weights of the graph"}
