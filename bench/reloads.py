"""The cost of many Reloads for the traffic: `python -m bench.reloads MODEL` with a mesh that is up.

Each round measures the capacity of the fleet with 64 clients that wait for their answers, then an
open loop at a share of it without Reloads, then the same with a Reload every few seconds, between
the served and the previous version. A machine that others use is twice as fast in one minute as in
another, so a ratio is taken within a round, and the result is the median of the rounds. It prints
failed requests, both p99, and the memory of each replica.
"""

import itertools
import time
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Annotated

import psutil
import typer
from rich.console import Console
from rich.table import Table

from mesh.client import MeshClient
from mesh_cli.load import ClosedLoop, Event, LoadProcess, LoadResult, LoadSpec, OpenLoop, run_load
from mesh_cli.load.plan.texts import read_texts
from mesh_cli.load.reloads import run_reloads, serving_version
from mesh_cli.verbs.context import local_mesh

SETTLE_S = 4.0
CAPACITY_S = 20.0
CALM_S = 60.0
# Long enough to meet the small batches of an open loop: each new shape costs more the first time.
WARM_UP_S = 15.0

console = Console()


def resident_mib() -> dict[str, float]:
    """Memory of each local replica, MiB."""
    return {
        part.name: psutil.Process(part.pid).memory_info().rss / 2**20
        for part in local_mesh().statuses()
        if part.name.startswith("replica-") and part.pid
    }


@dataclass(frozen=True)
class Round:
    """One round: the same load without and with Reloads."""

    calm: LoadResult
    busy: LoadResult
    events: list[Event]
    memory: list[dict[str, float]]
    """MiB of each replica, SETTLE_S after each Reload."""

    @property
    def ratio(self) -> float:
        """p99 with Reloads divided by p99 without."""
        calm, busy = (run.summary()["latencyMs"]["p99"] for run in (self.calm, self.busy))
        return float(busy / calm)


def measure_round(
    spec: LoadSpec, rate: float, share: float, every_s: float, versions: list[str]
) -> Round:
    """Measure one round with a Reload to each of `versions` in turn."""
    capacity = run_load(spec).throughput()
    loop = OpenLoop(rate or capacity * share, "poisson", seed=1)
    console.print(f"capacity {capacity:.0f}/s with 64 clients; open loop at {loop.rate:.0f}/s")
    calm = replace(spec, loop=loop, warm_up_s=WARM_UP_S, duration_s=CALM_S)
    busy = replace(calm, warm_up_s=3, duration_s=(len(versions) + 1) * every_s)
    undisturbed = run_load(calm)
    return Round(undisturbed, *with_reloads(busy, every_s, versions))


def with_reloads(
    spec: LoadSpec, every_s: float, versions: list[str]
) -> tuple[LoadResult, list[Event], list[dict[str, float]]]:
    """Run the load with a Reload to each of `versions` in it."""
    memory: list[dict[str, float]] = []
    events: list[Event] = []
    with MeshClient(spec.address, token=spec.token) as client, LoadProcess(spec) as load:
        begin = load.begin()
        for number, version in enumerate(versions):
            moment = (number + 1) * every_s
            events += run_reloads(client, spec.model, begin, [moment], [version])
            # Calls in flight keep the old version in memory for a second.
            time.sleep(SETTLE_S)
            memory.append(resident_mib())
        return load.result(), events, memory


def main(
    model: str,
    texts: Annotated[Path | None, typer.Option(help="A text a line, or a .csv.")] = None,
    reloads: Annotated[int, typer.Option(help="Reloads in a round.")] = 10,
    rounds: Annotated[int, typer.Option(help="Number of rounds.")] = 3,
    every: Annotated[float, typer.Option(help="Seconds between two Reloads.")] = 10.0,
    share: Annotated[float, typer.Option(help="The load as a share of the capacity.")] = 0.5,
    rate: Annotated[
        float, typer.Option(help="Requests/s in place of the share; 0: the share.")
    ] = 0.0,
    protocol: Annotated[str, typer.Option(help="grpc or json.")] = "grpc",
) -> None:
    """Measure and print."""
    mesh = local_mesh()
    address, token = mesh.address, mesh.secrets.tokens.operator
    with MeshClient(address, token=token) as client:
        serving = serving_version(client, model)
        fleet_model = next(one for one in client.get_fleet().models if one.name == model)
        spec = LoadSpec(
            address, model, ClosedLoop(64), texts=tuple(read_texts(texts)), warm_up_s=5,
            token=token, duration_s=CAPACITY_S, protocol="json" if protocol == "json" else "grpc",
        )  # fmt: skip
        turns = itertools.cycle([fleet_model.previous_version, serving])
        measured = []
        for _ in range(rounds):
            versions = list(itertools.islice(turns, reloads))
            measured.append(measure_round(spec, rate, share, every, versions))
            _print_round(measured[-1])
        if serving_version(client, model) != serving:
            client.reload(model, version=serving)
    _print_result(measured)


def _print_round(one: Round) -> None:
    table = Table("", "requests", "failed", "p50 ms", "p99 ms", title="Reloads under load")
    for name, result in (("undisturbed", one.calm), ("with Reloads", one.busy)):
        summary = result.summary()
        latency = summary["latencyMs"]
        table.add_row(
            name,
            f"{summary['requests']:,}",
            str(summary["failed"]),
            *(f"{latency[quantile]:.1f}" for quantile in ("p50", "p99")),
        )
    console.print(table)
    console.print(f"p99 with Reloads: {one.ratio:.2f} x")


def _print_result(rounds: list[Round]) -> None:
    events = [event for one in rounds for event in one.events]
    requests = sum(one.busy.summary()["requests"] for one in rounds)
    failed = sum(one.busy.summary()["failed"] for one in rounds)
    console.print(
        f"{len(events)} Reloads, {sum(event.failed for event in events)} failed, "
        f"{median(event.end - event.begin for event in events):.1f} s each; "
        f"{failed} of {requests:,} requests failed"
    )
    ratios = sorted(one.ratio for one in rounds)
    console.print(
        f"p99 with Reloads: {median(ratios):.2f} x, median of {len(ratios)} rounds "
        f"({', '.join(f'{ratio:.2f}' for ratio in ratios)})"
    )
    memory = [after for one in rounds for after in one.memory]
    if len(memory) > 10:
        for name, last in sorted(memory[-1].items()):
            tenth = memory[9][name]
            console.print(
                f"{name}: {tenth:.0f} MiB after the 10th Reload, {last:.0f} after the last "
                f"({last / tenth - 1:+.1%})"
            )


if __name__ == "__main__":
    typer.run(main)
