"""A certificate that somebody else renews: what is copied, and what is refused."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from service_kit.certificates.authority import Authority
from service_kit.door_certificates.current_pair import current_pair
from service_kit.door_certificates.given_certificate import MAX_BYTES, GivenCertificate


class Issuer:
    """Another authority, whose certificates lie in two files."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority.in_folder(folder / "elsewhere")
        self.given = GivenCertificate(folder / "c.pem", folder / "k.pem", folder / "given")

    def issue(self, days: float = 30) -> tuple[bytes, bytes]:
        chain, key = self.authority.issue(["mesh.example"], days)
        self.given.certificate.write_bytes(chain)
        self.given.key.write_bytes(key)
        return chain, key


@pytest.fixture
def issuer(tmp_path: Path) -> Issuer:
    return Issuer(tmp_path)


def test_it_is_copied_as_often_as_it_changes(issuer: Issuer) -> None:
    for _ in range(3):
        chain, key = issuer.issue()
        assert issuer.given.make()
        assert not issuer.given.make()
        pair = current_pair(issuer.given.folder)
        assert pair is not None
        assert (pair.chain, pair.key) == (chain, key)


def test_half_of_a_change_is_not_taken(issuer: Issuer) -> None:
    issuer.issue()
    issuer.given.make()
    before = current_pair(issuer.given.folder)
    _, old_key = issuer.given.certificate.read_bytes(), issuer.given.key.read_bytes()
    issuer.issue()
    new_key = issuer.given.key.read_bytes()
    issuer.given.key.write_bytes(old_key)
    with pytest.raises(ValueError, match="is not the key of the first one"):
        issuer.given.make()
    assert current_pair(issuer.given.folder) == before
    issuer.given.key.write_bytes(new_key)
    assert issuer.given.make()


def test_what_no_client_would_take_is_refused(issuer: Issuer) -> None:
    issuer.issue(days=-0.01)
    with pytest.raises(ValueError, match="ended on"):
        issuer.given.make()
    assert current_pair(issuer.given.folder) is None


@pytest.mark.parametrize("name", ["c.pem", "k.pem"])
@pytest.mark.parametrize("content", [b"", b"no PEM", b"-----BEGIN CERTIFICATE-----\n"])
def test_a_file_that_holds_something_else_is_refused(
    issuer: Issuer, tmp_path: Path, name: str, content: bytes
) -> None:
    issuer.issue()
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name} holds no (certificate|private key) as PEM"):
        issuer.given.make()


def test_a_file_without_end_is_refused(issuer: Issuer) -> None:
    issuer.issue()
    issuer.given.certificate.write_bytes(b"a" * (MAX_BYTES + 1))
    with pytest.raises(ValueError, match="is larger than"):
        issuer.given.make()


def test_a_key_with_a_password_is_refused(issuer: Issuer) -> None:
    _, key = issuer.issue()
    locked = serialization.load_pem_private_key(key, None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    issuer.given.key.write_bytes(locked)
    with pytest.raises(ValueError, match="has a password"):
        issuer.given.make()
