"""A mesh that tests start, call and stop through the `mesh` command."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.real_parts.orphan_watch import run_if_orphaned
from tests.real_parts.postgres import free_port

ROOT = Path(__file__).parents[2]
MESH = Path(sys.executable).parent / "mesh"
# Longest time of one `mesh …` command: `import --wait` takes a whole turn of the loop, with
# training on two busy cores.
TIMEOUT_S = 400
# Variables that would give the command another token than the operator's of its own mesh.
TOKENS = ("MESH_TOKEN", "MESH_TOKEN_FILE")


@dataclass(frozen=True)
class Mesh:
    """A mesh in the folder `home`; `environment` holds its ports for the `mesh` command."""

    home: Path
    environment: dict[str, str]

    def run(self, *arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `mesh …`; with `check`, a failure of the command fails the test."""
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
        """Run `mesh … --json`; return its decoded output."""
        return json.loads(self.run(*arguments, "--json").stdout)

    def fleet_model(self, name: str) -> dict[str, str]:
        """The versions of a model by role, as `mesh fleet` shows them."""
        models: list[dict[str, str]] = self.json("fleet")["models"]
        return {model["name"]: model for model in models}[name]

    @property
    def address(self) -> str:
        """host:port of Envoy."""
        return f"127.0.0.1:{self.environment['MESH_PORT']}"

    @property
    def url(self) -> str:
        """URL of Envoy."""
        return f"http://{self.address}"

    @property
    def token(self) -> str:
        """The operator's token, which every client of a test sends."""
        return (self.home / "secrets" / "operator.token").read_text()

    @property
    def headers(self) -> dict[str, str]:
        """The header with that token, for clients of HTTP."""
        return {"authorization": f"Bearer {self.token}"}

    def log_lines(self, part: str) -> list[str]:
        """Lines of the log of a part, for example of `trigger`."""
        return (self.home / "logs" / f"{part}.log").read_text().splitlines()


def new_mesh(home: Path) -> Mesh:
    """Choose free ports for a mesh in `home`; nothing is started."""
    variables = ("MESH_PORT", "MESH_MLFLOW_PORT", "MESH_AIRFLOW_PORT", "MESH_ENVOY_ADMIN_PORT")
    ports = {name: str(free_port()) for name in variables}
    environment = {name: value for name, value in os.environ.items() if name not in TOKENS}
    # In 200 columns rich folds no text that a test looks for.
    return Mesh(home, {**environment, "MESH_HOME": str(home), "COLUMNS": "200", **ports})


def running_mesh(mesh: Mesh) -> Iterator[Mesh]:
    """Start a whole mesh, Airflow included, for a fixture; stop it when the fixture ends.

    Interrupted tests stop it as well. Fails when `mesh down` leaves a process behind.
    """
    if not (ROOT / ".venv-airflow" / "bin" / "airflow").exists():
        pytest.fail("Airflow's environment is missing: run `make install`")
    with run_if_orphaned([MESH, "down"], mesh.environment):
        try:
            mesh.run("up", "--detach")
            # Clients of the mesh in the tests' own process take the token from here.
            with pytest.MonkeyPatch.context() as environment:
                environment.setenv("MESH_TOKEN", mesh.token)
                yield mesh
        finally:
            mesh.run("down")
    left = subprocess.run(["pgrep", "-f", str(mesh.home)], capture_output=True, text=True)
    assert left.stdout == "", f"`mesh down` left processes behind: {left.stdout}"
