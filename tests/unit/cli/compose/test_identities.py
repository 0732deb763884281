"""The identities of the parts in containers: what `mesh init` makes, and who sees what."""

import stat
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from mesh_cli.compose.identities import FOLDER
from mesh_cli.compose.initialise import initialise
from mesh_cli.errors import CliError
from service_kit.identities.identity import Identity
from service_kit.identities.names import ENVOY, INFERENCE, PARTS
from tests.whole_mesh.running_mesh import ROOT

DOCUMENT: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, Any] = DOCUMENT["services"]
SEEN_AT = "/run/mesh/identity"


def mounts(service: str) -> dict[str, tuple[str, bool]]:
    """Folders of the identities that a container has, where it sees them, and if read-only."""
    found = {}
    for volume in SERVICES[service].get("volumes", ()):
        if isinstance(volume, dict) and f"}}/{FOLDER}" in volume["source"]:
            assert volume["bind"] == {"create_host_path": False}
            place = volume["source"].partition(f"}}/{FOLDER}")[2].removeprefix("/")
            found[place] = (volume["target"], volume["read_only"])
    return found


@pytest.mark.parametrize("part", PARTS)
def test_a_container_sees_its_own_identity_alone_and_cannot_write_it(part: str) -> None:
    assert mounts(part) == {part: (SEEN_AT, True)}
    if part != ENVOY:
        assert SERVICES[part]["environment"]["MESH_IDENTITY_FOLDER"] == SEEN_AT


def test_no_other_container_sees_an_identity_but_the_one_that_renews_them() -> None:
    others = {name: mounts(name) for name in SERVICES if name not in PARTS and mounts(name)}
    assert others == {"identities": {"": ("/run/mesh/identities", False)}}
    command = SERVICES["identities"]["command"]
    assert command == [
        *("python", "-m", "service_kit.identities", "/run/mesh/identities", "--every=3600")
    ]


def test_envoy_and_the_control_plane_agree_on_where_envoy_finds_its_identity() -> None:
    command = SERVICES["envoy-config"]["command"]
    naming = SERVICES["control-plane"]["environment"]["CONTROL_ENVOY_IDENTITY"]
    assert f"--seen-in={naming}" in command
    assert f"--identity={SEEN_AT}" in command
    assert f"envoy:{naming}:ro" in SERVICES["envoy"]["volumes"]


def test_only_the_user_of_the_containers_reads_them(tmp_path: Path) -> None:
    owners: dict[Path, tuple[int, int]] = {}
    initialise(tmp_path, {}, 0, lambda path, uid, gid: owners.update({path: (uid, gid)}))
    folder = tmp_path / "secrets" / FOLDER
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            mode = 0o600 if path.suffix == ".pem" and path.name != "ca.pem" else None
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0 or mode is None, path
            assert owners[path] == (50_000, 0), path
    assert {Identity(folder / part).part for part in PARTS} == set(PARTS)


def test_a_second_init_keeps_them(tmp_path: Path) -> None:
    initialise(tmp_path, {}, 1234)
    folder = tmp_path / "secrets" / FOLDER
    before = {part: Identity(folder / part).current() for part in PARTS}
    initialise(tmp_path, {}, 1234)
    assert {part: Identity(folder / part).current() for part in PARTS} == before


def test_an_authority_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    initialise(tmp_path, {}, 1234)
    folder = tmp_path / "secrets" / FOLDER
    (folder / "authority" / "ca-key.pem").write_text("nonsense")
    with pytest.raises(CliError, match=f"the identities in {folder} cannot be made"):
        initialise(tmp_path, {}, 1234)
    assert Identity(folder / INFERENCE).part == INFERENCE
