"""The limit: the engine's best offline rate on these cores. `python -m bench.limit`

Servers are compared with it: one process a core with one thread each, texts tokenised beforehand,
length-sorted batches. It also measures one text at a time.
"""

import json
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from bench.kit.engine_worker import EngineSpec
from bench.kit.model import model_folder
from bench.kit.offline_engines import OfflineEngines
from bench.kit.results import Section, record
from inference_svc.engines.cpu_features import has_bf16
from mesh_cli.load.plan.texts import read_texts

BATCH_TEXTS = (16, 32, 64)
ALL = tuple(EngineSpec(kind, form) for kind in ("openvino", "torch") for form in ("bf16", "fp32"))
# With more texts torch in fp32 takes longer for a pass than a round lasts.
MOST_TEXTS = 2048

console = Console()


@dataclass(frozen=True)
class EngineFigures:
    """Figures of one engine, medians over the rounds."""

    texts_per_s: dict[int, float]
    """By the size of a batch in texts."""

    p50_ms: float
    """One text at a time, one process."""

    p99_ms: float

    @property
    def best(self) -> int:
        """The size of a batch, texts, with which the engine is quickest."""
        return max(self.texts_per_s, key=self.texts_per_s.__getitem__)

    @property
    def limit(self) -> float:
        """The best rate of the engine, texts a second."""
        return self.texts_per_s[self.best]


def served_engine() -> EngineSpec:
    """The engine that a replica on this CPU chooses by itself."""
    return EngineSpec("openvino", "bf16" if has_bf16() else "fp32")


def measure(
    folder: Path,
    specs: Sequence[EngineSpec],
    texts: Sequence[str],
    rounds: int,
    seconds: float,
    batches: Sequence[int] = BATCH_TEXTS,
) -> dict[EngineSpec, EngineFigures]:
    """Measure engines in alternating rounds."""
    rates: dict[tuple[EngineSpec, int], list[float]] = defaultdict(list)
    p50: dict[EngineSpec, list[float]] = defaultdict(list)
    p99: dict[EngineSpec, list[float]] = defaultdict(list)
    with ExitStack() as stack, Console(stderr=True).status("engines are loaded") as status:
        running = [stack.enter_context(OfflineEngines(folder, spec, texts)) for spec in specs]
        for number in range(rounds):
            for engines in running:
                name = f"round {number + 1} of {rounds}: {engines.spec.name}"
                for size in batches:
                    status.update(f"{name}, batches of {size}")
                    rates[engines.spec, size].append(engines.throughput(size, seconds))
                status.update(f"{name}, one text at a time")
                quantiles = np.percentile(engines.latencies(seconds), [50, 99]) * 1e3
                p50[engines.spec].append(float(quantiles[0]))
                p99[engines.spec].append(float(quantiles[1]))
    return {
        spec: EngineFigures(
            {size: median(rates[spec, size]) for size in batches},
            median(p50[spec]),
            median(p99[spec]),
        )
        for spec in specs
    }


def section(figures: dict[EngineSpec, EngineFigures], title: str, command: str) -> Section:
    """The figures as a table; ratios are against the quickest engine."""
    top = max(found.limit for found in figures.values())
    sizes = next(iter(figures.values())).texts_per_s
    return Section(
        title=title,
        command=command,
        columns=(
            "engine",
            *(f"texts/s, {size} a batch" for size in sizes),
            "of the best",
            "one text: p50 ms",
            "p99 ms",
        ),
        rows=tuple(
            (
                spec.name,
                *(f"{rate:,.0f}" for rate in found.texts_per_s.values()),
                f"{found.limit / top:.2f}",
                f"{found.p50_ms:.2f}",
                f"{found.p99_ms:.2f}",
            )
            for spec, found in figures.items()
        ),
        notes=(
            "One process a core, one thread each; length-sorted batches, tokenised beforehand.",
        ),
        data={spec.name: asdict(found) for spec, found in figures.items()},
    )


def report(
    key: str,
    title: str,
    figures: dict[EngineSpec, EngineFigures],
    save: bool,
    as_json: bool = False,
) -> None:
    """Print the figures of `python -m bench.KEY`; keep them if `save`."""
    result = section(figures, title, f"python -m bench.{key}")
    if as_json:
        print(json.dumps(result.data, indent=1))
    else:
        result.show(console)
    if save:
        record(key, result)


Texts = Annotated[Path | None, typer.Option(help="A text a line, or a .csv. Default: samples.")]
Model = Annotated[str, typer.Option(help="Model of the local mesh. Default: one made here.")]
Rounds = Annotated[int, typer.Option(min=1)]
Save = Annotated[bool, typer.Option(help="Keep the result in bench/.")]
Seconds = Annotated[float, typer.Option(help="Seconds of one measurement.", min=0.1)]


def main(
    texts: Texts = None,
    model: Model = "",
    rounds: Rounds = 3,
    seconds: Seconds = 5.0,
    save: Save = True,
) -> None:
    """Measure and print the limit of the engine that replicas choose here."""
    lines = read_texts(texts)[:MOST_TEXTS]
    figures = measure(model_folder(model), [served_engine()], lines, rounds, seconds)
    report("limit", "The limit: the engine without a server", figures, save)


if __name__ == "__main__":
    typer.run(main)
