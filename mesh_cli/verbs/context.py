"""Which mesh a verb speaks to: local processes, containers, or the address MESH_ADDRESS."""

import os
from contextvars import ContextVar

import grpc

from mesh._shared.authorization import token_or_default
from mesh._shared.calls import target, trusted_certificates
from mesh._sync.transport import Channel
from mesh.client import MeshClient
from mesh_cli.compose.compose_deployment import ComposeDeployment
from mesh_cli.compose.engine import Engine
from mesh_cli.deployments.deployment import Deployment
from mesh_cli.errors import BadInput, NotUp
from mesh_cli.local.home import MeshSettings, compose_folder
from mesh_cli.local.local_deployment import LocalDeployment
from mesh_cli.local.local_mesh import LocalMesh
from mesh_cli.local.ports import on_loopback

LOCAL, COMPOSE = "local", "compose"

_chosen: ContextVar[str] = ContextVar("context", default=LOCAL)
_given: ContextVar[str | None] = ContextVar("token", default=None)


def choose(name: str) -> None:
    """Make `local` or `compose` the mesh of all verbs from now on. Raises BadInput."""
    if name not in (LOCAL, COMPOSE):
        raise BadInput(f"--context is {LOCAL} or {COMPOSE}, not {name!r}")
    _chosen.set(name)


def chosen() -> str:
    """Name of the chosen mesh, `local` or `compose`."""
    return _chosen.get()


def give_token(token: str | None) -> None:
    """Send this token from now on; None: the one that `token` finds."""
    _given.set(token)


def deployment() -> Deployment:
    """The chosen mesh, whether it is up or not."""
    if chosen() == COMPOSE:
        return compose_deployment()
    return LocalDeployment(local_mesh())


def compose_deployment() -> ComposeDeployment:
    """The mesh in containers."""
    return ComposeDeployment(Engine(compose_folder()))


def local_mesh() -> LocalMesh:
    """The mesh in MESH_HOME."""
    return LocalMesh(MeshSettings())


def address() -> str:
    """MESH_ADDRESS, else the address of the chosen mesh. Raises NotUp when that is not up."""
    return os.environ.get("MESH_ADDRESS") or deployment().address


def client() -> MeshClient:
    """A client of the mesh at `address()`. Raises NotUp."""
    return client_of(address())


def client_of(mesh: str, channel: Channel | None = None) -> MeshClient:
    """A client of the mesh at an address, or over a channel to it, with the caller's token."""
    return MeshClient(mesh, channel=channel, token=token(mesh), ca=ca(mesh))


def bare_channel(mesh: str) -> Channel:
    """A channel to the mesh at an address that sends no call a second time."""
    host_port, secure = _target(mesh)
    if not secure:
        return grpc.insecure_channel(host_port)
    trusted = grpc.ssl_channel_credentials(trusted_certificates(ca(mesh)))
    return grpc.secure_channel(host_port, trusted)


def has_tls(mesh: str) -> bool:
    """Whether an address is one with TLS. Raises BadInput when it is no address of a mesh."""
    return _target(mesh)[1]


def ca(mesh: str) -> str | None:
    """The file of authorities to trust at an address; None: the usual ones, or no TLS.

    It is MESH_CA, else that of the chosen mesh, which is for that mesh only.
    """
    if not has_tls(mesh):
        return None
    if (given := os.environ.get("MESH_CA")) or not _is_here(mesh):
        return given
    try:
        found = deployment().ca
    except NotUp:
        return None
    return str(found) if found else None


def token(mesh: str) -> str:
    """The caller's token for the mesh at an address; empty: there is none.

    It is --token, MESH_TOKEN, the content of MESH_TOKEN_FILE, or the operator's token of the chosen
    mesh. The operator's token is for that mesh only: no other machine is sent it.
    """
    given = _given.get()
    try:
        found = token_or_default(given).text
    except ValueError as error:
        raise BadInput(str(error)) from None
    if found or given is not None or not _is_here(mesh):
        return found
    try:
        return deployment().tokens.operator
    except NotUp:
        return ""


def _is_here(mesh: str) -> bool:
    """Whether an address is one of this machine only."""
    return on_loopback(_target(mesh)[0].rpartition(":")[0])


def _target(mesh: str) -> tuple[str, bool]:
    try:
        return target(mesh)
    except ValueError as error:
        raise BadInput(str(error)) from None
