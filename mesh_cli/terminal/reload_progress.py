"""Shows how far each replica is while a Reload or a Rollback runs."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from rich.status import Status
from rich.text import Text

from mesh.client import MeshClient
from mesh.errors import MeshError
from mesh.v1 import reload_pb2
from mesh_cli.terminal import output
from mesh_cli.terminal.plain_console import visible

POLL_S = 0.25

_SHOWN = {
    reload_pb2.MODEL_STATE_PREPARING: "",
    reload_pb2.MODEL_STATE_READY: "ready",
    reload_pb2.MODEL_STATE_FAILED: "failed",
}


@contextmanager
def showing(client: MeshClient, model: str) -> Iterator[None]:
    """Show the replicas' steps on standard error while the body runs."""
    done = threading.Event()
    with output.errors.status("preparing every replica") as status, ThreadPoolExecutor(1) as pool:
        shown = pool.submit(_follow, client.get_fleet, model, status, done)
        try:
            yield
        finally:
            done.set()
        shown.result()


def _follow(
    get_fleet: Callable[[], reload_pb2.Fleet], model: str, status: Status, done: threading.Event
) -> None:
    while not done.wait(POLL_S):
        try:
            status.update(Text(visible(line(get_fleet(), model))))
        except MeshError as error:
            # The Reload goes on by itself, and reports its own errors.
            status.update(Text(f"preparing every replica (state not known: {error.code.name})"))


def line(fleet: reload_pb2.Fleet, model: str) -> str:
    """The step at which each replica is that prepares a version of the model."""
    parts = []
    for replica in fleet.replicas:
        for slot in replica.models:
            if slot.name == model and slot.state in _SHOWN:
                word = _SHOWN[slot.state] or slot.step or "waits"
                parts.append(f"{replica.id}: {word}")
    return "preparing every replica: " + ", ".join(parts) if parts else "switching the fleet"
