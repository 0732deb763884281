"""The file .env: what is read from it, and what a change leaves as it was."""

import stat
from pathlib import Path

import pytest

from mesh_cli.compose.env_file import EnvFile


def test_comments_and_the_order_of_lines_stay(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("# MESH_UID=1\n\nMESH_PORT = 9\nMESH_REPLICAS=2\nOTHER=a=b\n")
    env = EnvFile(path)
    assert env.add_missing({"MESH_UID": "5", "MESH_PORT": "1"}) == {"MESH_UID": "5"}
    env.set("MESH_REPLICAS", "4")
    env.set("NEW", "x")
    assert path.read_text() == (
        "# MESH_UID=1\n\nMESH_PORT = 9\nMESH_REPLICAS=4\nOTHER=a=b\nMESH_UID=5\nNEW=x\n"
    )
    assert [env.get(name) for name in ("MESH_PORT", "OTHER", "NONE")] == ["9", "a=b", ""]


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("NAME=a=b", "a=b"),
        ("NAME = 9 # replicas", "9"),
        ("export NAME='a # b'", "a # b"),
        ('NAME="two words"', "two words"),
        ("NAME=${BASE}/secrets", "/srv/secrets"),
        ("# NAME=1", ""),
        ("NAME=", ""),
        ("NAME=1\nNAME=2", "2"),
    ],
)
def test_values_are_read_as_compose_reads_them(tmp_path: Path, line: str, value: str) -> None:
    path = tmp_path / ".env"
    path.write_text(f"BASE=/srv\n{line}\n")
    assert EnvFile(path).get("NAME") == value


@pytest.mark.parametrize("value", ["4", "two words", "it's", "a#b", "/srv/secrets"])
def test_a_value_that_was_set_is_read_again(tmp_path: Path, value: str) -> None:
    env = EnvFile(tmp_path / ".env")
    env.set("NAME", value)
    assert env.get("NAME") == value


def test_a_changed_env_file_is_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("MESH_REPLICAS=2")
    path.chmod(0o644)
    EnvFile(path).set("MESH_REPLICAS", "3")
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("MESH_REPLICAS=3\n", 0o600)


def test_root_leaves_the_env_file_to_its_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owners: list[tuple[int, int]] = []
    path = tmp_path / ".env"
    EnvFile(path).set("MESH_REPLICAS", "2")
    monkeypatch.setattr("mesh_cli.compose.env_file.os.geteuid", lambda: 0)
    monkeypatch.setattr(
        "mesh_cli.compose.env_file.os.chown", lambda _, uid, gid: owners.append((uid, gid))
    )
    EnvFile(path).set("MESH_REPLICAS", "3")
    assert owners == [(path.stat().st_uid, path.stat().st_gid)]
