"""The description of a peer: how it is started and called."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Turn:
    """One start of a peer."""

    venv: Path
    source: Path
    """Folder with the code of its server."""

    state: Path
    """An empty folder for this start."""

    port: int
    environment: Mapping[str, str]

    def bin(self, name: str) -> Path:
        """Path of a command in its virtual environment."""
        return self.venv / "bin" / name


@dataclass(frozen=True)
class Peer:
    """A model server with the same model."""

    name: str
    """Its folder here."""

    title: str
    distribution: str
    """The PyPI distribution whose version is named."""

    command: Callable[[Turn], list[str | Path]]
    path: str
    """Path to which one text is POSTed."""

    body: Callable[[str], Any]
    """The JSON of a request."""

    label: Callable[[Any], str]
    """The label in the JSON of an answer."""

    settings: str
    """How the peer is run, in words."""

    precisions: tuple[str, ...] = ("fp32", "bf16")
    workers: int = 2
    threads: int = 1
    """Threads of each worker."""

    batch: int = 16
    """Largest batch, texts."""

    variables: Mapping[str, str] = field(default_factory=dict)

    def environment(self, venv: Path, model: Path, precision: str, port: int) -> dict[str, str]:
        """Environment variables of its server."""
        return {
            # MLflow looks for uvicorn on the PATH.
            "PATH": os.pathsep.join((str(venv / "bin"), os.environ["PATH"])),
            "BENCH_MODEL": str(model / "model"),
            "BENCH_PRECISION": precision,
            "BENCH_WORKERS": str(self.workers),
            "BENCH_THREADS": str(self.threads),
            "BENCH_BATCH": str(self.batch),
            "BENCH_PORT": str(port),
            "OMP_NUM_THREADS": str(self.threads),
            "TOKENIZERS_PARALLELISM": "false",
            "HF_HUB_OFFLINE": "1",
            # Nothing of this repository but the classifier that all peers serve.
            "PYTHONPATH": os.pathsep.join((str(FOLDER / "shared"), str(FOLDER / self.name))),
            # Empty, even if the caller sets it: without compiled modules each start takes a minute.
            "PYTHONDONTWRITEBYTECODE": "",
            **self.variables,
        }

    def encode(self, text: str) -> bytes:
        """The body of a request as bytes."""
        return json.dumps(self.body(text), ensure_ascii=False).encode()
