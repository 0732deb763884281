"""Runs `bench.serve` of another checkout of this repository and reads its figures.

Older checkouts have other modules in `bench/`, but all have `bench.serve` with `main` and the names
that the code below replaces. A child process runs the code of the checkout; this one imports none.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SIDE = "champion-mesh json"
# Makes the model unless there is one, and prints its folder.
_MODEL = "from bench import serve; print(serve.model_folder(''))"
# Runs the command with a `record` that writes the figures with all their digits to a file, and with
# a `limit_of` that does not measure the engine offline, which takes minutes and is not needed.
_SERVE = """
import json, pathlib, sys
import typer
from bench import serve
path = pathlib.Path(sys.argv.pop(1))
serve.record = lambda key, section: path.write_text(json.dumps(section.data))
serve.limit_of = lambda engines: serve.Limit(1.0, 1.0, 1.0)
typer.run(serve.main)
"""


@dataclass(frozen=True)
class RunFigures:
    """Figures of one run; CPU in milliseconds a request."""

    texts_per_s: float
    envoy_ms: float
    replicas_ms: float
    """The replicas' threads that do not compute."""

    engine_ms: float
    """The replicas' threads that compute."""

    failed: int
    others_cores: float
    """Cores that other processes took during the load."""

    @property
    def outside_ms(self) -> float:
        """CPU outside the engine: Envoy and the replicas."""
        return self.envoy_ms + self.replicas_ms

    @property
    def total_ms(self) -> float:
        """All CPU of Envoy and the replicas."""
        return self.outside_ms + self.engine_ms


def figures_of(data: Any) -> RunFigures:
    """The figures in the data of a section of `bench.serve` over JSON with one round."""
    (figures,) = data["served"][SIDE]
    cpu_ms = figures["cpu_ms"]
    return RunFigures(
        texts_per_s=figures["texts_per_s"],
        envoy_ms=cpu_ms["envoy"],
        replicas_ms=cpu_ms["replicas beside it"],
        engine_ms=cpu_ms["engine"],
        failed=figures["failed"],
        others_cores=figures["others_cores"],
    )


def serve(checkout: Path, texts: Path, seconds: float) -> RunFigures:
    """Measure the replicas and Envoy of a checkout, 64 clients over JSON, one text a request.

    Raises RuntimeError with the last lines of the process when it fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "figures.json"
        options = ("--texts", texts, "--rounds", "1", "--seconds", f"{seconds:g}")
        _run(checkout, _SERVE, output, *options, "--protocol", "json", "--clients", "64")
        return figures_of(json.loads(output.read_text()))


def share_model(after: Path, before: Path) -> None:
    """Give both checkouts the same model files.

    The model of `after` is copied to `before`; where only `before` has one, it goes the other way.
    Where neither has one, `after` makes it, which takes minutes.
    """
    places = [checkout / "build" / "bench" / "model" for checkout in (after, before)]
    source, target = places[::-1] if places[1].exists() and not places[0].exists() else places
    if not source.exists():
        source = Path(_run(after, _MODEL).strip().splitlines()[-1])
    if not target.exists() or digest(source) != digest(target):
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target)


def digest(folder: Path) -> str:
    """SHA-256 of the names and contents of all files of a folder."""
    names_and_contents = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            names_and_contents.update(f"{path.relative_to(folder)} {content}\n".encode())
    return names_and_contents.hexdigest()


def _run(checkout: Path, code: str, *arguments: str | Path) -> str:
    """Run Python code with the modules of a checkout; return what it prints."""
    python = checkout / ".venv" / "bin" / "python"
    paths = (checkout, checkout / "protos", checkout / "envoy")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(str(path) for path in paths)}
    command: Sequence[str | Path] = (
        *(python if python.exists() else sys.executable, "-c", code),
        *arguments,
    )
    with subprocess.Popen(
        command,
        cwd=checkout,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            output, errors = process.communicate()
        except BaseException:
            # The command ends its servers itself when it is told to end.
            process.terminate()
            process.wait()
            raise
    if process.returncode:
        last = "\n".join((output + errors).strip().splitlines()[-20:])
        raise RuntimeError(f"bench.serve of {checkout} failed:\n{last}")
    return output
