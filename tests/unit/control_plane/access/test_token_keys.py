"""The files that the control plane reads: public keys, and the copy of the revoked tokens."""

import json
from pathlib import Path

import pytest
from psycopg2.errors import UndefinedTable

from control_plane.access.revoked_tokens import RevokedTokens
from control_plane.access.token_keys import MAX_KEYS, UnusableKeys, nobodys_keys, read_keys
from tests.real_parts.tokens import SigningKey, jwks

KEY = SigningKey("a").public()


def test_public_keys_are_read_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(json.dumps({"keys": [KEY | {"note": "x"}], "more": 1}))
    (key,) = json.loads(read_keys(file))["keys"]
    assert key == {"kty": "OKP", "crv": "Ed25519", "x": KEY["x"], "kid": "a", "alg": "EdDSA"}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("{", "no JWKS"),
        ("[]", "no JWKS"),
        ('{"keys": []}', "0 keys"),
        (json.dumps({"keys": [{"kty": "oct", "k": "AAAA", "kid": "a"}]}), "neither Ed25519"),
        (json.dumps({"keys": [KEY | {"d": "AAAA"}]}), "private key"),
        (json.dumps({"keys": [{n: v for n, v in KEY.items() if n != "kid"}]}), "has no kid"),
        (jwks(*(SigningKey(str(n)) for n in range(MAX_KEYS + 1))), "17 keys"),
        (" " * 70_000, "larger than"),
    ],
    # The keys are made anew in each process, so the contents cannot name the cases.
    ids=("cut off", "a list", "no key", "a secret", "private", "nameless", "too many", "too long"),
)
def test_other_files_are_refused(content: str, why: str, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(content)
    with pytest.raises(UnusableKeys, match=why):
        read_keys(file)


def test_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnusableKeys, match="No such file"):
        read_keys(tmp_path / "none")


def test_nobodys_keys_are_new_each_time() -> None:
    assert nobodys_keys() != nobodys_keys()


class Answers:
    """Stands in for a Database."""

    def __init__(self) -> None:
        self.answer: frozenset[str] | Exception = frozenset()

    async def run(self, *_: object) -> frozenset[str]:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


async def test_a_restart_without_a_database_forgets_no_revocation(tmp_path: Path) -> None:
    database, file = Answers(), tmp_path / "state" / "revoked"
    revoked = RevokedTokens(database, file)  # type: ignore[arg-type]
    assert revoked.remembered() == frozenset()
    database.answer = frozenset({"a", "b"})
    assert await revoked.read() == {"a", "b"}
    again = RevokedTokens(database, file)  # type: ignore[arg-type]
    assert again.remembered() == {"a", "b"}
    database.answer = UndefinedTable()
    assert await again.read() == {"a", "b"}


async def test_a_copy_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    file = tmp_path / "revoked"
    file.write_text("{")
    assert RevokedTokens(Answers(), file).remembered() == frozenset()  # type: ignore[arg-type]
