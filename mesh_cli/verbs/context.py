"""Which mesh a verb speaks to: local processes, containers, or the address MESH_ADDRESS."""

import os
from contextvars import ContextVar

from mesh._shared.authorization import token_or_default
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
    """MESH_ADDRESS, else host:port of the chosen mesh. Raises NotUp when that is not up."""
    return os.environ.get("MESH_ADDRESS") or deployment().address


def client() -> MeshClient:
    """A client of the mesh at `address()`. Raises NotUp."""
    return client_of(address())


def client_of(mesh: str, channel: Channel | None = None) -> MeshClient:
    """A client of the mesh at host:port, or over a channel to it, with the caller's token."""
    return MeshClient(mesh, channel=channel, token=token(mesh))


def token(mesh: str) -> str:
    """The caller's token for the mesh at host:port; empty: there is none.

    It is --token, MESH_TOKEN, the content of MESH_TOKEN_FILE, or the operator's token of the chosen
    mesh. The operator's token is for that mesh only: no other machine is sent it.
    """
    given = _given.get()
    try:
        found = token_or_default(given).text
    except ValueError as error:
        raise BadInput(str(error)) from None
    if found or given is not None or not on_loopback(mesh.rpartition(":")[0]):
        return found
    try:
        return deployment().tokens.operator
    except NotUp:
        return ""
