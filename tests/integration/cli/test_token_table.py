"""The record of tokens in a real PostgreSQL with the mesh's roles, as both deployments write it."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from mesh_cli.compose.compose_deployment import ComposeDeployment
from mesh_cli.compose.engine import Engine, Output
from mesh_cli.errors import BadInput, CliError
from mesh_cli.local.local_deployment import LocalDeployment
from mesh_cli.tokens import token_table
from mesh_cli.tokens.grant import Grant, Token
from mesh_cli.tokens.token_table import Ask, TokenTable
from service_kit.callers.token_table import SCHEMA
from service_kit.database import Database, apply_schema
from service_kit.database_roles.names import CONTROL_PLANE, OPERATOR
from tests.integration.database_roles.conftest import Server
from tests.real_parts.postgres import BINARIES, execute, running_postgres


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


def a_token(name: str, life_s: int = 3600) -> Token:
    now = int(time.time())
    return Token(name, Grant("o.shop", ("view", "data")), now, now + life_s, "")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_postgres(tmp_path_factory.mktemp("postgres")) as url:
        server = Server(url)
        server.set_up()
        yield server


@pytest.fixture(params=[on_processes, in_containers])
async def table(request: pytest.FixtureRequest, server: Server, tmp_path: Path) -> TokenTable:
    """The table as the control plane makes it, empty."""
    database = Database(server.url(CONTROL_PLANE), "test", 1)
    await apply_schema(database, "control plane", SCHEMA)
    await database.close()
    execute(server.superuser(), "TRUNCATE mesh.tokens")
    ask: Callable[[Server, Path], Ask] = request.param
    return TokenTable(ask(server, tmp_path))


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
