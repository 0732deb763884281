"""The replicas under other loads than 64 waiting clients: `python -m bench.loads`

Many texts a request, one client, an open loop at 70 % of the rate that 64 clients reach, and mixed
lengths: each beside the engine alone on the same texts, in alternating rounds.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from bench.kit.fleet import Fleet, running_fleet
from bench.kit.model import BUILD, MODEL, model_folder
from bench.kit.offline_engines import OfflineEngines
from bench.kit.results import Section, record
from bench.kit.server_process import end_as_by_control_c
from bench.limit import BATCH_TEXTS, MOST_TEXTS, Model, Save, Texts, served_engine
from mesh_cli.load import ClosedLoop, LoadResult, LoadSpec, OpenLoop, run_load
from mesh_cli.load.plan.texts import read_texts

WARM_UP_S = 4.0
LIMIT_S = 3.0
CLIENTS = 64
BULK_TEXTS = 64
BULK_CLIENTS = 8
OPEN_SHARE = 0.7
SHORT_WORDS, LONG_WORDS = 5, 120

console = Console()
Rounds = dict[str, list[float]]


@dataclass(frozen=True)
class Line:
    """One row: the names of a figure and of the one beside it, and the wanted ratio."""

    name: str
    measured: str
    beside: str
    wanted: str
    """The wanted ratio of `measured` to `beside`, for example `>= 0.92`."""
    unit: str


LINES = (
    Line("bulk, 64 texts a request, gRPC", "bulk", "limit", ">= 0.92", "texts/s"),
    Line("one client, JSON", "one p50", "alone p50", "<= 1.3 + 1 ms", "ms"),
    Line("one client, gRPC", "one grpc p50", "alone p50", "<= 1.3 + 1 ms", "ms"),
    Line("open loop at 70 %, p99", "open p99", "alone p99", "<= 4", "ms"),
    Line("half 5 words, half 120, JSON", "mixed", "mixed limit", ">= 0.8", "texts/s"),
)


def mixed_lengths(texts: Sequence[str], count: int) -> list[str]:
    """Texts of SHORT_WORDS and of LONG_WORDS words in turn, made of the words of `texts`."""
    words = cycle(" ".join(texts).split())
    sizes = islice(cycle((SHORT_WORDS, LONG_WORDS)), count)
    return [" ".join(islice(words, size)) for size in sizes]


def serve(fleet: Fleet, texts: Sequence[str], mixed: Sequence[str], seconds: float) -> Rounds:
    """One round of the replicas."""
    json = LoadSpec(
        address=fleet.address,
        model=MODEL,
        loop=ClosedLoop(CLIENTS),
        texts=tuple(texts),
        protocol="json",
        duration_s=seconds,
        warm_up_s=WARM_UP_S,
    )
    grpc = replace(json, protocol="grpc")
    full = run_load(json)
    bulk = run_load(replace(grpc, texts_per_request=BULK_TEXTS, loop=ClosedLoop(BULK_CLIENTS)))
    one = run_load(replace(json, loop=ClosedLoop(1)))
    one_grpc = run_load(replace(grpc, loop=ClosedLoop(1)))
    rate = OPEN_SHARE * full.throughput()
    steady = run_load(replace(json, loop=OpenLoop(rate, "poisson", seed=1)))
    before = _padding(fleet)
    long = run_load(replace(json, texts=tuple(mixed)))
    waste, batches = (after - was for after, was in zip(_padding(fleet), before, strict=True))
    results = (full, bulk, one, one_grpc, steady, long)
    return {
        "bulk": [bulk.throughput() * BULK_TEXTS],
        "one p50": [_latency(one, 50)],
        "one grpc p50": [_latency(one_grpc, 50)],
        "open p99": [_latency(steady, 99)],
        "open rate": [rate],
        "mixed": [long.throughput()],
        "pad waste": [waste / max(batches, 1)],
        "failed": [float(sum(sum(result.errors().values()) for result in results))],
    }


def _padding(fleet: Fleet) -> tuple[float, float]:
    name = "mesh_batch_pad_waste"
    return fleet.metric(f"{name}_sum"), fleet.metric(f"{name}_count")


def _latency(result: LoadResult, percentile: int) -> float:
    return float(np.percentile(result.latencies(), percentile)) * 1e3


def alone(engines: OfflineEngines, mixed: OfflineEngines) -> Rounds:
    """One round of the engine alone."""
    p50, p99 = np.percentile(engines.latencies(LIMIT_S), [50, 99]) * 1e3
    return {
        "limit": [max(engines.throughput(size, LIMIT_S) for size in BATCH_TEXTS)],
        "mixed limit": [max(mixed.throughput(size, LIMIT_S) for size in BATCH_TEXTS)],
        "alone p50": [float(p50)],
        "alone p99": [float(p99)],
    }


def section(rounds: Rounds, texts: int) -> Section:
    """The medians as a table."""
    medians = {name: median(values) for name, values in rounds.items()}
    rows = tuple(
        (
            line.name,
            f"{medians[line.measured]:,.1f} {line.unit}",
            f"{line.beside}: {medians[line.beside]:,.1f}",
            f"{medians[line.measured] / medians[line.beside]:.2f}",
            line.wanted,
        )
        for line in LINES
    )
    return Section(
        title="Served under other loads",
        command="python -m bench.loads",
        columns=("", "measured", "beside it, the engine alone", "ratio", "wanted"),
        rows=rows,
        notes=(
            f"{len(rounds['limit'])} rounds, {texts:,} distinct texts; failed requests in all: "
            f"{sum(rounds['failed']):.0f}.",
            f"Open loop: Poisson, {medians['open rate']:.0f}/s. Mixed lengths: pad waste "
            f"{medians['pad waste']:.1%} (wanted: at most 10 %).",
        ),
        data=dict(rounds),
    )


def main(
    texts: Texts = None,
    model: Model = "",
    rounds: Annotated[int, typer.Option(min=1)] = 2,
    seconds: Annotated[
        float, typer.Option(help="Seconds of one load, after its warm-up.", min=1)
    ] = 8.0,
    save: Save = True,
) -> None:
    """Measure and print."""
    lines = read_texts(texts)[:MOST_TEXTS]
    mixed = mixed_lengths(lines, len(lines))
    folder: Path = model_folder(model)
    end_as_by_control_c()
    measured: Rounds = defaultdict(list)
    with (
        Console(stderr=True).status("") as status,
        OfflineEngines(folder, served_engine(), lines) as engines,
        OfflineEngines(folder, served_engine(), mixed) as of_mixed,
    ):
        for number in range(1, rounds + 1):
            status.update(f"round {number} of {rounds}: the engine alone")
            parts = [alone(engines, of_mixed)]
            status.update(f"round {number} of {rounds}: the replicas")
            with running_fleet(BUILD / "loads", folder) as fleet:
                parts.append(serve(fleet, lines, mixed, seconds))
            for part in parts:
                for name, values in part.items():
                    measured[name] += values
    result = section(measured, len(lines))
    result.show(console)
    if save:
        record("loads", result)


if __name__ == "__main__":
    typer.run(main)
