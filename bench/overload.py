"""The mesh under three times its capacity: `python -m bench.overload`

Two replicas behind Envoy. 64 clients that wait for their answers measure the capacity. Then an open
loop runs at half of it, and for a minute a second one raises the load to three times the capacity.
No call has a deadline except the generator's own of 10 s.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from bench.kit.fleet import Fleet, running_fleet
from bench.kit.load_figures import OtherProcesses
from bench.kit.model import BUILD, MODEL, model_folder
from bench.kit.results import Section, record
from bench.kit.server_process import end_as_by_control_c
from bench.limit import MOST_TEXTS, Model, Save, Texts
from mesh_cli.load import (
    ClosedLoop,
    LoadProcess,
    LoadSpec,
    OpenLoop,
    Request,
    run_load,
)
from mesh_cli.load.plan.texts import read_texts
from mesh_cli.load.wire.connection_pool import OK

CLIENTS = 64
WARM_UP_S = 4.0
CAPACITY_S = 12.0
# Seconds of the open loop at half of the capacity before the overload, and again after it.
CALM_S = 8.0
BASE_SHARE = 0.5
# The mesh has recovered when answers come within this many times the p99 before the overload.
RECOVERED = 2.0
STRETCH_S = 0.25
# The generator shares the cores of the servers: for three times the capacity with one text a
# request it would take as much CPU as a replica.
PER_REQUEST_HELP = "With more of them the load generator takes less of the cores."
EXHAUSTED = ("RESOURCE_EXHAUSTED", "HTTP 429")

console = Console()


@dataclass(frozen=True)
class Round:
    """One round. Times in milliseconds unless named `…_s`."""

    capacity: float
    """Answers a second with 64 clients, the mean of before and after the overload."""
    capacity_before: float
    """The capacity before the overload, which is a multiple of it."""
    capacity_p99: float
    offered: float
    """Requests a second in the overload."""
    goodput: float
    accepted_p50: float
    accepted_p99: float
    refused: int
    refused_p50: float
    refused_p99: float
    failed: int
    """Requests that were neither answered nor refused."""
    recovery_s: float
    """From the end of the overload until requests are answered as before it."""
    calm_p99: float
    """p99 at half of the capacity, before the overload."""
    lag_p99: float
    """p99 of the generator's own delay in the overload; every latency above contains it."""
    servers_cores: float
    generator_cores: float
    others_cores: float
    resident_mib: float
    """Envoy and the replicas, at the end of the overload."""


def run_round(fleet: Fleet, spec: LoadSpec, seconds: float, times: float) -> Round:
    """Measure capacity, then the overload between two calm stretches, then capacity again."""
    first = run_load(spec)
    capacity = first.throughput()
    base = replace(
        spec,
        loop=OpenLoop(BASE_SHARE * capacity, "poisson", seed=1),
        warm_up_s=CALM_S,
        duration_s=seconds + 2 * CALM_S,
    )
    more = replace(
        spec,
        loop=OpenLoop((times - BASE_SHARE) * capacity, "poisson", seed=2),
        warm_up_s=0.0,
        duration_s=seconds,
    )
    with LoadProcess(base) as steady:
        time.sleep(max(0.0, steady.begin() - time.monotonic()))
        with LoadProcess(more) as surge, OtherProcesses() as bystanders:
            begin, cpu = surge.begin(), _cpu_s(fleet)
            time.sleep(max(0.0, begin + seconds - time.monotonic()))
            cpu = _cpu_s(fleet) - cpu
            resident = sum(server.resident_mib() for server in fleet.servers)
            surged = surge.result()
        kept = steady.result()
    # Measured again, as the machine may have become slower or faster.
    again = run_load(spec)
    at_capacity = [one * 1e3 for one in (*first.latencies(), *again.latencies())]
    requests = [*kept.requests(), *surged.requests()]
    within = [one for one in requests if begin <= one.due < begin + seconds]
    answered = sum(
        one.code == OK and begin <= one.due + one.latency_s < begin + seconds for one in requests
    )
    good = _ms(one for one in within if one.code == OK)
    refused = _ms(one for one in within if one.code in EXHAUSTED)
    calm = _ms(one for one in kept.requests() if one.due < begin and one.code == OK)
    generator_cores = (surged.generator.cpu_s + kept.generator.cpu_s * 0.8) / seconds
    return Round(
        capacity=(capacity + again.throughput()) / 2,
        capacity_before=capacity,
        capacity_p99=_percentile(at_capacity, 99),
        offered=len(within) / seconds,
        goodput=answered / seconds,
        accepted_p50=_percentile(good, 50),
        accepted_p99=_percentile(good, 99),
        refused=len(refused),
        refused_p50=_percentile(refused, 50),
        refused_p99=_percentile(refused, 99),
        failed=len(within) - len(good) - len(refused),
        recovery_s=recovery_s(
            kept.requests(), begin + seconds, RECOVERED * _percentile(calm, 99) / 1e3
        ),
        calm_p99=_percentile(calm, 99),
        lag_p99=surged.generator.lag_p99_ms,
        servers_cores=cpu / seconds,
        generator_cores=generator_cores,
        others_cores=bystanders.cores(cpu + generator_cores * seconds),
        resident_mib=resident,
    )


def recovery_s(requests: Iterable[Request], end: float, limit_s: float) -> float:
    """Seconds from `end` to the first stretch that, like all after it, is as before the overload.

    A stretch lasts STRETCH_S. It is as before when at most one request in twenty, or a single one,
    was refused or answered later than `limit_s`.
    """
    stretches: dict[int, list[bool]] = {}
    for one in requests:
        if one.due >= end:
            bad = one.code != OK or one.latency_s > limit_s
            stretches.setdefault(int((one.due - end) / STRETCH_S), []).append(bad)
    bad_stretches = [
        number for number, bad in stretches.items() if sum(bad) > max(1, len(bad) / 20)
    ]
    return (max(bad_stretches, default=-1) + 1) * STRETCH_S


def _ms(requests: Iterable[Request]) -> list[float]:
    return [one.latency_s * 1e3 for one in requests]


def _percentile(values: Sequence[float], percentile: int) -> float:
    return float(np.percentile(values, percentile)) if values else 0.0


def _cpu_s(fleet: Fleet) -> float:
    return sum(server.cpu_s() for server in fleet.servers)


def section(
    rounds: Sequence[Round], texts: int, texts_a_request: int, seconds: float, times: float
) -> Section:
    """The medians as a table."""

    def of(name: str) -> float:
        return float(median(getattr(one, name) for one in rounds))

    p99 = median(one.accepted_p99 / one.capacity_p99 for one in rounds)
    goodput = median(one.goodput / one.capacity for one in rounds)
    return Section(
        title=f"{times:g} x overload for {seconds:.0f} s",
        command="python -m bench.overload",
        columns=("", "measured", "beside it", "ratio", "wanted"),
        rows=(
            (
                "answered, p99",
                f"{of('accepted_p99'):,.0f} ms",
                f"at capacity: {of('capacity_p99'):,.0f} ms",
                f"{p99:.2f}",
                "<= 2",
            ),
            (
                "goodput",
                f"{of('goodput'):,.0f}/s",
                f"capacity, {CLIENTS} clients: {of('capacity'):,.0f}/s",
                f"{goodput:.2f}",
                ">= 0.9",
            ),
            (
                "refused, p99",
                f"{of('refused_p99'):,.1f} ms",
                f"p50: {of('refused_p50'):,.1f} ms",
                "",
                "<= 10 ms",
            ),
            ("as before after", f"{of('recovery_s'):,.2f} s", "", "", "<= 2 s"),
            ("neither answered nor refused", str(sum(one.failed for one in rounds)), "", "", "0"),
        ),
        notes=(
            f"{len(rounds)} rounds, {texts:,} distinct texts, {texts_a_request} a request, gRPC, "
            f"no deadline; offered {of('offered'):,.0f}/s, refused "
            f"{sum(one.refused for one in rounds):,}. Capacity is measured before and after; it "
            f"was {of('capacity_before'):,.0f}/s before.",
            f"On the same cores: servers {of('servers_cores'):.2f}, load generator "
            f"{of('generator_cores'):.2f}, others {of('others_cores'):.2f} cores; the generator "
            f"sent {of('lag_p99'):.1f} ms late at p99, which every latency contains.",
            f"Envoy and replicas in the overload: {of('resident_mib'):,.0f} MiB.",
        ),
        data=[asdict(one) for one in rounds],
    )


def main(
    texts: Texts = None,
    model: Model = "",
    rounds: Annotated[int, typer.Option(min=1)] = 1,
    seconds: Annotated[float, typer.Option(help="Seconds of the overload.", min=1)] = 60.0,
    times: Annotated[
        float, typer.Option(help="The overload as a multiple of the capacity.", min=1)
    ] = 3.0,
    texts_a_request: Annotated[int, typer.Option(help=PER_REQUEST_HELP, min=1)] = 4,
    save: Save = True,
) -> None:
    """Measure and print."""
    lines = read_texts(texts)[:MOST_TEXTS]
    folder: Path = model_folder(model)
    end_as_by_control_c()
    measured = []
    with Console(stderr=True).status("") as status:
        for number in range(1, rounds + 1):
            status.update(f"round {number} of {rounds}")
            with running_fleet(BUILD / "overload", folder) as fleet:
                spec = LoadSpec(
                    address=fleet.address,
                    model=MODEL,
                    loop=ClosedLoop(CLIENTS),
                    texts=tuple(lines),
                    texts_per_request=texts_a_request,
                    duration_s=CAPACITY_S,
                    warm_up_s=WARM_UP_S,
                )
                measured.append(run_round(fleet, spec, seconds, times))
    result = section(measured, len(lines), texts_a_request, seconds, times)
    result.show(console)
    if save:
        record("overload", result)


if __name__ == "__main__":
    typer.run(main)
