"""The gate's table, its places, its hosts and its answers to what is no HTTP request."""

from typing import Any

import pytest

from service_kit.mlflow_gate import routes
from service_kit.mlflow_gate.__main__ import parsed
from service_kit.mlflow_gate.browsers import Browsers
from service_kit.mlflow_gate.locations import BadPlace, Places
from service_kit.mlflow_gate.routes import EXPERIMENT, VERSION, scopes_of

ROOT = "http://artifacts:5000/api/2.0/mlflow-artifacts/artifacts"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/2.0/mlflow/webhooks"),
        ("POST", "//api/2.0/mlflow/runs/search"),
        ("POST", "/api/2.0/mlflow/runs/search/"),
        ("POST", "/API/2.0/mlflow/runs/search"),
        ("GET", "/static-files"),
        ("DELETE", "/api/2.0/mlflow/logged-models/a/b"),
        ("TRACE", "/"),
        ("OPTIONS", "/api/2.0/mlflow/runs/search"),
        ("GET", "/a/route/of/tomorrow"),
    ],
)
def test_what_is_not_in_the_table_is_refused(method: str, path: str) -> None:
    assert scopes_of(method, path) is None


def test_only_whether_mlflow_is_up_is_everybodys() -> None:
    assert scopes_of("GET", "/health") is routes.OPEN
    assert scopes_of("POST", "/health") is None
    assert scopes_of("GET", "/") is not routes.OPEN


@pytest.mark.parametrize("scope", sorted({routes.READ, routes.VIEW}))
def test_who_may_only_read_writes_nothing(scope: str) -> None:
    for (method, path), having in routes._EXACT.items():
        if scope in having:
            assert (
                method == "GET"
                or "search" in path
                or path
                in (
                    "/graphql",
                    "/api/2.0/mlflow/registered-models/get-latest-versions",
                )
            )


def test_the_right_of_one_part_is_not_that_of_another() -> None:
    create = "/api/2.0/mlflow/model-versions/create"
    assert scopes_of("POST", create) == frozenset((routes.TRAIN, routes.WRITE))
    alias = scopes_of("POST", "/ajax-api/2.0/mlflow/registered-models/alias")
    assert alias == frozenset((routes.SERVE, routes.TRAIN, routes.WRITE))
    file = scopes_of("PUT", f"{routes.ARTIFACTS}/1/a\nb")
    assert file == frozenset((routes.TRAIN, routes.WRITE))


@pytest.mark.parametrize("root", ["", ROOT])
@pytest.mark.parametrize("place", ["models:/m-1", "runs:/a/model", "mlflow-artifacts:/1/a", ""])
def test_places_that_mlflow_knows_are_taken(root: str, place: str) -> None:
    body = f'{{"name": "a", "source": "{place}"}}'.encode()
    assert Places(root).checked(VERSION, body) == body


def test_the_artifact_servers_own_url_is_taken() -> None:
    body = f'{{"artifact_location": "{ROOT}/1"}}'.encode()
    assert Places(ROOT).checked(EXPERIMENT, body) == body
    for wrong in (f"{ROOT}.evil/1", f"{ROOT}/../x", ROOT.replace("artifacts:", "evil:") + "/1"):
        with pytest.raises(BadPlace, match="artifact server only"):
            Places(ROOT).checked(EXPERIMENT, f'{{"artifact_location": "{wrong}"}}'.encode())


@pytest.mark.parametrize("body", [b"", b"[]", b"7", b"{", b'"[]"', b"\xff\xfe\xfd"])
def test_a_body_that_mlflow_could_read_otherwise_is_refused(body: bytes) -> None:
    with pytest.raises(BadPlace, match="no JSON"):
        Places("").checked(EXPERIMENT, body)


@pytest.mark.parametrize(
    ("host", "taken"),
    [
        ("localhost:5001", True),
        ("mesh.localhost", True),
        ("127.0.0.1:5001", True),
        ("[::1]:5001", True),
        ("mlflow:5000", True),
        ("mlflow.example.com", True),
        ("MLFLOW.example.com:80", True),
        ("a.lab.example", True),
        ("evil.example", False),
        ("mlflow.example.com.evil", False),
        ("127.0.0.1.evil", False),
        ("lab.example", False),
        ("", False),
        ("localhost@evil.example", False),
    ],
)
def test_hosts(host: str, taken: bool) -> None:
    browsers = Browsers(("mlflow.example.com:443", "*.lab.example"), open_reads=True)
    assert (browsers.refusal(host, None) == "") is taken


def test_a_page_of_mlflow_itself_may_call_it_and_no_other_may() -> None:
    browsers = Browsers((), open_reads=True)
    assert browsers.refusal("localhost:5001", "http://localhost:5001") == ""
    assert "may not call" in browsers.refusal("localhost:5001", "http://localhost:5002")
    assert "may not call" in browsers.refusal("localhost:5001", "")


@pytest.mark.parametrize(
    ("options", "is_open"),
    [
        ("--host 127.0.0.1", True),
        ("--host 0.0.0.0", False),
        ("--host 0.0.0.0 --published-on 127.0.0.1", True),
        ("--host 0.0.0.0 --published-on [::1]", True),
        ("--host 0.0.0.0 --published-on 10.0.0.1", False),
        ("--host 127.0.0.1 --open-reads false", False),
        ("--host 0.0.0.0 --open-reads true", True),
    ],
)
def test_reading_is_open_on_loopback_only_unless_it_is_set(options: str, is_open: bool) -> None:
    fixed = ["--port", "1", "--token-keys", "keys", "--backend-store-uri", "sqlite://"]
    assert parsed([*fixed, *options.split()]).open_reads is is_open
    assert parsed([*fixed, *options.split(), "--host-names", ""]).host_names == ()


@pytest.mark.parametrize("missing", ["--token-keys", "--backend-store-uri"])
def test_without_keys_or_data_it_does_not_start(
    missing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fixed: dict[str, Any] = {
        "--port": "1",
        "--token-keys": "keys",
        "--backend-store-uri": "sqlite://",
    }
    del fixed[missing]
    with pytest.raises(SystemExit):
        parsed([word for pair in fixed.items() for word in pair])
    assert missing in capsys.readouterr().err
