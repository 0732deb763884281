"""The record of tokens in a real PostgreSQL."""

import secrets
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg2
import pytest

from mesh_cli.errors import BadInput, CliError
from mesh_cli.tokens import token_table
from mesh_cli.tokens.grant import Grant, Token
from mesh_cli.tokens.token_table import TokenTable
from service_kit.callers.token_table import SCHEMA
from service_kit.database_roles.names import LOGIN_ROLES
from service_kit.database_roles.set_up import set_up
from tests.real_parts.postgres import running_postgres, with_database


def asking(url: str) -> Callable[[str, dict[str, Any]], Any]:
    """Run statements as the command does for local processes."""
    from mesh_cli.local.local_deployment import LocalDeployment

    class Mesh:
        database_url = url

    return LocalDeployment(Mesh()).ask  # type: ignore[arg-type]


def a_token(name: str, life_s: int = 3600) -> Token:
    now = int(time.time())
    return Token(name, Grant("o.shop", ("view", "data")), now, now + life_s, "")


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of the training database, with the roles of the parts, for the operator."""
    passwords = {role: secrets.token_hex(8) for role in LOGIN_ROLES}
    with running_postgres(tmp_path_factory.mktemp("server")) as url:
        set_up(lambda name="training": with_database(url, name), passwords)
        parts = urlsplit(with_database(url, "training"))
        login = f"mesh_operator:{passwords['mesh_operator']}"
        yield urlunsplit(parts._replace(netloc=f"{login}@{parts.hostname}:{parts.port}"))


@pytest.fixture
def table(operator: str) -> TokenTable:
    with psycopg2.connect(operator) as connection, connection.cursor() as cursor:
        cursor.execute("SET LOCAL ROLE mesh_shared")
        cursor.execute(SCHEMA.read_text() + "; TRUNCATE mesh.tokens")
    return TokenTable(asking(operator))


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
