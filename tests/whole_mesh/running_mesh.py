"""A mesh of the tests' own, started and spoken to through the `mesh` command."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.real_parts.postgres import free_port

ROOT = Path(__file__).parents[2]
MESH = Path(sys.executable).parent / "mesh"
# A whole turn of the loop, with training on two busy cores.
TIMEOUT_S = 400


@dataclass(frozen=True)
class Mesh:
    """Where the mesh lives, and the command that speaks to it."""

    home: Path
    environment: dict[str, str]

    def run(self, *arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `mesh …`; with `check`, fail with its output when it fails."""
        result = subprocess.run(
            [MESH, *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        if check:
            assert result.returncode == 0, f"{arguments}: {result.stdout}{result.stderr}"
        return result

    def json(self, *arguments: str | Path) -> Any:
        """What `mesh … --json` says."""
        return json.loads(self.run(*arguments, "--json").stdout)

    @property
    def address(self) -> str:
        """host:port of Envoy."""
        return f"127.0.0.1:{self.environment['MESH_PORT']}"

    @property
    def url(self) -> str:
        """URL of Envoy."""
        return f"http://{self.address}"

    def log_lines(self, part: str) -> list[str]:
        """The log of a part."""
        return (self.home / "logs" / f"{part}.log").read_text().splitlines()


def new_mesh(home: Path) -> Mesh:
    """A mesh in `home`, not started, on ports that are free now."""
    variables = ("MESH_PORT", "MESH_MLFLOW_PORT", "MESH_AIRFLOW_PORT", "MESH_ENVOY_ADMIN_PORT")
    ports = {name: str(free_port()) for name in variables}
    # Wide enough that rich does not fold what a test looks for.
    return Mesh(home, {**os.environ, "MESH_HOME": str(home), "COLUMNS": "200", **ports})
