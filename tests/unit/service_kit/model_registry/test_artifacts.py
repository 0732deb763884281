"""The server from which a version's files are downloaded follows from their URI."""

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
