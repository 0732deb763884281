"""`mesh token` and `mesh audit`, over the secrets of a folder and a record that a test reads."""

import json
from pathlib import Path
from typing import Any

import jwt
import pytest
from typer.testing import CliRunner

from mesh_cli.errors import BadInput, CliError
from mesh_cli.main import app
from mesh_cli.terminal.output import console
from mesh_cli.tokens.own_tokens import GRANTS, OwnTokens
from mesh_cli.verbs import context


class MeshOfAFolder:
    """The parts of a Deployment that `mesh token` uses; `answer` is the database's."""

    def __init__(self, folder: Path) -> None:
        self.tokens = OwnTokens(folder)
        self.tokens.make()
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.answer: Any = True

    def ask(self, statement: str, given: dict[str, Any], role: str = "mesh_shared") -> Any:
        self.role = role
        self.asked.append((statement.split()[0], given))
        return self.answer


@pytest.fixture
def mesh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MeshOfAFolder:
    mesh = MeshOfAFolder(tmp_path)
    monkeypatch.setattr(context, "deployment", lambda: mesh)
    return mesh


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["token", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_token_is_recorded_and_printed_once(mesh: MeshOfAFolder) -> None:
    made = json.loads(
        run("create", "--subject", "shop", "--scope", "predict", "--scope", "view",
            "--model", "reviews*", "--ttl", "30d", "--json")
    )  # fmt: skip
    claims = jwt.decode(made["token"], options={"verify_signature": False})
    assert (claims["sub"], claims["scope"], claims["models"]) == (
        "shop",
        "predict view",
        "reviews*",
    )
    assert claims["exp"] - claims["iat"] == 30 * 86_400
    assert claims["jti"] == made["id"]
    assert [word for word, _ in mesh.asked] == ["DELETE", "WITH"]
    assert mesh.asked[1][1]["id"] == made["id"]
    assert made["token"] not in str(mesh.asked)


def test_without_a_record_no_token_is_printed(mesh: MeshOfAFolder) -> None:
    mesh.answer = None
    with pytest.raises(CliError, match="10,000 tokens"):
        run("create", "--subject", "shop", "--scope", "predict")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--subject", "shop", "--scope", "everything"),
        ("--subject", "shop\n", "--scope", "view"),
        ("--subject", "shop", "--scope", "view", "--model", "re*s"),
        ("--subject", "shop", "--scope", "view", "--ttl", "400d"),
        ("--subject", "shop", "--scope", "view", "--ttl", "10"),
    ],
)
def test_what_no_token_may_say_is_refused(mesh: MeshOfAFolder, arguments: tuple[str, ...]) -> None:
    with pytest.raises(BadInput):
        run("create", *arguments)
    assert mesh.asked == []


def test_a_revoked_operators_token_is_replaced_at_once(mesh: MeshOfAFolder) -> None:
    before = mesh.tokens.operator
    old = jwt.decode(before, options={"verify_signature": False})["jti"]
    assert "operator" in run("revoke", old)
    assert mesh.asked[-1][1] | {"id": old, "revoked": True} == mesh.asked[-1][1]
    assert mesh.tokens.operator not in ("", before)
    assert run("show").strip() == mesh.tokens.operator


def test_an_unknown_id_is_refused(mesh: MeshOfAFolder) -> None:
    mesh.answer = None
    with pytest.raises(BadInput, match="mesh token list"):
        run("revoke", "nobody")


def test_a_list_shows_no_texts_of_tokens(mesh: MeshOfAFolder) -> None:
    mesh.answer = [
        {"id": "1", "subject": "shop", "scopes": "predict", "models": "*",
         "createdAt": "2026-01-01T00:00:00", "expiresAt": "2026-02-01T00:00:00", "revokedAt": None}
    ]  # fmt: skip
    assert "shop" in run("list")
    assert json.loads(run("list", "--json")) == mesh.answer


def test_rotation_at_once_renews_the_meshs_own_tokens(mesh: MeshOfAFolder) -> None:
    before = mesh.tokens.operator
    renewed = json.loads(run("rotate", "--now", "--json"))["renewed"]
    assert renewed == list(GRANTS)
    assert mesh.tokens.operator != before


ENTRY = {
    **{"at": "2026-01-02T03:04:05.678Z", "subject": "shop@https://id.example", "tokenId": "t1"},
    **{"method": "mesh.v1.ReloadService/SetTraffic", "model": "reviews", "requestId": "r-1"},
    **{"outcome": "INVALID_ARGUMENT", "detail": "champion_weight 90; " + "the weights " * 40},
}


def run_audit(*arguments: str, columns: str = "80") -> str:
    result = CliRunner().invoke(
        app, ["audit", *arguments], catch_exceptions=False, env={"COLUMNS": columns}
    )
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_audit_is_asked_for_as_the_operator_and_shown_on_80_columns(
    mesh: MeshOfAFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "_width", 80)
    mesh.answer = [ENTRY, {**ENTRY, "subject": "ann", "detail": ""}]
    shown = run_audit("--model", "reviews", "--subject", "shop", "--limit", "2")
    assert mesh.role == "mesh_operator"
    assert mesh.asked[0][1] == {"model": "reviews", "subject": "shop", "limit": 2}
    lines = shown.splitlines()
    assert max(map(len, lines)) <= 80
    for words in ("2026-01-02 03:04:05", "shop@https://id.example", "what SetTraffic", "r-1"):
        assert words in shown
    assert "outcome INVALID_ARGUMENT" in shown


def test_the_audit_for_scripts_is_json_with_every_value(mesh: MeshOfAFolder) -> None:
    mesh.answer = [ENTRY]
    assert json.loads(run_audit("--json")) == [ENTRY]


def test_what_a_caller_has_chosen_is_inert_in_the_audit(mesh: MeshOfAFolder) -> None:
    odd = "\x1b[2J[red]x[/red]\u202e"
    mesh.answer = [dict.fromkeys(ENTRY, odd) | {"at": ENTRY["at"]}]
    for arguments in ([], ["--json"]):
        shown = run_audit(*arguments)
        assert "\x1b" not in shown
        assert "\u202e" not in shown
        assert "[red]x[/red]" in shown


def test_a_new_key_is_in_the_audit_or_the_command_says_that_it_is_not(
    mesh: MeshOfAFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("rotate", "--now")
    assert mesh.asked[-1][1]["done"] == "mesh token rotate"

    def away(*_: Any, **__: Any) -> Any:
        raise CliError("the database does not answer")

    monkeypatch.setattr(mesh, "ask", away)
    result = CliRunner().invoke(app, ["token", "rotate", "--now"])
    assert result.exit_code == 0
    assert "the audit has no entry of this: the database does not answer" in result.output
