"""The `mesh` command in the context of containers, over a twin of Docker."""

import json
from typing import Any

from typer.testing import CliRunner, Result

from mesh_cli.main import app
from tests.unit.cli.docker_twin import TwinDocker


class ComposeCommand:
    """Runs `mesh --context compose …`; the control plane behind Envoy's port is a stub."""

    def __init__(self, docker: TwinDocker, address: str) -> None:
        self.docker = docker
        self.address = address
        docker.ports["envoy"] = f"{address}\n"

    def __call__(self, *arguments: str) -> Result:
        return CliRunner().invoke(app, ["--context", "compose", *arguments])

    def json(self, *arguments: str) -> Any:
        """The document that the command prints with --json; it must succeed."""
        result = self(*arguments, "--json")
        assert result.exit_code == 0, (result.output, result.exception)
        return json.loads(result.stdout)
