"""Keys and tokens that a mesh makes for itself."""

import json
import stat
from pathlib import Path
from typing import Any

import jwt
import pytest

from mesh_cli.errors import BadInput, CliError
from mesh_cli.tokens.grant import DAY_S, SCOPES, Grant, check_life
from mesh_cli.tokens.own_tokens import AIRFLOW_FILE, GRANTS, LIFE_S, OPERATOR_FILE, OwnTokens
from mesh_cli.tokens.signing_keys import MAX_KEYS, SigningKeys

GRANT = Grant("shop", ("predict",), ("reviews*",))
NOW = 1_900_000_000.0


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


def checked(folder: Path, text: str) -> dict[str, Any]:
    """What a token says, checked with the public keys as Envoy does it."""
    keys = jwt.PyJWKSet.from_dict(json.loads((folder / "token-keys.json").read_text()))
    key = keys[jwt.get_unverified_header(text)["kid"]]
    claims: dict[str, Any] = jwt.decode(
        text,
        key,
        ["EdDSA"],
        audience="champion-mesh",
        issuer="champion-mesh",
        options={"verify_exp": False, "verify_iat": False},
    )
    return claims


def test_the_first_start_makes_keys_and_tokens_for_the_owner_only(tmp_path: Path) -> None:
    made = OwnTokens(tmp_path).make()
    assert sorted(made) == sorted(path.name for path in tmp_path.iterdir())
    assert len(made) == 2 + len(GRANTS)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}
    operator = checked(tmp_path, OwnTokens(tmp_path).operator)
    assert (operator["sub"], operator["models"]) == ("operator", "*")
    assert set(operator["scope"].split()) == {*SCOPES, "mlflow-write"}
    airflow = checked(tmp_path, (tmp_path / AIRFLOW_FILE).read_text())
    assert set(airflow["scope"].split()) == {"train", "release", "view"}
    assert "PRIVATE" not in (tmp_path / "token-keys.json").read_text()
    assert '"d"' not in (tmp_path / "token-keys.json").read_text()


def test_the_next_start_changes_nothing(tmp_path: Path) -> None:
    OwnTokens(tmp_path).make()
    before = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert OwnTokens(tmp_path).make() == []
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == before


def test_own_tokens_are_renewed_in_the_same_file_when_half_their_life_is_over(
    tmp_path: Path,
) -> None:
    clock = Clock()
    OwnTokens(tmp_path, clock).make()
    before = (tmp_path / OPERATOR_FILE).stat().st_ino, OwnTokens(tmp_path).operator
    clock.now += LIFE_S / 2 - DAY_S
    assert OwnTokens(tmp_path, clock).make() == []
    clock.now += 2 * DAY_S
    assert OwnTokens(tmp_path, clock).make() == list(GRANTS)
    assert (tmp_path / OPERATOR_FILE).stat().st_ino == before[0]
    assert OwnTokens(tmp_path).operator != before[1]


@pytest.mark.parametrize("text", ["", "nonsense", "a.b.c"])
def test_a_broken_token_is_replaced(tmp_path: Path, text: str) -> None:
    OwnTokens(tmp_path).make()
    (tmp_path / OPERATOR_FILE).write_text(text)
    assert OwnTokens(tmp_path).make() == [OPERATOR_FILE]
    checked(tmp_path, OwnTokens(tmp_path).operator)


def test_a_lost_private_key_leaves_the_tokens_that_it_signed_valid(tmp_path: Path) -> None:
    tokens = OwnTokens(tmp_path)
    tokens.make()
    signed = tokens.keys.sign(GRANT, DAY_S)
    tokens.keys.private_file.unlink()
    tokens.make()
    checked(tmp_path, signed.text)
    checked(tmp_path, tokens.operator)


def test_a_rotated_key_stays_until_its_last_token_has_ended(tmp_path: Path) -> None:
    clock = Clock()
    keys = SigningKeys(tmp_path, clock)
    keys.make()
    old = keys.sign(GRANT, 10 * DAY_S)
    keys.rotate(settle=lambda _seconds: None)
    new = keys.sign(GRANT, DAY_S)
    assert checked(tmp_path, old.text)["models"] == "reviews*"
    checked(tmp_path, new.text)
    clock.now += 11 * DAY_S
    keys.make()
    with pytest.raises(KeyError):
        checked(tmp_path, old.text)
    checked(tmp_path, new.text)


def test_the_old_key_signs_until_every_door_knows_the_new_one(tmp_path: Path) -> None:
    keys = SigningKeys(tmp_path)
    old = keys.sign(GRANT, DAY_S)
    private, seen = keys.private_file.read_text(), []

    def settle(seconds: float) -> None:
        seen.append((seconds, keys.private_file.read_text(), keys.public_file.read_text()))

    keys.rotate(settle=settle)
    [(seconds, during, public)] = seen
    assert (seconds, during) == (5.0, private)
    assert len(json.loads(public)["keys"]) == 2
    assert keys.private_file.read_text() != private
    checked(tmp_path, old.text)


def test_rotation_can_drop_the_old_keys_at_once_and_keeps_a_bounded_number(tmp_path: Path) -> None:
    keys = SigningKeys(tmp_path)
    for _ in range(MAX_KEYS):
        old = keys.sign(GRANT, DAY_S)
        if len(json.loads(keys.public_file.read_text())["keys"]) < MAX_KEYS:
            keys.rotate(settle=lambda _seconds: None)
    with pytest.raises(CliError, match="--now"):
        keys.rotate()
    keys.rotate(drop_old=True)
    assert len(json.loads(keys.public_file.read_text())["keys"]) == 1
    with pytest.raises(KeyError):
        checked(tmp_path, old.text)


def test_a_key_that_is_none_is_told_with_what_to_do(tmp_path: Path) -> None:
    keys = SigningKeys(tmp_path)
    keys.make()
    keys.private_file.write_text("nonsense")
    with pytest.raises(CliError, match="remove it and run `mesh up`"):
        keys.sign(GRANT, DAY_S)
    keys.private_file.unlink()
    keys.public_file.write_text("[]")
    with pytest.raises(CliError, match="remove it and run `mesh up`"):
        keys.make()


@pytest.mark.parametrize(
    ("subject", "scopes", "models"),
    [
        ("", ("view",), ("*",)),
        ("a b", ("view",), ("*",)),
        ("a\nx-mesh-scopes: release", ("view",), ("*",)),
        ("shop", (), ("*",)),
        ("shop", ("all",), ("*",)),
        ("shop", ("view",), ()),
        ("shop", ("view",), ("re*views",)),
        ("shop", ("view",), ("reviews films",)),
        ("shop", ("view",), ("Reviews",)),
        ("shop", ("view",), ("**",)),
        ("shop", ("view",), tuple(f"m{n}" for n in range(21))),
    ],
)
def test_no_token_is_made_of_values_that_could_mean_something_else(
    subject: str, scopes: tuple[str, ...], models: tuple[str, ...]
) -> None:
    with pytest.raises(BadInput):
        Grant(subject, scopes, models)


def test_a_token_holds_a_bounded_time() -> None:
    assert check_life(30 * DAY_S) == 30 * DAY_S
    for seconds in (0, 59, 367 * DAY_S):
        with pytest.raises(BadInput, match="--ttl"):
            check_life(seconds)


def test_each_part_has_a_token_of_its_own_that_holds_at_mlflow_only(tmp_path: Path) -> None:
    OwnTokens(tmp_path).make()
    scopes = {
        path.name: checked(tmp_path, path.read_text())["scope"] for path in tmp_path.glob("*.token")
    }
    assert scopes.pop(OPERATOR_FILE)
    assert scopes.pop(AIRFLOW_FILE)
    assert scopes == {
        "training.token": "mlflow-train",
        "trigger.token": "mlflow-create",
        "control-plane.token": "mlflow-serve",
        "inference.token": "mlflow-read",
        "mlflow-cleaning.token": "mlflow-clean",
    }
