"""What an operator says about TLS on the command line."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from mesh_cli.errors import BadInput

Tls = Annotated[
    bool | None,
    typer.Option(
        "--tls/--no-tls",
        help="Clients come with TLS. Default: MESH_TLS, else as the mesh was started before.",
    ),
]
CertificateFile = Annotated[
    Path | None,
    typer.Option(
        "--certificate",
        help="PEM file of a certificate for clients, with its chain. Default: one is made.",
    ),
]
KeyFile = Annotated[
    Path | None, typer.Option("--key", help="PEM file of the private key of --certificate.")
]


@dataclass(frozen=True)
class TlsChoice:
    """None stands for what is not said."""

    on: bool | None = None
    certificate: Path | None = None
    key: Path | None = None


def chosen_tls(on: bool | None, certificate: Path | None, key: Path | None) -> TlsChoice:
    """The choice that these options make. Raises BadInput when they do not go together."""
    if (certificate is None) != (key is None):
        raise BadInput("--certificate and --key go together: give both, or neither")
    if certificate is None or key is None:
        return TlsChoice(on)
    if on is False:
        raise BadInput("--certificate goes without --no-tls")
    return TlsChoice(True, certificate.absolute(), key.absolute())
