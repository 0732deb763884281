"""`python -m service_kit.door_certificates AUTHORITY FOLDER`: renews Envoy's certificates in time.

It looks once a minute, for as long as the mesh runs. Envoy takes a new certificate without a
restart, and open connections go on.
"""

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from service_kit.certificates.authority import CERTIFICATE_DAYS
from service_kit.door_certificates.given_certificate import GivenCertificate
from service_kit.door_certificates.own_certificate import OwnCertificate
from service_kit.logs import configure_logging

LOOK_S = 60.0
log = logging.getLogger(__name__)


class Renewal:
    """Looks at certificates again and again; a failure is logged when it is a new one."""

    def __init__(self, certificates: Sequence[OwnCertificate | GivenCertificate]) -> None:
        self._certificates = certificates
        self._failures: dict[int, str] = {}

    def look(self) -> None:
        """Renew what is due; what fails is tried again at the next look."""
        for number, certificate in enumerate(self._certificates):
            failure = ""
            try:
                if certificate.make():
                    log.info("Envoy has a new certificate: %s", certificate.naming_file)
            except (OSError, ValueError) as error:
                failure = str(error)
                if failure != self._failures.get(number):
                    log.error("The certificate is not renewed, the old one stays: %s", failure)
            self._failures[number] = failure

    def run(self, look_s: float, sleep: Callable[[float], None] = time.sleep) -> None:
        """Look for ever, `look_s` seconds apart."""
        while True:
            self.look()
            sleep(look_s)


def main(
    authority: Annotated[Path, typer.Argument(help="Folder of the authority and its key.")],
    folder: Annotated[Path, typer.Argument(help="Folder of the certificate for Envoy.")],
    given_certificate: Annotated[
        Path | None, typer.Option(help="PEM file of a certificate that somebody else renews.")
    ] = None,
    given_key: Annotated[Path | None, typer.Option(help="PEM file of its private key.")] = None,
    given_folder: Annotated[Path | None, typer.Option(help="Folder of its copy.")] = None,
    look_s: Annotated[float, typer.Option(min=0.01, help="Seconds between two looks.")] = LOOK_S,
    days: Annotated[
        float, typer.Option(min=0.0001, help="Days for which a new certificate is good.")
    ] = CERTIFICATE_DAYS,
) -> None:
    """Renew certificates until the process is ended."""
    configure_logging("certificates")
    certificates: list[OwnCertificate | GivenCertificate] = [
        OwnCertificate(authority, folder, days=days)
    ]
    if given_certificate and given_key and given_folder:
        certificates.append(GivenCertificate(given_certificate, given_key, given_folder))
    Renewal(certificates).run(look_s)


if __name__ == "__main__":
    typer.run(main)
