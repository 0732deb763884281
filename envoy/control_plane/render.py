"""`python -m control_plane.render`: writes the file that Envoy starts from."""

import os
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from control_plane.access.rules import AccessRules, TokenState
from control_plane.topology import (
    ADMIN_HOST,
    DEFAULT_ADMIN_PORT,
    DEFAULT_HOST,
    DEFAULT_NODE_ID,
    DEFAULT_PORT,
    Address,
    MeshTopology,
)
from control_plane.xds import build_snapshot
from control_plane.xds.bootstrap import bootstrap, dynamic_bootstrap
from control_plane.xds.clusters.part_tls import naming_files


def address(text: str) -> Address:
    """Read an address option. Raises typer.BadParameter."""
    try:
        return Address.parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that no reader sees it half written."""
    with tempfile.NamedTemporaryFile(
        dir=path.parent, prefix=f".{path.name}.", delete=False
    ) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    Path(file.name).chmod(0o644)
    Path(file.name).replace(path)


One = Annotated[Address, typer.Option(parser=address, metavar="HOST:PORT")]
Many = Annotated[list[Address], typer.Option(parser=address, metavar="HOST:PORT")]


app = typer.Typer(add_completion=False)


Out = Annotated[Path, typer.Option(help="File to write, a .pb that Envoy reads.")]
AdminPort = Annotated[int, typer.Option(min=1, max=65535)]
NodeId = Annotated[str, typer.Option(help="Name of this Envoy.")]


@app.command()
def dynamic(
    control_plane: One,
    out: Out,
    admin_port: AdminPort = DEFAULT_ADMIN_PORT,
    node_id: NodeId = DEFAULT_NODE_ID,
    identity: Annotated[
        str,
        typer.Option(
            metavar="FOLDER",
            help="Where Envoy finds cert.pem, key.pem and ca.pem, with which it and the parts"
            " prove to each other who they are; without it they speak in plain text.",
        ),
    ] = "",
    seen_in: Annotated[
        str,
        typer.Option(
            metavar="FOLDER", help="Where Envoy finds the folder of --out; the same without it."
        ),
    ] = "",
) -> None:
    """Write the bootstrap of an Envoy that gets everything from the control plane.

    With --identity, two files beside it name the certificate; CONTROL_ENVOY_IDENTITY is their
    folder, as Envoy finds it.
    """
    naming_folder = ""
    if identity:
        naming_folder = seen_in or str(out.parent.absolute())
        for name, content in naming_files(identity).items():
            write_atomically(out.parent / name, content)
    admin = Address(ADMIN_HOST, admin_port)
    write_atomically(out, dynamic_bootstrap(control_plane, admin, node_id, identity=naming_folder))


@app.command()
def static(
    replica: Many,
    training: One,
    trigger: One,
    control_plane: One,
    out: Out,
    replica_http: Annotated[
        list[Address] | None,
        typer.Option(
            parser=address,
            metavar="HOST:PORT",
            help="HTTP address of a replica, for the Open Inference Protocol at /v2/.",
        ),
    ] = None,
    replica_unary: Annotated[
        list[Address] | None,
        typer.Option(
            parser=address,
            metavar="HOST:PORT",
            help="Where a replica takes unary calls over HTTP/1.1: for each replica or for none.",
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="IP address to listen on.")] = DEFAULT_HOST,
    port: Annotated[int, typer.Option(min=1, max=65535)] = DEFAULT_PORT,
    admin_port: AdminPort = DEFAULT_ADMIN_PORT,
    node_id: NodeId = DEFAULT_NODE_ID,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(help="Origin whose pages may call from a browser; * for every origin."),
    ] = None,
    token_keys: Annotated[
        Path | None,
        typer.Option(
            help="File with the public keys of tokens, a JWKS. With it every call but predictions"
            " needs a token; without it anybody may call everything."
        ),
    ] = None,
) -> None:
    """Write a whole configuration for replicas that never change, without a control plane."""
    try:
        topology = MeshTopology(
            replicas=tuple(replica),
            training=training,
            trigger=trigger,
            control_plane=control_plane,
            replicas_http=tuple(replica_http or ()),
            replicas_unary=tuple(replica_unary or ()),
            host=host,
            port=port,
            admin_port=admin_port,
            node_id=node_id,
            allowed_origins=tuple(allow_origin or ()),
            access=AccessRules(open_predict=True) if token_keys else None,
        )
        tokens = TokenState(token_keys.read_text()) if token_keys else None
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    write_atomically(
        out, bootstrap(build_snapshot(topology, tokens), topology.limits.max_connections)
    )


if __name__ == "__main__":
    app()
