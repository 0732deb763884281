"""The record of tokens and the audit in a real PostgreSQL with the mesh's roles, as the command
works with them in both deployments."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from mesh_cli.compose.compose_deployment import ComposeDeployment
from mesh_cli.compose.engine import Engine, Output
from mesh_cli.errors import BadInput, CliError
from mesh_cli.local.local_deployment import LocalDeployment
from mesh_cli.tokens import audit_table, token_table
from mesh_cli.tokens.audit_table import Ask
from mesh_cli.tokens.grant import Grant, Token
from mesh_cli.tokens.token_table import TokenTable
from service_kit.callers.token_table import SCHEMA
from service_kit.database import Database, apply_schema
from service_kit.database_roles.names import CONTROL_PLANE, OPERATOR
from tests.integration.database_roles.conftest import Server
from tests.real_parts.postgres import BINARIES, running_postgres
from tests.real_parts.trigger_service import query

# Nobody may empty the audit but the superuser, and only past its triggers.
EMPTY = "SET session_replication_role = replica; TRUNCATE mesh.tokens, mesh.audit"


def on_processes(server: Server, folder: Path) -> Ask:
    """Run statements as the command does for local processes."""

    class Mesh:
        database_url = server.url(OPERATOR)

    return LocalDeployment(Mesh()).ask  # type: ignore[arg-type]


def in_containers(server: Server, folder: Path) -> Ask:
    """Run statements as the command does for containers, whose psql runs here without Docker."""
    at = urlsplit(server.url(OPERATOR))

    def run(
        command: Sequence[str], *, folder: Path, stdin: str, output: Output
    ) -> "subprocess.CompletedProcess[str]":
        psql = list(command)[command.index("psql") :]
        assert psql[1:3] == ["-U", OPERATOR]
        reached = {"PGHOST": at.hostname, "PGPORT": at.port, "PGPASSWORD": at.password}
        return subprocess.run(
            [str(BINARIES / "psql"), *psql[1:]],
            env=os.environ | {name: str(value) for name, value in reached.items()},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    (folder / "compose.yaml").touch()
    return ComposeDeployment(Engine(folder, run)).ask


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_postgres(tmp_path_factory.mktemp("postgres")) as url:
        server = Server(url)
        server.set_up()
        yield server


@pytest.fixture(params=[on_processes, in_containers])
async def ask(request: pytest.FixtureRequest, server: Server, tmp_path: Path) -> Ask:
    """Run statements as the command does; the tables are as the control plane makes them, empty."""
    database = Database(server.url(CONTROL_PLANE), "test", 1)
    await apply_schema(database, "control plane", SCHEMA)
    await database.close()
    query(server.superuser(), EMPTY)
    make: Callable[[Server, Path], Ask] = request.param
    return make(server, tmp_path)


@pytest.fixture
def table(ask: Ask) -> TokenTable:
    return TokenTable(ask)


def audit(ask: Any, model: str = "", subject: str = "", limit: int = 20) -> list[dict[str, str]]:
    return audit_table.entries(partial(ask, role=OPERATOR), model, subject, limit)


def a_token(name: str, life_s: int = 3600) -> Token:
    now = int(time.time())
    return Token(name, Grant("o.shop", ("view", "data")), now, now + life_s, "")


def test_tokens_are_added_listed_and_revoked(table: TokenTable) -> None:
    table.add(a_token("one"))
    table.add(a_token("two"), revoked=True)
    assert table.revoke("one") == "o.shop"
    listed = {each["id"]: each for each in table.tokens()}
    assert set(listed) == {"one", "two"}
    assert all(each["revokedAt"] for each in listed.values())
    assert (listed["one"]["scopes"], listed["one"]["models"]) == ("view data", "*")
    first = listed["one"]["revokedAt"]
    table.revoke("one")
    assert {each["id"]: each for each in table.tokens()}["one"]["revokedAt"] == first


@pytest.mark.parametrize("name", ["nobody", "' OR true --", 'a"b', "\\", ":'given'"])
def test_an_unknown_id_revokes_nothing(table: TokenTable, name: str) -> None:
    table.add(a_token("one"))
    with pytest.raises(BadInput, match="no token has the id"):
        table.revoke(name)
    assert [each["revokedAt"] for each in table.tokens()] == [None]


def test_ended_tokens_are_cleaned_and_the_others_bounded(
    table: TokenTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_table, "MAX_TOKENS", 2)
    table.add(a_token("old", life_s=-2 * 86_400))
    table.add(a_token("one"))
    table.add(a_token("two"))
    with pytest.raises(CliError, match="tokens that have not ended"):
        table.add(a_token("three"))
    assert [each["id"] for each in table.tokens()] == ["one", "two"]


def test_what_is_done_with_tokens_is_in_the_audit(table: TokenTable, ask: Ask) -> None:
    table.add(a_token("one"))
    table.add(a_token("two"), revoked=True)
    table.revoke("one")
    with pytest.raises(BadInput):
        table.revoke("nobody")
    audit_table.note(ask, "mesh token rotate", "old keys are dropped")
    found = [(each["method"], each["detail"]) for each in audit(ask)]
    assert found == [
        ("mesh token rotate", "old keys are dropped"),
        ("mesh token revoke", "token one"),
        ("mesh token revoke", "token two of o.shop, scopes view data, models *"),
        ("mesh token create", "token one of o.shop, scopes view data, models *"),
    ]
    assert all(each["subject"].startswith("operator on ") for each in audit(ask))


def test_a_token_that_is_one_too_many_leaves_no_entry(
    table: TokenTable, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_table, "MAX_TOKENS", 0)
    with pytest.raises(CliError):
        table.add(a_token("one"))
    assert audit(ask) == []


def test_the_audit_is_read_by_model_and_subject_the_newest_first(server: Server, ask: Ask) -> None:
    query(
        server.url("mesh_training"),
        "INSERT INTO mesh.audit (id, at, subject, token_id, method, model, request_id, outcome,"
        " detail) SELECT gen_random_uuid(), '2026-01-02 03:04:05.678+00'::timestamptz + n * "
        " interval '1 s', 'shop' || n %% 2, 't1', 'mesh.v1.TrainService/Train', 'm' || n %% 3,"
        " 'r' || n, 'OK', 'serve' FROM generate_series(0, 5) AS n",
    )
    assert [each["requestId"] for each in audit(ask)] == ["r5", "r4", "r3", "r2", "r1", "r0"]
    assert [each["requestId"] for each in audit(ask, limit=2)] == ["r5", "r4"]
    assert [each["requestId"] for each in audit(ask, "m1")] == ["r4", "r1"]
    assert [each["requestId"] for each in audit(ask, "m1", "shop1")] == ["r1"]
    assert audit(ask, "' OR true --") == []
    assert audit(ask, "m0", "shop0") == [
        {
            **{"at": "2026-01-02T03:04:05.678Z", "subject": "shop0", "tokenId": "t1"},
            **{"method": "mesh.v1.TrainService/Train", "model": "m0", "requestId": "r0"},
            **{"outcome": "OK", "detail": "serve"},
        }
    ]
