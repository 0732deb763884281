"""Waits until the fleet is what a verb asked for."""

import time
from collections.abc import Callable

from mesh.errors import MeshError
from mesh.v1 import reload_pb2
from mesh_cli.errors import CliError, NotUp

# Importing torch and loading every model, beside traffic.
ELIGIBLE_TIMEOUT_S = 180.0
GONE_TIMEOUT_S = 30.0
POLL_S = 0.2

# Asks the control plane. Raises MeshError.
GetFleet = Callable[[], reload_pb2.Fleet]
# What is still missing in a fleet; empty: nothing.
Look = Callable[[reload_pb2.Fleet], str]


def await_fleet(
    get_fleet: GetFleet, look: Look, timeout_s: float, failure: str, is_up: Callable[[], bool]
) -> None:
    """Ask for the fleet until `look` finds nothing that is missing.

    Raises NotUp when the mesh is stopped meanwhile, CliError with `failure` after `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            problem = look(get_fleet())
        except MeshError as error:
            if not is_up():
                raise NotUp("the mesh was stopped while it was being scaled") from None
            problem = str(error)
        if not problem:
            return
        if time.monotonic() > deadline:
            raise CliError(f"{failure} after {timeout_s:.0f} s: {problem}")
        time.sleep(POLL_S)
