"""What many Reloads cost the traffic: `python -m bench.reloads MODEL` beside a mesh that is up.

Finds what the fleet can do (64 clients that wait for their answers), then sends an open loop at a
share of that, once undisturbed and once with a Reload every few seconds between the served and
the previous version. Printed: failed requests, p99 of both, each replica's memory on the way.
"""

import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Annotated

import psutil
import typer
from rich.console import Console
from rich.table import Table

from mesh.client import MeshClient
from mesh_cli.context import local_mesh
from mesh_cli.load import ClosedLoop, Event, LoadProcess, LoadResult, LoadSpec, OpenLoop, run_load
from mesh_cli.load.reloads import run_reloads, serving_version
from mesh_cli.load.texts import read_texts

SETTLE_S = 4.0

console = Console()


def resident_mib() -> dict[str, float]:
    """Memory of each local replica, MiB."""
    return {
        part.name: psutil.Process(part.pid).memory_info().rss / 2**20
        for part in local_mesh().statuses()
        if part.name.startswith("replica-") and part.pid
    }


def with_reloads(
    spec: LoadSpec, model: str, count: int, every_s: float, versions: list[str]
) -> tuple[LoadResult, list[Event], list[dict[str, float]]]:
    """Run the load with that many Reloads in it."""
    memory: list[dict[str, float]] = []
    events: list[Event] = []
    with MeshClient(spec.address) as client, LoadProcess(spec) as load:
        begin = load.begin()
        for number in range(count):
            moment = (number + 1) * every_s
            version = versions[number % len(versions)]
            events += run_reloads(client, model, begin, [moment], [version])
            # Answers on their way hold the old version for a second.
            time.sleep(SETTLE_S)
            memory.append(resident_mib())
        return load.result(), events, memory


def main(
    model: str,
    texts: Annotated[Path | None, typer.Option(help="A text a line, or a .csv.")] = None,
    reloads: Annotated[int, typer.Option(help="How many.")] = 30,
    every: Annotated[float, typer.Option(help="Seconds between two.")] = 10.0,
    share: Annotated[float, typer.Option(help="Load, as a share of what the fleet can do.")] = 0.5,
    rate: Annotated[float, typer.Option(help="Requests/s; 0: that share.")] = 0.0,
    protocol: Annotated[str, typer.Option(help="grpc or json.")] = "grpc",
) -> None:
    """Measure and print."""
    address = local_mesh().address
    with MeshClient(address) as client:
        serving = serving_version(client, model)
        found = next(item for item in client.get_fleet().models if item.name == model)
    other = found.previous_version
    lines = tuple(read_texts(texts))
    spec = LoadSpec(address, model, ClosedLoop(64), texts=lines, duration_s=45, warm_up_s=5)
    spec = replace(spec, protocol="json" if protocol == "json" else "grpc")
    capacity = run_load(spec).throughput()
    rate = rate or capacity * share
    console.print(f"capacity {capacity:.0f}/s with 64 clients; open loop at {rate:.0f}/s, Poisson")
    duration_s = (reloads + 1) * every
    calm = replace(spec, loop=OpenLoop(rate, "poisson", seed=1), warm_up_s=3)
    before = run_load(replace(calm, duration_s=min(duration_s, 60.0)))
    busy, events, memory = with_reloads(
        replace(calm, duration_s=duration_s), model, reloads, every, [other, serving]
    )
    if reloads % 2:
        with MeshClient(address) as client:
            client.reload(model, version=serving)
    _print(before, busy, events, memory)


def _print(
    before: LoadResult, busy: LoadResult, events: list[Event], memory: list[dict[str, float]]
) -> None:
    table = Table("", "requests", "failed", "p50 ms", "p99 ms", title="Reloads under load")
    p99 = []
    for name, result in (("undisturbed", before), ("with Reloads", busy)):
        summary = result.summary()
        latency = summary["latencyMs"]
        p99.append(latency["p99"])
        table.add_row(
            name,
            f"{summary['requests']:,}",
            str(summary["failed"]),
            *(f"{latency[quantile]:.1f}" for quantile in ("p50", "p99")),
        )
    console.print(table)
    taken = [event.end - event.begin for event in events]
    console.print(
        f"p99 with Reloads: {p99[1] / p99[0]:.2f} x; {len(events)} Reloads, "
        f"{sum(event.failed for event in events)} failed, {median(taken):.1f} s each"
    )
    if len(memory) > 10:
        for name, last in sorted(memory[-1].items()):
            tenth = memory[9][name]
            console.print(
                f"{name}: {tenth:.0f} MiB after the 10th Reload, {last:.0f} after the last "
                f"({last / tenth - 1:+.1%})"
            )


if __name__ == "__main__":
    typer.run(main)
