"""`python -m service_kit.certificates FOLDER NAME…`: a certificate for Envoy; repeat to renew it.

The first call makes an authority in FOLDER; clients trust its ca.pem. Each call issues a new
certificate for the names and addresses, which Envoy takes without a restart.
"""

from pathlib import Path
from typing import Annotated

import typer

from service_kit.certificates.authority import AUTHORITY_FILE, CERTIFICATE_DAYS, Authority
from service_kit.certificates.certificate_files import write_pair


def main(
    folder: Annotated[Path, typer.Argument(help="Folder of the authority and the certificates.")],
    names: Annotated[list[str], typer.Argument(help="DNS names and IP addresses of the mesh.")],
    days: Annotated[
        float, typer.Option(min=0.01, help="Days for which the certificate is good.")
    ] = CERTIFICATE_DAYS,
) -> None:
    """Issue a certificate."""
    authority = Authority.in_folder(folder)
    secret = write_pair(folder, *authority.issue(names, days))
    typer.echo(f"Envoy reads {secret} (CONTROL_ENVOY_CERTIFICATE)")
    typer.echo(f"clients trust {folder / AUTHORITY_FILE} (MESH_CA)")


if __name__ == "__main__":
    typer.run(main)
