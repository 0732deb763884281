"""The token goes to MLflow and its artifact server, and to nobody else."""

from pathlib import Path

import httpx
import pytest

from service_kit.model_registry.mlflow_token import MlflowToken
from service_kit.model_registry.registry import Registry
from service_kit.settings import MlflowSettings

API = "/api/2.0/mlflow-artifacts/artifacts"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "training.token"
    path.write_text("first\n")
    return path


async def sent(artifact_uri: str, auth: httpx.Auth, folder: Path) -> dict[str, str]:
    """What each server gets while a version is downloaded whose files lie at a URI."""
    found: dict[str, str] = {}

    def answer(request: httpx.Request) -> httpx.Response:
        found[request.url.netloc.decode()] = request.headers.get("authorization", "")
        if request.url.path.endswith("get-download-uri"):
            return httpx.Response(200, json={"artifact_uri": artifact_uri})
        return httpx.Response(200, json={"files": []})

    registry = Registry("http://mlflow:5000", httpx.MockTransport(answer), auth)
    await registry.download("reviews", "1", folder / "1")
    await registry.close()
    return found


@pytest.mark.parametrize(
    ("uri", "host", "token"),
    [
        (f"http://artifacts:5000{API}/1", "artifacts:5000", "Bearer first"),
        (f"http://evil:5000{API}/1", "evil:5000", ""),
        (f"https://artifacts:5000{API}/1", "artifacts:5000", ""),
        (f"http://artifacts:5001{API}/1", "artifacts:5001", ""),
        ("mlflow-artifacts://evil/1", "evil", ""),
    ],
)
async def test_only_the_two_servers_of_the_settings_get_the_token(
    uri: str, host: str, token: str, file: Path, tmp_path: Path
) -> None:
    auth = MlflowToken(file, "http://mlflow:5000", "http://artifacts:5000")
    assert await sent(uri, auth, tmp_path) == {"mlflow:5000": "Bearer first", host: token}


def test_a_renewed_token_is_read_and_a_lost_file_changes_nothing(file: Path) -> None:
    token = MlflowToken(file, "http://mlflow:5000")
    assert token.text == "first"
    file.write_text("the second")
    assert token.text == "the second"
    file.unlink()
    assert token.text == "the second"


def test_settings_without_a_file_send_none(file: Path) -> None:
    assert MlflowToken.of(MlflowSettings()) is None
    assert MlflowToken.of(MlflowSettings(mlflow_token_file=file)) is not None
