"""Reloads in the middle of a load, as events for its result."""

import time
from collections.abc import Sequence

from mesh.client import MeshClient
from mesh.errors import MeshError
from mesh_cli.errors import CliError
from mesh_cli.load.results.result import Event


def reload_moments(at: Sequence[float], every: float | None, duration_s: float) -> list[float]:
    """Seconds after the begin at which to reload: those of `at` and each multiple of `every`."""
    moments = set(at)
    if every:
        moments |= {number * every for number in range(1, int(duration_s / every) + 1)}
    return sorted(moment for moment in moments if moment < duration_s)


def run_reloads(
    client: MeshClient, model: str, begin: float, seconds: Sequence[float], versions: Sequence[str]
) -> list[Event]:
    """Reload `seconds` after `begin` (time.monotonic()), to `versions` in turn.

    A Reload that fails is an event too. A Reload that takes too long delays the next one.
    """
    events = []
    for number, moment in enumerate(seconds):
        version = versions[number % len(versions)] if versions else ""
        time.sleep(max(0.0, begin + moment - time.monotonic()))
        started = time.monotonic()
        try:
            answer = client.reload(model, version=version)
        except MeshError as error:
            event = Event("reload", started, time.monotonic(), failed=True, detail=str(error))
        else:
            detail = f"{answer.from_version or 'none'} → {answer.to_version}"
            event = Event("reload", started, time.monotonic(), detail=detail)
        events.append(event)
    return events


def serving_version(client: MeshClient, model: str) -> str:
    """The version that the fleet serves. Raises CliError when it serves none."""
    for fleet_model in client.get_fleet().models:
        if fleet_model.name == model and fleet_model.serving_version:
            return fleet_model.serving_version
    raise CliError(f"the fleet serves no version of {model}: train one first")
