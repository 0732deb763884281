"""Memory of a replica by the number of its models: `python -m bench.memory`

Each model has weights of its own: those of the benches' model, each changed by about a
ten-thousandth. A replica starts with so many of them, answers BATCHES calls of BATCH texts for
each by turns, and then is left alone. Anonymous memory is what a container's limit is for; pages of
files can be read again, so the system takes them back when it needs room.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from bench.kit.fleet import put_version, replica_process
from bench.kit.model import BUILD, model_folder
from bench.kit.results import Section, record
from bench.kit.server_process import ServerProcess, end_as_by_control_c
from bench.limit import MOST_TEXTS, Model, Save, Texts
from inference_svc.engines.working_memory import IDLE_S
from inference_svc.model.model_files import read_spec
from inference_svc.serving.memory_release import IDLE_CHECK_S
from mesh.client import MeshClient
from mesh_cli.load.plan.texts import read_texts
from mesh_cli.local.ports import internal_ports

SIZES = (1, 5, 20, 50)
BATCHES = 4
BATCH = 64  # texts a call
# Relative size of the change of each weight.
CHANGE = 1e-4
# Numbers of other sizes are no weights: read as floats, integers are next to zero.
_LEAST, _MOST = 1e-6, 100.0
_PORTS = ("replica", "unary", "metrics")

Reading = dict[str, float]
"""MiB: rss, anonymous, files."""

console = Console()


def names(models: int) -> list[str]:
    """Names of so many models."""
    return [f"model_{number}" for number in range(1, models + 1)]


def make_models(folder: Path, files: Path, models: int) -> None:
    """Put so many models into the cache of the replica in `folder`; existing ones stay."""
    graph = read_spec(files).graph
    for seed, name in enumerate(names(models)):
        if (folder / "models" / name).exists():
            continue
        version = put_version(folder, name, files)
        weights = (version / graph).with_suffix(".bin")
        content = np.fromfile(weights, dtype=np.uint8)
        numbers = content[: content.size // 4 * 4].view(np.float32)
        size = np.abs(numbers)
        changed = (size > _LEAST) & (size < _MOST)
        noise = np.random.default_rng(seed).standard_normal(changed.sum(), dtype=np.float32)
        numbers[changed] *= 1 + np.float32(CHANGE) * noise
        content.tofile(weights)


def reading(replica: ServerProcess) -> Reading:
    """What the kernel counts for the replica now."""
    [process] = replica.family()
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    kib = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.endswith(" kB")}
    return {
        "rss": kib["VmRSS"] / 1024,
        "anonymous": (kib["RssAnon"] + kib["RssShmem"]) / 1024,
        "files": kib["RssFile"] / 1024,
    }


@contextmanager
def running(folder: Path, models: int) -> Iterator[tuple[ServerProcess, str]]:
    """A replica with so many models, and its address."""
    ports = internal_ports(_PORTS, {})
    one, two, three = (ports[name] for name in _PORTS)
    with replica_process(folder, "replica", names(models), (one, two, three)) as replica:
        yield replica, f"127.0.0.1:{one}"


def measure(folder: Path, models: int, texts: Sequence[str]) -> dict[str, Reading]:
    """Readings after the start, after every model has answered, and when all were idle."""
    with running(folder, models) as (replica, address), MeshClient(address) as mesh:
        readings = {"started": reading(replica)}
        for number in range(BATCHES):
            begin = number * BATCH % max(1, len(texts) - BATCH)
            for name in names(models):
                mesh.predict(name, texts[begin : begin + BATCH])
        readings["answered"] = reading(replica)
        time.sleep(IDLE_S + 2 * IDLE_CHECK_S)
        readings["idle"] = reading(replica)
        return readings


def section(found: dict[int, dict[str, Reading]]) -> Section:
    """The readings as a table."""
    moments = ("started", "answered", "idle")
    rows = []
    before: tuple[int, dict[str, Reading]] | None = None
    for models, readings in found.items():
        cells = [
            f"{readings[moment]['rss']:.0f} = {readings[moment]['anonymous']:.0f} + "
            f"{readings[moment]['files']:.0f}"
            for moment in moments
        ]
        more = []
        for moment in moments:
            grown = readings[moment]["rss"] - before[1][moment]["rss"] if before else 0.0
            more.append(f"{grown / (models - before[0]):.1f}" if before else "")
        rows.append((str(models), *cells, " / ".join(more) if before else ""))
        before = models, readings
    return Section(
        title="Memory of a replica by its models",
        command="python -m bench.memory",
        columns=(
            "models",
            *(f"{moment}, MiB" for moment in moments),
            "MiB for each further model",
        ),
        rows=tuple(rows),
        notes=(
            "RSS = anonymous memory + pages of files.",
            f"answered: {BATCHES} calls of {BATCH} texts for each model, by turns; idle: "
            f"{IDLE_S + 2 * IDLE_CHECK_S:.0f} s later.",
            "for each further model: beside the line above, at the same three moments.",
        ),
        data={str(models): readings for models, readings in found.items()},
    )


def main(
    texts: Texts = None,
    model: Model = "",
    most: Annotated[int, typer.Option(min=2, help="Leave larger numbers of models out.")] = 50,
    save: Save = True,
) -> None:
    """Measure and print."""
    lines = read_texts(texts)[:MOST_TEXTS]
    end_as_by_control_c()
    folder = BUILD / "memory"
    sizes = [size for size in SIZES if size <= most]
    with Console(stderr=True).status("the models are written"):
        make_models(folder, model_folder(model), sizes[-1])
    found = {}
    for size in sizes:
        with Console(stderr=True).status(f"{size} models"):
            found[size] = measure(folder, size, lines)
    result = section(found)
    result.show(console)
    if save:
        record("memory", result)


if __name__ == "__main__":
    typer.run(main)
