"""Memory of replicas under a long load: `python -m bench.soak`

64 clients send one text a request. Memory is read after FIRST requests and after all.
"""

from typing import Annotated

import typer
from rich.console import Console

from bench.kit.fleet import Fleet, running_fleet
from bench.kit.model import BUILD, MODEL, model_folder
from bench.kit.results import Section, record
from bench.kit.server_process import end_as_by_control_c
from bench.limit import MOST_TEXTS, Model, Save, Texts
from mesh_cli.load import ClosedLoop, LoadSpec, run_load
from mesh_cli.load.plan.texts import read_texts

CLIENTS = 64
FIRST = 20_000
# Seconds of one load. The requests of one load at most come between a mark and its reading.
PART_S = 5.0

console = Console()


def soak(fleet: Fleet, spec: LoadSpec, last: int) -> tuple[dict[str, list[float]], list[int], int]:
    """MiB of each server after FIRST and after `last` requests; requests at both; failed ones."""
    resident: dict[str, list[float]] = {server.name: [] for server in fleet.servers}
    sent, passed, failed = 0, [], 0
    with Console(stderr=True).status("") as status:
        for mark in (FIRST, last):
            while sent < mark:
                status.update(f"{sent:,} of {last:,} requests")
                result = run_load(spec)
                sent += len(result.due)
                failed += sum(result.errors().values())
            passed.append(sent)
            for server in fleet.servers:
                resident[server.name].append(server.resident_mib())
    return resident, passed, failed


def section(resident: dict[str, list[float]], passed: list[int], failed: int) -> Section:
    """The comparison as a table."""
    rows = tuple(
        (name, f"{first:.0f}", f"{last:.0f}", f"{last / first - 1:+.1%}")
        for name, (first, last) in resident.items()
    )
    return Section(
        title="Memory under a long load",
        command="python -m bench.soak",
        columns=("", *(f"MiB after {count:,} requests" for count in passed), "grown by"),
        rows=rows,
        notes=(f"{CLIENTS} clients over JSON; {failed} requests failed. Wanted: at most 3 %.",),
        data={"resident": resident, "requests": passed, "failed": failed},
    )


def main(
    texts: Texts = None,
    model: Model = "",
    requests: Annotated[int, typer.Option(min=FIRST + 1)] = 200_000,
    save: Save = True,
) -> None:
    """Measure and print."""
    lines = read_texts(texts)[:MOST_TEXTS]
    end_as_by_control_c()
    with running_fleet(BUILD / "soak", model_folder(model)) as fleet:
        spec = LoadSpec(
            address=fleet.address,
            model=MODEL,
            loop=ClosedLoop(CLIENTS),
            texts=tuple(lines),
            protocol="json",
            duration_s=PART_S,
            warm_up_s=0.0,
        )
        result = section(*soak(fleet, spec, requests))
    result.show(console)
    if save:
        record("soak", result)


if __name__ == "__main__":
    typer.run(main)
