"""The certificates of the port at which clients reach a mesh, and the folder that holds them."""

import socket
from dataclasses import dataclass
from pathlib import Path

from mesh_cli.errors import CliError
from service_kit.door_certificates.given_certificate import GivenCertificate
from service_kit.door_certificates.own_certificate import OwnCertificate

# By which clients on this machine always reach the mesh.
LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
AUTHORITY, SERVED = "authority", "served"
_EVERYWHERE = ("", "0.0.0.0", "::")  # noqa: S104


@dataclass(frozen=True)
class DoorCertificates:
    """The mesh's own certificate, and the one that somebody has given, if so.

    The own one is always there: clients on this machine come by names such as localhost, for which
    no other authority gives certificates.
    """

    own: OwnCertificate
    given: GivenCertificate | None = None

    @property
    def ca(self) -> Path:
        """The file that clients on this machine trust."""
        return self.own.ca

    @property
    def naming_files(self) -> str:
        """The files that Envoy reads, separated by commas."""
        given = [self.given.naming_file] if self.given else []
        return ",".join(map(str, [self.own.naming_file, *given]))

    def make(self) -> tuple[bool, bool]:
        """Make and copy what is missing or ends soon. Raises CliError.

        Returns whether the own one was made, and whether the given one was copied.
        """
        try:
            return self.own.make(), self.given is not None and self.given.make()
        except OSError as error:
            raise CliError(
                f"{error.filename} cannot be read and written ({error.strerror})"
            ) from error
        except ValueError as error:
            raise CliError(f"the certificate cannot be used: {error}") from error


def door_certificates(
    folder: Path,
    names: tuple[str, ...],
    certificate: Path | None = None,
    key: Path | None = None,
    seen_at: Path | None = None,
) -> DoorCertificates:
    """Describe the certificates that are kept in a folder.

    Envoy needs its subfolder `served` and no other. names: of the mesh, for its own certificate.
    certificate, key: files of a given one. seen_at: the path at which Envoy has that subfolder.
    Raises CliError when a given one is half named.
    """
    if (certificate is None) != (key is None):
        raise CliError("MESH_CERTIFICATE and MESH_KEY go together: set both, or neither")
    inside = {name: seen_at / name if seen_at else None for name in ("own", "given")}
    served = folder / SERVED
    own = OwnCertificate(folder / AUTHORITY, served / "own", names, inside["own"])
    if certificate is None or key is None:
        return DoorCertificates(own)
    return DoorCertificates(
        own, GivenCertificate(certificate, key, served / "given", inside["given"])
    )


def names_of(host: str, more: str) -> tuple[str, ...]:
    """The names in the mesh's own certificate.

    They are those of this machine, the address on which the mesh is published, and `more`, a list
    separated by commas.
    """
    address = host.strip("[]")
    listed = (part.strip() for part in more.split(","))
    published = () if address in _EVERYWHERE else (address,)
    found = (*LOCAL_NAMES, socket.gethostname(), *published, *listed)
    return tuple(dict.fromkeys(name for name in found if name))
