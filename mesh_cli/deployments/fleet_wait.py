"""Waits until the fleet has the replicas that a verb is to bring about."""

import time
from collections.abc import Callable

from mesh.errors import MeshError
from mesh.v1 import reload_pb2
from mesh_cli.errors import CliError, NotUp

# A new replica imports torch and loads every model, while traffic uses the same cores.
ELIGIBLE_TIMEOUT_S = 180.0
GONE_TIMEOUT_S = 30.0
POLL_S = 0.2

# Fetches the fleet from the control plane. Raises MeshError.
GetFleet = Callable[[], reload_pb2.Fleet]
# Says what is still missing in a fleet; an empty text when nothing is.
Missing = Callable[[reload_pb2.Fleet], str]


def await_fleet(
    get_fleet: GetFleet, missing: Missing, timeout_s: float, failure: str, is_up: Callable[[], bool]
) -> None:
    """Fetch the fleet until `missing` returns an empty text.

    Raises NotUp when the mesh is stopped meanwhile; after `timeout_s` CliError, with `failure`.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            problem = missing(get_fleet())
        except MeshError as error:
            if not is_up():
                raise NotUp("the mesh was stopped while it was being scaled") from None
            problem = str(error)
        if not problem:
            return
        if time.monotonic() > deadline:
            raise CliError(f"{failure} after {timeout_s:.0f} s: {problem}")
        time.sleep(POLL_S)
