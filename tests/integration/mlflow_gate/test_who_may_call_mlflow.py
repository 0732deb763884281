"""MLflow's own table of routes, by everybody who may come: only what is listed here is let in."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import jwt
import pytest

from mesh_cli.tokens import own_tokens
from mesh_cli.tokens.grant import DAY_S, Grant
from mesh_cli.tokens.own_tokens import OwnTokens
from service_kit.mlflow_gate.routes import plain_path, scopes_of
from tests.integration.mlflow_gate.mlflow_routes import REFUSED, REFUSED_READS, mlflow_routes
from tests.real_parts.mlflow_server import guarded_mlflow

M, FILE = "/api/2.0/mlflow", "/api/2.0/mlflow-artifacts/artifacts/x"
# What each part of the mesh may write.
CREATES = {("POST", f"{M}/registered-models/create")}
CLEANS = {("DELETE", FILE)}
SERVES = {
    *CLEANS,
    ("POST", f"{M}/registered-models/alias"),
    ("DELETE", f"{M}/registered-models/alias"),
    ("DELETE", f"{M}/registered-models/delete"),
    ("POST", f"{M}/registered-models/set-tag"),
    ("POST", f"{M}/model-versions/set-tag"),
    ("DELETE", f"{M}/model-versions/delete"),
    ("DELETE", f"{M}/logged-models/x"),
}
TRAINS = {
    *CREATES,
    *(SERVES - {("DELETE", f"{M}/registered-models/delete")}),
    ("PUT", FILE),
    *(("POST", f"{M}/experiments/{verb}") for verb in ("create", "restore")),
    *(("POST", f"{M}/runs/{verb}") for verb in ("create", "update", "delete", "set-tag")),
    *(("POST", f"{M}/runs/log-{what}") for what in ("batch", "metric", "parameter")),
    *(("POST", f"{M}/runs/{verb}") for verb in ("log-inputs", "log-model", "outputs")),
    *(("POST", f"{M}/logged-models{rest}") for rest in ("", "/x/params")),
    *(("PATCH", f"{M}/logged-models/x{rest}") for rest in ("", "/tags")),
    ("POST", f"{M}/model-versions/create"),
}
# Searches, which change nothing although they are no GET.
SEARCHES = {
    ("POST", "/graphql"),
    *(("POST", f"{M}/{what}/search") for what in ("experiments", "runs", "logged-models")),
    ("POST", f"{M}/experiments/search-datasets"),
    ("POST", f"{M}/registered-models/get-latest-versions"),
    ("POST", "/api/3.0/mlflow/datasets/search"),
    ("POST", "/api/3.0/mlflow/traces/search"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("secrets")


@pytest.fixture(scope="module")
def tokens(folder: Path) -> OwnTokens:
    made = OwnTokens(folder)
    made.make()
    return made


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, tokens: OwnTokens) -> Iterator[str]:
    data = tmp_path_factory.mktemp("mlflow")
    (data / "revoked.json").write_text("[]")
    revoked = ("--revoked-tokens", str(data / "revoked.json"))
    with guarded_mlflow(data, tokens.keys.public_file, *revoked) as running:
        yield running


@pytest.fixture(scope="module")
def routes() -> list[tuple[str, str]]:
    found = mlflow_routes()
    assert len(found) > 300
    return found


def test_a_new_route_of_mlflow_is_refused_and_told_here(routes: list[tuple[str, str]]) -> None:
    new = [
        route
        for route in routes
        if scopes_of(*route) is None
        and route not in REFUSED_READS
        and route[0] not in ("OPTIONS", "HEAD")
        and not plain_path(route[1]).startswith(REFUSED)
    ]
    assert not new, f"new in MLflow, refused until somebody has looked at them: {new}"


def bad_tokens(tokens: OwnTokens) -> dict[str, str]:
    """Tokens that nobody may use anywhere."""
    good = tokens.operator
    head, claims, signature = good.split(".")
    other = OwnTokens(tokens.keys.public_file.parent.parent / "other")
    other.keys.public_file.parent.mkdir(exist_ok=True)
    other.make()
    values = jwt.decode(good, options={"verify_signature": False})
    flipped = ("A" if signature[0] != "A" else "B") + signature[1:]
    kid = jwt.get_unverified_header(good)["kid"]
    expired = OwnTokens(tokens.keys.public_file.parent, lambda: time.time() - 10 * DAY_S)
    return {
        "expired": expired.keys.sign(Grant("operator", ("mlflow-write",)), DAY_S).text,
        "tampered": f"{head}.{claims}.{flipped}",
        "alg none": jwt.encode(values, "", "none", {"kid": kid}),
        "another mesh's": other.operator,
        "secret of the public key": jwt.encode(
            values,
            json.loads(tokens.keys.public_file.read_text())["keys"][0]["x"],
            "HS256",
            {"kid": kid},
        ),
        "nonsense": "nonsense",
        "too long": "a" * 9_000,
    }


def held(tokens: OwnTokens, name: str) -> str:
    return (tokens.keys.public_file.parent / name).read_text()


@pytest.mark.parametrize(
    ("name", "writes"),
    [
        ("", set()),
        (own_tokens.AIRFLOW_FILE, set()),
        (own_tokens.INFERENCE_FILE, set()),
        (own_tokens.TRIGGER_FILE, CREATES),
        (own_tokens.CLEANING_FILE, CLEANS),
        (own_tokens.CONTROL_PLANE_FILE, SERVES),
        (own_tokens.TRAINING_FILE, TRAINS),
    ],
)
def test_every_route_by_everybody(
    url: str,
    tokens: OwnTokens,
    routes: list[tuple[str, str]],
    name: str,
    writes: set[tuple[str, str]],
) -> None:
    headers = {"authorization": f"Bearer {held(tokens, name)}"} if name else {}
    wrong = []
    with httpx.Client(base_url=url, headers=headers, timeout=30) as http:
        for method, path in routes:
            if name and (path.startswith("/ajax-api/") or method in ("HEAD", "OPTIONS")):
                continue
            may = (method, plain_path(path)) in writes | SEARCHES
            refused = _refused(http.request(method, path, json={}))
            if method in ("GET", "HEAD"):
                known = plain_path(path).startswith(REFUSED) or (method, path) in REFUSED_READS
                if refused is not known:
                    wrong.append((method, path, "refused"))
            elif refused is may:
                wrong.append((method, path, "refused" if refused else "let in"))
    assert not wrong


def test_every_route_by_a_bad_token(
    url: str, tokens: OwnTokens, routes: list[tuple[str, str]]
) -> None:
    """A token that is sent is checked on every route, also where none is needed."""
    wrong = []
    with httpx.Client(base_url=url, timeout=30) as http:
        for kind, token in bad_tokens(tokens).items():
            headers = {"authorization": f"Bearer {token}"}
            # Whatever is wrong with a token, one function says so for every route.
            for method, path in routes if kind == "tampered" else routes[::20]:
                if path in ("/health", "/version"):
                    continue
                status = http.request(method, path, json={}, headers=headers).status_code
                if status != 401:
                    wrong.append((kind, method, path, status))
    assert not wrong


def test_the_operator_may_write_by_hand(url: str, tokens: OwnTokens) -> None:
    headers = {"authorization": f"Bearer {tokens.operator}"}
    with httpx.Client(base_url=url + M, headers=headers) as http:
        assert http.post("/registered-models/create", json={"name": "mine"}).is_success
        body = {"name": "mine", "new_name": "ours"}
        assert http.post("/registered-models/rename", json=body).is_success
        delete = http.request("DELETE", "/registered-models/delete", json={"name": "ours"})
        assert delete.is_success


def test_where_reading_is_not_open_it_needs_view_of_all_models(
    tmp_path: Path, tokens: OwnTokens, routes: list[tuple[str, str]]
) -> None:
    callers = {
        "": 401,
        tokens.keys.sign(Grant("p", ("predict", "train", "release")), DAY_S).text: 403,
        tokens.keys.sign(Grant("some", ("view",), ("reviews*",)), DAY_S).text: 403,
        tokens.keys.sign(Grant("all", ("view",)), DAY_S).text: 200,
        held(tokens, own_tokens.INFERENCE_FILE): 200,
    }
    data = tmp_path / "mlflow"
    with guarded_mlflow(data, tokens.keys.public_file, open_reads=False) as url:
        assert httpx.get(f"{url}/health").is_success
        for token, status in callers.items():
            headers = {"authorization": f"Bearer {token}"} if token else {}
            with httpx.Client(base_url=url, headers=headers, timeout=30) as http:
                for path in ("/", f"{M}/registered-models/search"):
                    assert http.get(path).status_code == status, path
        with httpx.Client(base_url=url, timeout=30) as http:
            let_in = [
                (method, path)
                for method, path in routes
                if path not in ("/health", "/version")
                and not _refused(http.request(method, path, json={}))
            ]
        assert not let_in


def _refused(answer: httpx.Response) -> bool:
    if answer.status_code not in (401, 403):
        return False
    assert answer.request.method == "HEAD" or answer.json()["error_code"] in (
        "UNAUTHENTICATED",
        "PERMISSION_DENIED",
    )
    return True
