"""Compares two checkouts of this repository under the same load.

    python -m bench.paired BEFORE AFTER --texts FILE

Each pair runs `bench.serve` of both checkouts, each in a new process: two replicas behind Envoy, 64
clients over JSON, one text a request, the same model. Every second pair begins with AFTER. Figures
are compared within pairs only, as the machine may be faster in one minute than in another.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from bench.kit.results import WIDTH, commit, machine
from bench.kit.server_process import end_as_by_control_c
from bench.paired.checkout_run import RunFigures, serve, share_model
from bench.paired.ratio import CONFIDENCE, Pair, ratio

# Cores that other processes may take without a warning.
DISTURBED_CORES = 0.1
FIGURES: dict[str, Callable[[RunFigures], float]] = {
    "Envoy, CPU a request": lambda run: run.envoy_ms,
    "replicas outside the engine, CPU a request": lambda run: run.replicas_ms,
    "outside the engine in all, CPU a request": lambda run: run.outside_ms,
    "engine, CPU a request": lambda run: run.engine_ms,
    "total, CPU a request": lambda run: run.total_ms,
    "throughput": lambda run: run.texts_per_s,
}


def measure_pairs(
    before: Path, after: Path, texts: Path, pairs: int, seconds: float, console: Console
) -> list[Pair]:
    """Run both checkouts in turn."""
    measured = []
    for number in range(1, pairs + 1):
        runs: dict[Path, RunFigures] = {}
        for checkout in (before, after) if number % 2 else (after, before):
            with Console(stderr=True).status(f"pair {number} of {pairs}: {checkout}"):
                runs[checkout] = serve(checkout, texts, seconds)
        measured.append(Pair(runs[before], runs[after]))
        console.print(_line(number, "before", runs[before]), highlight=False)
        console.print(_line(number, "after", runs[after]), highlight=False)
    return measured


def _line(number: int, name: str, run: RunFigures) -> str:
    notes = f"; {run.failed} failed" if run.failed else ""
    if run.others_cores > DISTURBED_CORES:
        notes += f"; others took {run.others_cores:.2f} cores"
    return (
        f"pair {number:2} {name:6}: {run.texts_per_s:8,.1f} texts/s; CPU ms a request: outside the "
        f"engine {run.outside_ms:.3f} (Envoy {run.envoy_ms:.3f}, replicas {run.replicas_ms:.3f}), "
        f"engine {run.engine_ms:.3f}, total {run.total_ms:.3f}{notes}"
    )


def table(pairs: Sequence[Pair]) -> Table:
    """Medians of both checkouts, and the ratios."""
    shown = Table(
        *("", "before, median", "after, median"),
        f"after/before, median ({CONFIDENCE:.0%} interval)",
        title=f"{len(pairs)} pairs",
    )
    for name, figure in FIGURES.items():
        unit = "/s" if name == "throughput" else " ms"
        shown.add_row(
            name,
            f"{median(figure(pair.before) for pair in pairs):,.3f}{unit}",
            f"{median(figure(pair.after) for pair in pairs):,.3f}{unit}",
            str(ratio(pairs, figure)),
        )
    return shown


def main(
    before: Annotated[Path, typer.Argument(help="Folder of a checkout.", exists=True)],
    after: Annotated[Path, typer.Argument(help="Folder of another checkout.", exists=True)],
    texts: Annotated[Path, typer.Option(help="A text a line, or a .csv.", exists=True)],
    pairs: Annotated[int, typer.Option(help="At least 10 for a result.", min=1)] = 10,
    seconds: Annotated[float, typer.Option(help="Of one load, after its warm-up.", min=1)] = 6.0,
) -> None:
    """Measure and print; nothing is kept."""
    end_as_by_control_c()
    before, after, texts = before.resolve(), after.resolve(), texts.resolve()
    if before == after:
        raise typer.BadParameter("BEFORE and AFTER are the same folder")
    console = Console(width=WIDTH)
    console.print(f"{machine()}; {seconds:g} s a load", highlight=False, markup=False)
    for name, checkout in (("before", before), ("after", after)):
        console.print(f"{name}: {checkout}, commit {commit(checkout / 'bench')}", highlight=False)
    with Console(stderr=True).status("the model"):
        share_model(after, before)
    console.print(table(measure_pairs(before, after, texts, pairs, seconds, console)))
    console.print(
        "Intervals: order statistics of the paired ratios (scipy.stats.quantile_test).",
        highlight=False,
    )


if __name__ == "__main__":
    typer.run(main)
