"""Who gets a certificate, when, and how one authority follows another."""

from pathlib import Path

import pytest
import typer
from cryptography import x509
from typer.testing import CliRunner

from service_kit.certificates.authority import Authority
from service_kit.identities.__main__ import main
from service_kit.identities.identity import Identity, Pems
from service_kit.identities.issuing import Issuer
from service_kit.identities.names import ENVOY, PARTS, TRAINING


def certificate(folder: Path, part: str = ENVOY) -> x509.Certificate:
    return x509.load_pem_x509_certificates(held(folder, part).certificate)[0]


def held(folder: Path, part: str = ENVOY) -> Pems:
    return Identity(folder / part).current()


def trusted(folder: Path, part: str = ENVOY) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(held(folder, part).authorities)


def test_each_part_gets_one_that_is_kept_while_it_is_young(tmp_path: Path) -> None:
    assert Issuer(tmp_path).renew() == dict.fromkeys(PARTS, "made")
    assert Issuer(tmp_path).renew() == dict.fromkeys(PARTS, "kept")
    assert Issuer(tmp_path).renew(now=True) == dict.fromkeys(PARTS, "replaced")


def test_it_is_renewed_when_half_of_its_life_is_over(tmp_path: Path) -> None:
    # A certificate begins an hour ago, so half of the life of one that ends in an hour is over.
    Issuer(tmp_path, 0.9 / 24).renew()
    first = certificate(tmp_path)
    assert Issuer(tmp_path).renew() == dict.fromkeys(PARTS, "replaced")
    assert certificate(tmp_path).serial_number != first.serial_number


def test_one_that_cannot_be_read_is_made_anew(tmp_path: Path) -> None:
    Issuer(tmp_path).renew()
    (tmp_path / TRAINING / "key.pem").unlink()
    assert Issuer(tmp_path).renew() == {**dict.fromkeys(PARTS, "kept"), TRAINING: "made"}


def test_both_ends_of_a_connection_can_show_it(tmp_path: Path) -> None:
    Issuer(tmp_path).renew()
    usages = certificate(tmp_path).extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert {usage._name for usage in usages} == {"serverAuth", "clientAuth"}


def test_another_authority_is_trusted_everywhere_before_anybody_shows_it(tmp_path: Path) -> None:
    issuer = Issuer(tmp_path)
    issuer.renew()
    [old] = trusted(tmp_path)
    shown = held(tmp_path).certificate
    issuer.begin_new_authority()
    assert issuer.renew() == dict.fromkeys(PARTS, "replaced")
    new, previous = trusted(tmp_path)
    assert (previous, held(tmp_path).certificate) == (old, shown)
    with pytest.raises(ValueError, match="envoy still has a certificate of the previous"):
        issuer.forget_previous_authority()
    assert Issuer(tmp_path).renew() == dict.fromkeys(PARTS, "replaced")
    certificate(tmp_path).verify_directly_issued_by(new)
    again = Issuer(tmp_path)
    again.forget_previous_authority()
    assert again.renew() == dict.fromkeys(PARTS, "replaced")
    assert trusted(tmp_path) == [new]
    assert again.renew() == dict.fromkeys(PARTS, "kept")


def run(*arguments: str) -> tuple[int, str]:
    app = typer.Typer()
    app.command()(main)
    result = CliRunner().invoke(app, arguments)
    return result.exit_code, result.output


def test_the_command_says_what_became_of_each(tmp_path: Path) -> None:
    folder = str(tmp_path)
    assert run(folder) == (0, "".join(f"{tmp_path / part}: made\n" for part in PARTS))
    assert run(folder)[1].count(": kept\n") == len(PARTS)
    assert run(folder, "--new-authority")[1].count(": replaced\n") == len(PARTS)
    code, output = run(folder, "--forget-previous")
    assert (code, "still has a certificate" in output) == (1, True)
    assert run(folder)[0] == 0
    assert run(folder, "--forget-previous")[1].count(": replaced\n") == len(PARTS)
    assert len(trusted(tmp_path)) == 1
    assert isinstance(Authority.in_folder(tmp_path / "authority"), Authority)
