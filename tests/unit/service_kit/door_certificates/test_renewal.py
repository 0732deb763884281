"""The process that renews certificates goes on whatever fails."""

import logging
from pathlib import Path

import pytest

from service_kit.certificates.authority import Authority
from service_kit.door_certificates.__main__ import Renewal
from service_kit.door_certificates.current_pair import current_pair
from service_kit.door_certificates.given_certificate import GivenCertificate
from service_kit.door_certificates.own_certificate import OwnCertificate


def test_a_failure_is_logged_once_and_ends_with_its_cause(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    own = OwnCertificate(tmp_path / "authority", tmp_path / "own", ("localhost",))
    given = GivenCertificate(tmp_path / "c.pem", tmp_path / "k.pem", tmp_path / "given")
    renewal = Renewal([given, own])
    for _ in range(3):
        renewal.look()
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]
    assert "c.pem" in caplog.text
    assert current_pair(own.folder) is not None, "one that fails keeps no other from its renewal"
    chain, key = Authority.in_folder(tmp_path / "elsewhere").issue(["mesh.example"])
    given.certificate.write_bytes(chain)
    given.key.write_bytes(key)
    renewal.look()
    assert caplog.records[-1].levelname == "INFO"
    given.certificate.unlink()
    renewal.look()
    assert caplog.records[-1].levelname == "ERROR", "the same failure counts again after a success"
    assert current_pair(given.folder) is not None


class Over(Exception):
    """Ends the loop of a test."""


def test_it_looks_again_after_the_same_time(tmp_path: Path) -> None:
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            raise Over

    own = OwnCertificate(tmp_path / "authority", tmp_path / "own", ("localhost",), days=0.01)
    with pytest.raises(Over):
        Renewal([own]).run(60.0, sleep)
    assert waits == [60.0] * 3
