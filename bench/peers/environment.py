"""A virtual environment for each peer, built once under build/peers/."""

import hashlib
import os
import shutil
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

from bench.peers.peer import FOLDER

ROOT = FOLDER.parent.parent
TORCH = ROOT / "requirements" / "torch.txt"
BUILD = ROOT / "build" / "peers"
_PIP = ("install", "--quiet", "--no-compile", "--disable-pip-version-check", "--no-input")


def environment(name: str) -> Path:
    """The virtual environment of a peer; built when its requirements changed.

    TORCH_INDEX names an index of torch without CUDA, as for `make install`. Raises
    CalledProcessError, with the output of pip in its `stderr`.
    """
    requirements = FOLDER / name / "requirements.txt"
    venv = BUILD / name / "venv"
    stamp = venv / "installed"
    wanted = hashlib.sha256(TORCH.read_bytes() + requirements.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return venv
    shutil.rmtree(venv, ignore_errors=True)
    # Without the packages of this environment.
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    index = os.environ.get("TORCH_INDEX")
    # Torch first: otherwise another package would bring another build of it.
    _pip(venv, *(("--index-url", index) if index else ()), "-r", str(TORCH))
    _pip(venv, "--no-deps", "-r", str(requirements))
    stamp.write_text(wanted)
    return venv


def _pip(venv: Path, *arguments: str) -> None:
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run(
        [venv / "bin" / "pip", *_PIP, *arguments],
        check=True,
        env=variables,
        stderr=subprocess.PIPE,
        text=True,
    )


def installed_version(venv: Path, distribution: str) -> str:
    """Version of a distribution in an environment; empty when it is not there."""
    paths = [str(path) for path in (venv / "lib").glob("python*/site-packages")]
    found = [one.version for one in distributions(name=distribution, path=paths)]
    return found[0] if found else ""
