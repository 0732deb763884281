"""When the mesh's own certificate is made anew, and when it stays."""

import datetime
import json
import shutil
from pathlib import Path

import pytest
from cryptography import x509

from service_kit.certificates.authority import AUTHORITY_FILE, Authority
from service_kit.door_certificates.current_pair import Pair, current_pair
from service_kit.door_certificates.own_certificate import OwnCertificate

DAY_S = 86_400
NAMES = ("localhost", "127.0.0.1", "::1", "mesh.example")


def own(folder: Path, names: tuple[str, ...] = NAMES, days_from_now: float = 0) -> OwnCertificate:
    now = datetime.datetime.now(datetime.UTC).timestamp() + days_from_now * DAY_S
    return OwnCertificate(folder / "authority", folder / "own", names, clock=lambda: now)


def pair_in(folder: Path) -> Pair:
    pair = current_pair(folder / "own")
    assert pair is not None
    return pair


def test_it_is_made_once_for_every_name_and_only_its_owner_reads_the_keys(tmp_path: Path) -> None:
    assert own(tmp_path).make()
    assert not own(tmp_path).make()
    pair = pair_in(tmp_path)
    assert pair.names == set(NAMES)
    pair.certificate.verify_directly_issued_by(
        Authority.in_folder(tmp_path / "authority").certificate
    )
    for path in tmp_path.rglob("*"):
        allowed = 0o700 if path.is_dir() else 0o600
        assert path.name == AUTHORITY_FILE or path.stat().st_mode & 0o777 == allowed, path


@pytest.mark.parametrize(("days", "is_new"), [(59, False), (61, True), (91, True), (3_000, True)])
def test_it_is_made_anew_when_a_third_of_its_life_is_left(
    tmp_path: Path, days: float, is_new: bool
) -> None:
    own(tmp_path).make()
    before = pair_in(tmp_path)
    assert own(tmp_path, days_from_now=days).make() is is_new
    assert (pair_in(tmp_path) != before) is is_new


def test_it_is_made_anew_for_a_new_name_and_stays_for_fewer(tmp_path: Path) -> None:
    own(tmp_path).make()
    assert not own(tmp_path, NAMES[:2]).make()
    assert own(tmp_path, (*NAMES, "shop.example")).make()
    assert "shop.example" in pair_in(tmp_path).names


def test_without_names_the_new_one_has_those_of_the_old_one(tmp_path: Path) -> None:
    own(tmp_path).make()
    assert own(tmp_path, (), days_from_now=80).make()
    assert pair_in(tmp_path).names == set(NAMES)
    with pytest.raises(ValueError, match="at least one name"):
        own(tmp_path / "empty", ()).make()


def test_it_is_made_anew_when_the_authority_is_another_one(tmp_path: Path) -> None:
    own(tmp_path).make()
    shutil.rmtree(tmp_path / "authority")
    assert own(tmp_path).make()
    pair_in(tmp_path).certificate.verify_directly_issued_by(
        x509.load_pem_x509_certificate((tmp_path / "authority" / AUTHORITY_FILE).read_bytes())
    )


@pytest.mark.parametrize("text", ["", "{", "[]", '{"resources": []}', '{"resources": [{}]}'])
def test_a_damaged_file_that_names_it_is_replaced(tmp_path: Path, text: str) -> None:
    own(tmp_path).make()
    own(tmp_path).naming_file.write_text(text)
    assert current_pair(tmp_path / "own") is None
    assert own(tmp_path).make()
    assert pair_in(tmp_path).names == set(NAMES)


def test_a_damaged_certificate_is_replaced(tmp_path: Path) -> None:
    own(tmp_path).make()
    [pem] = (tmp_path / "own").glob("pair-*/certificate.pem")
    pem.write_text("no certificate")
    assert own(tmp_path).make()


def test_envoy_may_have_the_folder_at_another_path(tmp_path: Path) -> None:
    made = OwnCertificate(
        tmp_path / "authority", tmp_path / "own", NAMES, Path("/run/mesh/tls/own")
    )
    assert made.make()
    assert str(made.naming_file) == "/run/mesh/tls/own/certificate.json"
    text = (tmp_path / "own" / "certificate.json").read_text()
    secret = json.loads(text)["resources"][0]["tls_certificate"]
    for source in secret.values():
        assert source["filename"].startswith("/run/mesh/tls/own/pair-")
    assert not made.make(), "the pair is found although the path is Envoy's"
