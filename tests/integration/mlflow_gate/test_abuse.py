"""What a stranger, or a part that was taken over, tries at a real MLflow behind its gate."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from mesh_cli.tokens import own_tokens
from mesh_cli.tokens.grant import DAY_S, Grant
from mesh_cli.tokens.own_tokens import OwnTokens
from service_kit.model_registry.mlflow_token import MlflowToken
from service_kit.model_registry.registry import Registry
from tests.real_parts.mlflow_server import guarded_mlflow

M, FILES = "/api/2.0/mlflow", "/api/2.0/mlflow-artifacts/artifacts"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mlflow")


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> OwnTokens:
    made = OwnTokens(tmp_path_factory.mktemp("secrets"))
    made.make()
    return made


@pytest.fixture(scope="module")
def url(data: Path, tokens: OwnTokens) -> Iterator[str]:
    revoked = ("--revoked-tokens", str(data / "revoked.json"))
    with guarded_mlflow(data, tokens.keys.public_file, *revoked) as running:
        yield running


def client(url: str, tokens: OwnTokens, name: str = "") -> httpx.Client:
    headers = {}
    if name:
        token = (tokens.keys.public_file.parent / name).read_text()
        headers = {"authorization": f"Bearer {token}"}
    return httpx.Client(base_url=url, headers=headers, timeout=30)


def test_a_stranger_writes_no_file_and_sets_no_alias(
    url: str, tokens: OwnTokens, tmp_path: Path
) -> None:
    """Abuses 3 and 4: an artifact location of the stranger's choice, an upload, an alias."""
    with client(url, tokens) as http:
        answers = [
            http.post(
                f"{M}/experiments/create",
                json={"name": "e", "artifact_location": tmp_path.as_uri()},
            ),
            http.put(f"{FILES}/0/run/artifacts/dag.py", content=b"import os"),
            http.post(f"{M}/registered-models/create", json={"name": "reviews"}),
            http.post(
                f"{M}/model-versions/create",
                json={"name": "reviews", "source": tmp_path.as_uri()},
            ),
            http.post(
                f"{M}/registered-models/alias",
                json={"name": "reviews", "alias": "Serving", "version": "1"},
            ),
            http.post("/ajax-api/2.0/mlflow/upload-artifact?run_uuid=1&path=dag.py", content=b"x"),
            http.post(f"{FILES.replace('artifacts/artifacts', 'artifacts/mpu/create')}/dag.py"),
        ]
    assert {answer.status_code for answer in answers} <= {401, 403}
    assert not list(tmp_path.iterdir())


BAD_PLACES = [
    "file:///etc",
    "FILE:///etc",
    "/etc",
    "./here",
    "file:here",
    "s3://bucket/x",
    "http://evil.example/api/2.0/mlflow-artifacts/artifacts/x",
    "mlflow-artifacts://evil.example/x",
    "mlflow-artifacts:/../../etc",
    "mlflow-artifacts:/%2e%2e/etc",
    "dbfs:/x",
    " file:///etc",
    "mlflow-artifacts:\\..\\etc",
    ["file:///etc"],
]


@pytest.mark.parametrize("place", BAD_PLACES, ids=str)
@pytest.mark.parametrize("name", [own_tokens.TRAINING_FILE, own_tokens.OPERATOR_FILE])
@pytest.mark.parametrize("shape", ["plain", "camel case", "JSON in JSON", "twice", "utf-16"])
def test_nobody_chooses_where_files_lie(
    url: str, tokens: OwnTokens, place: object, name: str, shape: str
) -> None:
    field = "artifactLocation" if shape == "camel case" else "artifact_location"
    bodies = {
        "experiments/create": {"name": f"e-{shape}-{place}", field: place},
        "model-versions/create": {"name": "reviews", "source": place},
    }
    with client(url, tokens, name) as http:
        for path, body in bodies.items():
            content = json.dumps(body)
            if shape == "JSON in JSON":
                content = json.dumps(content)
            if shape == "twice":
                key = "source" if "source" in body else field
                content = f'{{"{key}": "mlflow-artifacts:/x", {content[1:]}'
            answer = http.post(
                f"{M}/{path}",
                content=content.encode("utf-16" if shape == "utf-16" else "utf-8"),
                headers={"content-type": "application/json"},
            )
            assert answer.status_code == 400, answer.text
            assert "artifact server only" in answer.json()["message"]
        found = http.post(f"{M}/experiments/search", json={"max_results": 100}).json()
    places = {item["artifact_location"] for item in found["experiments"]}
    assert all(place.startswith("mlflow-artifacts:/") for place in places)


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "192.168.evil.example"},
        {"host": "127.0.0.1.evil.example:5001"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://localhost:3000"},
    ],
    ids=str,
)
def test_pages_of_other_sites_read_and_write_nothing(
    url: str, tokens: OwnTokens, headers: dict[str, str]
) -> None:
    with client(url, tokens, own_tokens.OPERATOR_FILE) as http:
        for answer in (
            http.get("/", headers=headers),
            http.get(f"{M}/registered-models/search", headers=headers),
            http.post(f"{M}/runs/search", json={}, headers=headers),
            http.post(f"{M}/registered-models/create", json={"name": "x"}, headers=headers),
        ):
            assert answer.status_code == 403, answer.text


def test_mlflows_own_pages_work_in_a_browser_where_reading_is_open(
    url: str, tokens: OwnTokens
) -> None:
    with client(url, tokens) as http:
        page = http.get("/")
        assert "<title>MLflow</title>" in page.text
        script = page.text.partition('src="')[2].partition('"')[0]
        assert http.get(f"/{script}").is_success
        headers = {"origin": url}
        search = "/ajax-api/2.0/mlflow/experiments/search"
        assert http.post(search, json={"max_results": 5}, headers=headers).is_success
        query = {"operationName": "Q", "query": "query Q { __typename }"}
        assert http.post("/graphql", json=query, headers=headers).is_success


def test_a_revoked_token_and_a_renewed_one_hold_at_once(
    url: str, tokens: OwnTokens, data: Path
) -> None:
    token = tokens.keys.sign(Grant("person", ("mlflow-write",)), DAY_S)
    headers = {"authorization": f"Bearer {token.text}"}
    with client(url, tokens) as http:
        path = f"{M}/registered-models/search"
        assert http.get(path, headers=headers).is_success
        (data / "revoked.json").write_text(json.dumps([token.id]))
        answer = http.get(path, headers=headers)
        assert (answer.status_code, answer.json()["message"]) == (401, "the token was revoked")
    tokens.keys.rotate(drop_old=True)
    with client(url, tokens, own_tokens.TRAINING_FILE) as http:
        assert http.get(path).status_code == 401
    tokens.make()
    with client(url, tokens, own_tokens.TRAINING_FILE) as http:
        assert http.get(path).is_success


async def test_the_services_send_a_token_that_was_renewed_meanwhile(
    url: str, tokens: OwnTokens, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text("nonsense")
    registry = Registry(url, auth=MlflowToken(file, url))
    try:
        with pytest.raises(Exception, match="refused: the token is not valid"):
            await registry.list_models()
        token = tokens.keys.sign(Grant("trigger", ("mlflow-create",)), DAY_S)
        file.write_text(token.text)
        await registry.ensure_model("sent")
        assert (await registry.find_model("sent")) is not None
    finally:
        await registry.close()


def test_bodies_and_uploads_are_bounded_for_strangers(url: str, tokens: OwnTokens) -> None:
    with client(url, tokens) as http:
        answer = http.post(f"{M}/runs/search", content=b" " * ((8 << 20) + 1))
        assert answer.status_code == 413
        with client(url, tokens, own_tokens.TRAINING_FILE) as training:
            content = b"weights" * (2 << 20)
            assert training.put(f"{FILES}/0/large.bin", content=content).is_success
        assert http.get(f"{FILES}/0/large.bin").content == content
