"""Files of an identity: what is read, what is refused, and how they are replaced."""

import logging
from pathlib import Path

import pytest

from service_kit.certificates.authority import Authority
from service_kit.identities.files import write_identity
from service_kit.identities.identity import (
    AUTHORITIES_FILE,
    CERTIFICATE_FILE,
    KEY_FILE,
    BadIdentity,
    Identity,
    Pems,
)
from service_kit.identities.names import TRAINING, part_of, server_name, spiffe_id
from service_kit.settings import ServiceSettings


def pems(folder: Path, *names: str) -> Pems:
    """A certificate with these names, from the authority in a folder."""
    authority = Authority.in_folder(folder / "authority")
    certificate, key = authority.issue(names, 1, for_clients=True)
    return Pems(certificate, key, authority.certificate_pem, TRAINING)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    folder = tmp_path / "own"
    write_identity(folder, pems(tmp_path, spiffe_id(TRAINING), server_name(TRAINING)))
    return folder


def replace(path: Path, content: bytes) -> None:
    new = path.with_name("new")
    new.write_bytes(content)
    new.replace(path)


def test_an_identity_names_its_part(own: Path) -> None:
    identity = Identity.of(own)
    assert identity is not None
    assert identity.part == TRAINING
    assert identity is Identity.of(own), "each part reads its files once"
    assert Identity.of(None) is None


def test_only_the_owner_reads_the_files(own: Path) -> None:
    for name in (CERTIFICATE_FILE, KEY_FILE, AUTHORITIES_FILE):
        assert (own / name).stat().st_mode & 0o777 == 0o600
    assert own.stat().st_mode & 0o777 == 0o700


def test_files_that_have_not_changed_give_the_same_object(own: Path) -> None:
    identity = Identity(own)
    assert identity.current() is identity.current()


def test_new_files_are_read_at_the_next_look(own: Path, tmp_path: Path) -> None:
    identity = Identity(own)
    for _ in range(3):
        new = pems(tmp_path, spiffe_id(TRAINING), server_name(TRAINING))
        write_identity(own, new)
        assert identity.current() == new
    assert len([path for path in own.iterdir() if path.name.startswith("..")]) == 3


def test_files_of_anything_that_writes_pem_are_read_once_both_are_new(
    own: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    identity = Identity(own)
    before = identity.current()
    new = pems(tmp_path, spiffe_id(TRAINING), server_name(TRAINING))
    replace(own / CERTIFICATE_FILE, new.certificate)
    with caplog.at_level(logging.WARNING):
        assert identity.current() is before
        assert identity.current() is before
    assert len(caplog.records) == 1, "it is said once"
    replace(own / KEY_FILE, new.key)
    assert identity.current() == new


def test_files_that_are_away_for_a_moment_change_nothing(own: Path) -> None:
    identity = Identity(own)
    before = identity.current()
    (own / KEY_FILE).rename(own / "away")
    assert identity.current() is before
    (own / "away").rename(own / KEY_FILE)
    assert identity.current() == before


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (("x.example",), "exactly one URI"),
        ((spiffe_id("a"), spiffe_id("b"), server_name("a")), "exactly one URI"),
        (("spiffe://other/training", server_name(TRAINING)), "exactly one URI"),
        ((spiffe_id(TRAINING),), r"not training\.champion-mesh as DNS name"),
        ((spiffe_id(TRAINING), server_name("envoy")), r"not training\.champion-mesh as DNS"),
    ],
)
def test_a_certificate_needs_both_names_of_one_part(
    tmp_path: Path, names: tuple[str, ...], why: str
) -> None:
    write_identity(tmp_path / "own", pems(tmp_path, *names))
    with pytest.raises(BadIdentity, match=why):
        Identity(tmp_path / "own")


@pytest.mark.parametrize("name", [CERTIFICATE_FILE, KEY_FILE, AUTHORITIES_FILE])
def test_what_is_missing_or_no_pem_is_named(own: Path, name: str) -> None:
    replace(own / name, b"nonsense")
    with pytest.raises(BadIdentity, match=f"{own} is no PEM"):
        Identity(own)
    (own / name).unlink()
    with pytest.raises(BadIdentity, match=f"{name} cannot be read"):
        Identity(own)


def test_the_parts_of_this_mesh_are_known_by_one_uri() -> None:
    assert part_of([spiffe_id(TRAINING)]) == TRAINING
    assert part_of([]) == ""
    assert part_of([spiffe_id("a"), spiffe_id("b")]) == ""
    assert part_of(["spiffe://champion-mesh.evil/envoy"]) == ""
    assert part_of(["https://champion-mesh/envoy"]) == ""


def test_the_folder_is_one_setting_of_all_services(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MESH_IDENTITY_FOLDER", str(tmp_path))
    assert ServiceSettings().identity_folder == tmp_path
    monkeypatch.setenv("MESH_IDENTITY_FOLDER", "")
    assert ServiceSettings().identity_folder is None
