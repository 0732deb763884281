"""The verb `mesh canary`: starts a canary, shows it live, or stops it."""

import time
from typing import Annotated

import typer
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mesh.client import MeshClient
from mesh.v1 import reload_pb2
from mesh_cli.errors import EXIT_FAILED, EXIT_PAUSED, EXIT_ROLLED_BACK, BadInput
from mesh_cli.terminal import output
from mesh_cli.terminal.durations import seconds
from mesh_cli.terminal.output import Json, console
from mesh_cli.terminal.plain_console import visible
from mesh_cli.terminal.training_progress import patiently
from mesh_cli.verbs import context
from mesh_cli.verbs.arguments import Model

POLL_S = 0.5

_EXIT = {
    reload_pb2.CANARY_STATE_PROMOTED: 0,
    reload_pb2.CANARY_STATE_ROLLED_BACK: EXIT_ROLLED_BACK,
    reload_pb2.CANARY_STATE_PAUSED: EXIT_PAUSED,
}
# Units of --every; a number without a unit is in seconds.
STEP_UNITS = ("", "s", "m", "h")


def register(app: typer.Typer) -> None:
    """Add the verb to the command."""
    app.command()(canary)


def canary(
    model: Model,
    steps: Annotated[
        str, typer.Option(help="Shares of the Challenger, percent, one after another.")
    ] = "5,25,50",
    every: Annotated[str, typer.Option(help="How long a step lasts: 30s, 5m, 1h.")] = "30s",
    mirror: Annotated[
        int, typer.Option(help="Percentage of requests that both answer.", min=0, max=100)
    ] = 10,
    stop: Annotated[bool, typer.Option("--stop", help="End the canary of the model.")] = False,
    json: Json = False,
) -> None:
    """Give the Challenger a growing share of the traffic; promote it or roll it back by itself.

    Exit codes: 0 promoted, 4 rolled back, 5 paused. Leaving it by Ctrl-C leaves the canary running.

    Example: `mesh canary reviews --steps 5,25,50 --every 30s`
    """
    shares, step_seconds = parse_steps(steps), seconds(every, "--every", STEP_UNITS)
    with context.client() as client:
        if stop:
            current = client.stop_canary(model)
        else:
            current = client.start_canary(
                model, steps=shares, step_seconds=step_seconds, mirror_percent=mirror
            )
            current = follow(client, current)
    if json:
        output.print_json(current)
    else:
        console.print(view(current))
    if not stop:
        raise typer.Exit(_EXIT.get(current.state, EXIT_FAILED))


def parse_steps(text: str) -> list[int]:
    """Read `5,25,50`. Raises BadInput. The control plane checks the numbers."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise BadInput(f"--steps is {text!r}; write percentages, for example 5,25,50") from None


def follow(client: MeshClient, current: reload_pb2.Canary) -> reload_pb2.Canary:
    """Show a canary on standard error until it ends; returns it as it ended."""
    with Live(view(current), console=output.errors, transient=True, auto_refresh=False) as live:
        while current.state == reload_pb2.CANARY_STATE_RUNNING:
            time.sleep(POLL_S)
            current = patiently(client.get_canary, current.model)
            live.update(view(current), refresh=True)
    return current


def view(current: reload_pb2.Canary) -> Group:
    """A canary as text and a table of both versions."""
    state = reload_pb2.CanaryState.Name(current.state).removeprefix("CANARY_STATE_").lower()
    shares = Text(" → ").join(
        Text(f"{share} %", "bold" if step == current.step else "")
        for step, share in enumerate(current.steps)
    )
    head = Text(
        f"{current.model}: version {current.version} against version {current.champion_version}: "
        f"{state.replace('_', ' ')}, {current.challenger_weight} % now ("
    )
    parts: list[Text | Table] = [head.append_text(shares).append(")")]
    if current.HasField("comparison"):
        parts.append(_sides(current.comparison))
    return Group(*parts, Text(visible(current.reason)))


def _sides(seen: reload_pb2.CanaryComparison) -> Table:
    table = Table()
    for column in ("in this step", "answered", "failed", "p50 ms", "p99 ms", "labels"):
        table.add_column(column)
    for name, side in (("Champion", seen.champion), ("Challenger", seen.challenger)):
        labels = ", ".join(f"{label} {count}" for label, count in sorted(side.labels.items()))
        table.add_row(
            name,
            f"{side.answered:,}",
            f"{side.failed:,}",
            f"{side.p50_ms:.1f}",
            f"{side.p99_ms:.1f}",
            labels,
        )
    return table
