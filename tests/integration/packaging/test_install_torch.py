"""requirements/install_torch.sh with a real pip, and a small wheel in the place of torch's."""

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from pip._internal.models.index import PyPI

from tests.whole_mesh.running_mesh import ROOT

SCRIPT = ROOT / "requirements" / "install_torch.sh"
PIP = Path(sys.executable).parent / "pip"
WHEEL = "torch-2.13.0+cpu-py3-none-any.whl"
OTHER_HASH = "0" * 64
PYPI = f"global.index-url='{PyPI.simple_url}'"


def write_wheel(folder: Path) -> str:
    """Write a wheel of torch without contents; return its SHA-256."""
    folder.mkdir()
    info = "torch-2.13.0+cpu.dist-info"
    with zipfile.ZipFile(folder / WHEEL, "w") as wheel:
        wheel.writestr("torch.py", "")
        wheel.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: torch\nVersion: 2.13.0+cpu\n"
        )
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
    return hashlib.sha256((folder / WHEEL).read_bytes()).hexdigest()


@dataclass
class Installation:
    """An empty environment, an index with one wheel, and the project's files beside them."""

    folder: Path
    python: Path
    hash: str

    def list(self, value: str) -> None:
        """Let torch.txt list this hash only."""
        text = f"# A comment.\ntorch==2.13.0 \\\n    --hash=sha256:{value}\n"
        (self.folder / "torch.txt").write_text(text)

    def run(self, pip: Path = PIP, **variables: str) -> "subprocess.CompletedProcess[str]":
        clean = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
        return subprocess.run(
            ["sh", str(self.folder / "install_torch.sh"), str(self.python), ""],
            env={
                **clean,
                **{"PIP": str(pip), "PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1"},
                **{"PIP_FIND_LINKS": str(self.folder / "index"), **variables},
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    @property
    def is_done(self) -> bool:
        asked = subprocess.run([self.python, "-c", "import torch"], capture_output=True)
        return asked.returncode == 0

    def pip_of_pypi(self) -> Path:
        """A pip that has no index but PyPI, as far as its configuration tells."""
        path = self.folder / "pip"
        path.write_text(
            f'#!/bin/sh\ncase "$*" in *"config list") echo "{PYPI}";; *) exec {PIP} "$@";; esac\n'
        )
        path.chmod(0o755)
        return path


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    shutil.copy(SCRIPT, tmp_path)
    digest = write_wheel(tmp_path / "index")
    made = Installation(tmp_path, tmp_path / "venv" / "bin" / "python", digest)
    made.list(OTHER_HASH)
    return made


def test_a_build_that_is_listed_is_installed_without_a_word(installation: Installation) -> None:
    installation.list(installation.hash)
    result = installation.run(installation.pip_of_pypi())
    assert (result.returncode, result.stderr) == (0, "")
    assert installation.is_done


def test_an_unknown_build_of_an_index_of_ones_own_is_installed_with_a_warning(
    installation: Installation,
) -> None:
    result = installation.run()
    assert result.returncode == 0, result.stderr
    assert f"TORCH_SHA256={installation.hash}" in result.stderr
    assert WHEEL in result.stderr
    assert installation.is_done


def test_an_unknown_build_under_pypis_name_is_refused(installation: Installation) -> None:
    result = installation.run(installation.pip_of_pypi())
    assert result.returncode == 1
    assert f"TORCH_SHA256={installation.hash}" in result.stderr
    assert "requirements/torch.txt" in result.stderr
    assert not installation.is_done


def test_the_one_hash_that_is_allowed_holds_everywhere(installation: Installation) -> None:
    refused = installation.run(TORCH_SHA256=OTHER_HASH)
    assert refused.returncode == 1
    assert installation.hash in refused.stderr
    assert OTHER_HASH in refused.stderr
    assert not installation.is_done
    allowed = installation.run(installation.pip_of_pypi(), TORCH_SHA256=installation.hash)
    assert (allowed.returncode, allowed.stderr) == (0, "")
    assert installation.is_done
