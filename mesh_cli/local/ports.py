"""Which internal ports a mesh has; checks that published ports are free, and chooses free ones."""

import random
import socket
from collections.abc import Iterable, Mapping
from ipaddress import ip_address

import psutil

from mesh_cli.errors import CliError

# Linux takes the ports of outgoing connections from 32768 up. A free port below that range is not
# taken by chance before its part listens.
_INTERNAL = range(20_000, 32_000)
REPLICA = "replica-"


def replica_names(count: int) -> list[str]:
    """Names of the inference replicas, the oldest first."""
    return [f"{REPLICA}{n}" for n in range(1, count + 1)]


def service_ports(services: Iterable[str]) -> list[str]:
    """Names of the internal ports of services.

    Every service has a port and one for metrics; a replica also has one for HTTP and one for the
    unary calls that Envoy sends it.
    """
    ports = []
    for name in services:
        ports += [name, f"{name}-metrics"]
        if name.startswith(REPLICA):
            ports += [f"{name}-http", f"{name}-unary"]
    return ports


def internal_names(replicas: int) -> list[str]:
    """Names of all internal ports."""
    services = (*replica_names(replicas), "training", "trigger", "control-plane")
    return ["postgres", *service_ports(services)]


def is_free(host: str, port: int) -> bool:
    """Whether this process could listen on that port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def require_free(host: str, published: Mapping[str, tuple[str, int]]) -> None:
    """Raise CliError for the first port that is in use or named twice.

    published: the name of each door with the variable and the number of its port.
    """
    seen: dict[int, str] = {}
    for name, (variable, port) in published.items():
        if port in seen:
            raise CliError(f"{name} and {seen[port]} would both use port {port}: set {variable}")
        seen[port] = name
        if not is_free(host, port):
            raise CliError(
                f"port {port} for {name} is in use by {_owner(port)}: "
                f"stop that, or set {variable} to a free port"
            )


def internal_ports(
    names: Iterable[str], kept: Mapping[str, int], taken: Iterable[int] = ()
) -> dict[str, int]:
    """A free loopback port for each name: its port in `kept`, while that is free, else another.

    taken: ports that are not chosen. Raises CliError when no port is free.
    """
    chosen: dict[str, int] = {}
    used = set(taken)
    for name in names:
        candidates = [kept[name]] if name in kept else []
        # Random, so that two meshes that start at the same moment try different ports.
        candidates += random.sample(_INTERNAL, 200)
        port = next((p for p in candidates if p not in used and is_free("127.0.0.1", p)), None)
        if port is None:
            raise CliError(
                f"no free port for {name} between {_INTERNAL.start} and {_INTERNAL.stop}"
            )
        chosen[name] = port
        used.add(port)
    return chosen


def _owner(port: int) -> str:
    try:
        for connection in psutil.net_connections("tcp"):
            local = connection.laddr
            if local and local.port == port and connection.status == psutil.CONN_LISTEN:
                if connection.pid is None:
                    break
                process = psutil.Process(connection.pid)
                return f"process {connection.pid} ({process.name()})"
    except psutil.Error:
        return "a process of another user"
    return "a process of another user"


def on_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens on a host, an IP address or a name."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
