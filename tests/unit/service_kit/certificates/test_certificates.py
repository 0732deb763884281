"""A small authority, what it issues, and the files that it leaves."""

import json
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from service_kit.certificates.authority import (
    AUTHORITY_FILE,
    AUTHORITY_KEY_FILE,
    CERTIFICATE_DAYS,
    Authority,
)
from service_kit.certificates.certificate_files import CERTIFICATE_NAME, write_pair


def test_an_authority_is_made_once_and_read_again(tmp_path: Path) -> None:
    made, again = Authority.in_folder(tmp_path), Authority.in_folder(tmp_path)
    assert again.certificate == made.certificate
    assert again.key.private_numbers() == made.key.private_numbers()
    assert (tmp_path / AUTHORITY_FILE).read_bytes() == made.certificate_pem
    assert (tmp_path / AUTHORITY_KEY_FILE).stat().st_mode & 0o777 == 0o600


def test_a_certificate_names_each_host_once_and_is_signed_by_the_authority(tmp_path: Path) -> None:
    authority = Authority.in_folder(tmp_path)
    chain, key = authority.issue(["mesh.example", "10.0.0.7", "mesh.example"])
    certificate = x509.load_pem_x509_certificate(chain)
    certificate.verify_directly_issued_by(authority.certificate)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["mesh.example"]
    assert names.get_values_for_type(x509.IPAddress) == [IPv4Address("10.0.0.7")]
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    lasts = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert lasts.days == CERTIFICATE_DAYS
    private = serialization.load_pem_private_key(key, None)
    assert private.public_key() == certificate.public_key()


def test_a_certificate_without_a_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one name"):
        Authority.in_folder(tmp_path).issue([])


def test_the_secret_names_a_pair_that_belongs_together_and_old_pairs_go(tmp_path: Path) -> None:
    for number in range(4):
        secret = write_pair(tmp_path, b"chain %d" % number, b"key %d" % number)
        (resource,) = json.loads(secret.read_text())["resources"]
        assert resource["name"] == CERTIFICATE_NAME
        chain = Path(resource["tls_certificate"]["certificate_chain"]["filename"])
        key = Path(resource["tls_certificate"]["private_key"]["filename"])
        assert (chain.read_bytes(), key.read_bytes()) == (b"chain %d" % number, b"key %d" % number)
        assert key.stat().st_mode & 0o777 == 0o600
    assert len(list(tmp_path.glob("pair-*"))) == 2
