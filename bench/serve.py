"""One model, served by the mesh and by other servers, beside the limit: `python -m bench.serve`

In alternating rounds: the engine offline (the limit), replicas behind Envoy over JSON and over
gRPC, then each peer. One text a request, closed loop. Only one server runs at a time.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Annotated

import httpx
import numpy as np
import typer
from rich.console import Console

from bench.kit.fleet import running_fleet
from bench.kit.load_figures import Figures, measure_load, medians
from bench.kit.model import BUILD, MODEL, model_folder
from bench.kit.offline_engines import OfflineEngines
from bench.kit.results import Section, record
from bench.kit.server_process import end_as_by_control_c
from bench.limit import BATCH_TEXTS, MOST_TEXTS, Model, Save, Texts, served_engine
from bench.peers.environment import environment, installed_version
from bench.peers.peer import Peer
from bench.peers.serving import ServedPeer, chosen
from mesh.client import MeshClient
from mesh_cli.errors import BadInput, CliError
from mesh_cli.load import ClosedLoop, LoadSpec
from mesh_cli.load.plan.spec import Protocol
from mesh_cli.load.plan.texts import read_texts

OURS = "champion-mesh"
WARM_UP_S = 4.0
# Texts to which a peer must give the same labels as the mesh.
CHECKED_TEXTS = 100
# Seconds for which the limit is measured with each size of batch.
LIMIT_S = 3.0
# Cores that other processes may take; above it the figures are worth little, and the note says so.
DISTURBED_CORES = 0.1

console = Console()


@dataclass(frozen=True)
class Limit:
    """Figures of the engine offline in one round."""

    texts_per_s: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True)
class Comparison:
    """All figures of one run, by round."""

    limits: list[Limit]
    served: Mapping[str, list[Figures]]
    texts: int
    failed: Mapping[str, str] = field(default_factory=dict)
    """The reason for each peer that could not be measured."""

    @property
    def limit(self) -> Limit:
        """The medians of the limit."""
        return Limit(
            median(one.texts_per_s for one in self.limits),
            median(one.p50_ms for one in self.limits),
            median(one.p99_ms for one in self.limits),
        )

    def figures(self) -> dict[str, Figures]:
        """The medians of each contender."""
        return {name: medians(found) for name, found in self.served.items()}


def limit_of(engines: OfflineEngines, batches: Sequence[int] = BATCH_TEXTS) -> Limit:
    """Measure the limit once."""
    best = max(engines.throughput(size, LIMIT_S) for size in batches)
    p50, p99 = np.percentile(engines.latencies(LIMIT_S), [50, 99]) * 1e3
    return Limit(best, float(p50), float(p99))


def ask(address: str, texts: Sequence[str]) -> list[tuple[str, str, float]]:
    """Each text with the label and score that the mesh gives it."""
    with MeshClient(address) as client:
        answers = client.predict(MODEL, list(texts)).predictions
    return [(text, one.label, one.score) for text, one in zip(texts, answers, strict=True)]


def compare(
    folder: Path,
    texts: Sequence[str],
    protocols: Sequence[Protocol],
    rounds: int,
    seconds: float,
    clients: int,
    peers: Sequence[tuple[Peer, str]] = (),
) -> Comparison:
    """Measure the limit, the mesh and the peers in alternating rounds."""
    limits: list[Limit] = []
    served: dict[str, list[Figures]] = defaultdict(list)
    failed: dict[str, str] = {}
    load = (clients, seconds, WARM_UP_S)
    state = BUILD / "serve"
    status = Console(stderr=True).status("")
    with status, OfflineEngines(folder, served_engine(), texts) as engines:
        for number in range(1, rounds + 1):
            turn = f"round {number} of {rounds}"
            status.update(f"{turn}: the engine offline")
            limits.append(limit_of(engines))
            status.update(f"{turn}: {OURS} starts")
            with running_fleet(state / OURS, folder) as fleet:
                for protocol in protocols:
                    status.update(f"{turn}: {OURS} over {protocol}")
                    spec = LoadSpec(
                        address=fleet.address,
                        model=MODEL,
                        loop=ClosedLoop(clients),
                        texts=tuple(texts),
                        protocol=protocol,
                        duration_s=seconds,
                        warm_up_s=WARM_UP_S,
                    )
                    figures, _ = measure_load(spec, fleet.servers, fleet.replicas)
                    served[f"{OURS} {protocol}"].append(figures)
                answers = ask(fleet.address, texts[:CHECKED_TEXTS])
            for peer, precision in peers:
                name = f"{peer.title} {precision}"
                status.update(f"{turn}: {name} starts")
                try:
                    served[name].append(_measured(peer, precision, folder, texts, load, answers))
                except (RuntimeError, httpx.HTTPError, CliError) as error:
                    # The other peers are measured all the same.
                    failed[name] = str(error).strip().splitlines()[-1][:200]
    done = {name: found for name, found in served.items() if found}
    return Comparison(limits, done, len(texts), failed)


def _measured(
    peer: Peer,
    precision: str,
    folder: Path,
    texts: Sequence[str],
    load: tuple[int, float, float],
    answers: Sequence[tuple[str, str, float]],
) -> Figures:
    """Start a peer, check its labels, measure. Raises RuntimeError if it fails or disagrees."""
    their = ServedPeer(peer, folder, precision)
    with their.process:
        their.check(answers)
        return measure_load(their.spec(texts, *load), [their.process])[0]


def section(found: Comparison, clients: int, command: str) -> Section:
    """The comparison as a table; ratios are those of the mesh to each peer."""
    limit, figures = found.limit, found.figures()
    ours = next(iter(figures.values())).texts_per_s
    rows = [("limit (engine offline)", f"{limit.texts_per_s:,.0f}", "1.00", *[""] * 7)]
    for name, one in figures.items():
        own = name.startswith(OURS)
        rows.append(
            (
                name,
                f"{one.texts_per_s:,.0f}",
                f"{one.texts_per_s / limit.texts_per_s:.2f}",
                "" if own or not one.texts_per_s else f"{ours / one.texts_per_s:.1f}",
                f"{one.p50_ms:.1f}",
                f"{one.p99_ms:.1f}",
                f"{one.failed:,}",
                f"{sum(one.cpu_ms.values()):.2f}",
                f"{one.outside_ms:.2f}" if own else "",
                f"{sum(one.resident_mib.values()):,.0f}",
            )
        )
    notes = [
        f"{clients} closed-loop clients, one text a request, {found.texts:,} distinct texts, "
        f"{len(found.limits)} rounds.",
        f"The engine alone, one text at a time: p50 {limit.p50_ms:.2f} ms, "
        f"p99 {limit.p99_ms:.2f} ms.",
    ]
    notes += [f"{name} failed: {why}" for name, why in found.failed.items()]
    notes += [_note(name, one) for name, one in figures.items()]
    return Section(
        title="Served, one text a request",
        command=command,
        columns=(
            *("", "texts/s", "of the limit", "ours is × as quick", "p50 ms", "p99 ms", "failed"),
            *("CPU ms a request", "outside the engine", "RSS MiB"),
        ),
        rows=tuple(rows),
        notes=tuple(notes),
        data={
            "limit": [asdict(one) for one in found.limits],
            "served": {name: [asdict(one) for one in all_] for name, all_ in found.served.items()},
        },
    )


def _note(name: str, one: Figures) -> str:
    cpu = ", ".join(f"{part} {ms:.2f}" for part, ms in one.cpu_ms.items())
    memory = ", ".join(f"{part} {mib:,.0f}" for part, mib in one.resident_mib.items())
    ready = ", ".join(f"{part} {seconds:.1f}" for part, seconds in one.ready_s.items())
    if one.others_cores > DISTURBED_CORES:
        ready += f"; others took {one.others_cores:.2f} cores"
    late = "; the load generator was late" if one.generator_late else ""
    return (
        f"{name}: CPU ms a request: {cpu} (load generator {one.generator_ms:.2f}); RSS MiB: "
        f"{memory}; start to ready s: {ready}; p99 {one.p99_ms / (one.p50_ms or 1):.1f} × p50{late}"
    )


def described(peer: Peer) -> str:
    """A peer's version and settings."""
    found = installed_version(environment(peer.name), peer.distribution)
    return f"{peer.title}: {peer.distribution} {found}, {peer.settings}."


def main(
    texts: Texts = None,
    model: Model = "",
    rounds: Annotated[int, typer.Option(min=1)] = 2,
    seconds: Annotated[
        float, typer.Option(help="Seconds of one load, after its warm-up.", min=1)
    ] = 10.0,
    clients: Annotated[int, typer.Option(min=1)] = 64,
    protocol: Annotated[str, typer.Option(help="json, grpc or both, for the mesh.")] = "both",
    peers: Annotated[str, typer.Option(help="Peers: names with commas, all or none.")] = "none",
    save: Save = True,
) -> None:
    """Measure and print."""
    protocols: dict[str, tuple[Protocol, ...]] = {
        "json": ("json",),
        "grpc": ("grpc",),
        "both": ("json", "grpc"),
    }
    if protocol not in protocols:
        raise BadInput(f"--protocol is {protocol!r}; it is json, grpc or both")
    lines = read_texts(texts)[:MOST_TEXTS]
    theirs = chosen(peers)
    end_as_by_control_c()
    progress = Console(stderr=True)
    for peer in theirs:
        with progress.status(f"the environment of {peer.title}"):
            environment(peer.name)
    runs = [(peer, precision) for peer in theirs for precision in peer.precisions]
    found = compare(model_folder(model), lines, protocols[protocol], rounds, seconds, clients, runs)
    result = section(found, clients, f"python -m bench.serve --peers {peers}")
    result = replace(result, notes=(*result.notes, *(described(peer) for peer in theirs)))
    result.show(console)
    if save:
        record("serve" if peers == "none" else f"serve {peers}", result)


if __name__ == "__main__":
    typer.run(main)
