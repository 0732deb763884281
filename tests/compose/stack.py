"""A copy of the project whose containers tests control by `docker` and `mesh`."""

import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.real_parts.postgres import free_port
from tests.whole_mesh.running_mesh import MESH, ROOT

# Longest time of one command: building the image with torch takes many minutes.
TIMEOUT_S = 3600.0
_PART_BYTES = 1 << 24
_LONGEST_SECRET = 1024
_PORTS = ("MESH_PORT", "MESH_MLFLOW_PORT", "MESH_AIRFLOW_PORT")


@dataclass(frozen=True)
class Stack:
    """The containers of one Compose project."""

    folder: Path
    environment: dict[str, str]

    @classmethod
    def in_folder(cls, folder: Path) -> "Stack":
        """Copy the files that git tracks into `folder`; choose a project name and free ports."""
        listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, check=True)
        for name in listed.stdout.decode().splitlines():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target)
        tag = f"test-{uuid.uuid4().hex[:8]}"
        own = {name: str(free_port()) for name in _PORTS}
        own |= {
            "COMPOSE_PROJECT_NAME": f"mesh-{tag}",
            "MESH_VERSION": tag,
            "MESH_CONTEXT": "compose",
            "MESH_COMPOSE_FOLDER": str(folder),
            "COLUMNS": "200",
            "BUILDKIT_PROGRESS": "plain",
        }
        return cls(folder, os.environ | own)

    @property
    def address(self) -> str:
        """host:port of Envoy."""
        return f"127.0.0.1:{self.environment['MESH_PORT']}"

    @property
    def project(self) -> str:
        """Name of the Compose project."""
        return self.environment["COMPOSE_PROJECT_NAME"]

    @property
    def published(self) -> set[int]:
        """The three ports that are published on this machine."""
        return {int(self.environment[name]) for name in _PORTS}

    @cached_property
    def secrets(self) -> dict[str, str]:
        """The values of all secrets that are not empty, by file or, for Airflow, by user."""
        folder = self.folder / "secrets"
        values = {
            path.name: path.read_text().strip().rpartition(":")[2]
            for path in folder.iterdir()
            if path.suffix != ".json"
        }
        values |= json.loads((folder / "airflow_passwords.json").read_text())
        return {name: value for name, value in values.items() if value}

    def init(self) -> None:
        """Run `mesh init` with made-up tokens for Hugging Face and Slack, which both refuse."""
        own = {name: f"secret_{uuid.uuid4().hex}" for name in ("HUGGINGFACE_TOKEN", "SLACK_URL")}
        self._run([str(MESH), "init"], self.environment | own)

    def mesh(self, *arguments: str) -> str:
        """Run `mesh --context compose …`; return its output."""
        return self._run([str(MESH), *arguments])

    def json(self, *arguments: str) -> Any:
        """Run `mesh --context compose … --json`; return its decoded output."""
        return json.loads(self.mesh(*arguments, "--json"))

    def compose(self, *arguments: str) -> str:
        """Run `docker compose …`; return its output."""
        return self.docker("compose", *arguments)

    def docker(self, *arguments: str) -> str:
        """Run `docker …`; return its output."""
        return self._run(["docker", *arguments])

    def file_system(self, container: str) -> Iterator[bytes]:
        """A container's files as one tar archive, in parts that overlap by 1 KiB.

        Thus a secret that lies across the border of two parts is whole in the second one.
        """
        with subprocess.Popen(["docker", "export", container], stdout=subprocess.PIPE) as export:
            assert export.stdout is not None
            before = b""
            while part := export.stdout.read(_PART_BYTES):
                yield before + part
                before = part[-_LONGEST_SECRET:]
        assert export.returncode == 0

    def containers(self, *services: str) -> list[dict[str, Any]]:
        """The output of `docker inspect` for the services' containers, ended ones included."""
        ids = self.compose("ps", "--all", "--quiet", *services).split()
        containers: list[dict[str, Any]] = json.loads(self.docker("inspect", *ids))
        return containers

    def remove_images(self) -> None:
        """Remove the images that this stack has built."""
        tagged = f"reference=*:{self.environment['MESH_VERSION']}"
        ids = self.docker("images", "--quiet", "--filter", tagged).split()
        if ids:
            self.docker("image", "rm", "--force", *dict.fromkeys(ids))

    def rows(self, database: str, query: str) -> list[str]:
        """Rows of a query, as psql prints them without decoration."""
        command = ("psql", "-U", "postgres", "-At", "-c", query, database)
        return self.compose("exec", "-T", "postgres", *command).splitlines()

    def _run(self, command: Sequence[str], environment: dict[str, str] | None = None) -> str:
        result = subprocess.run(
            command,
            cwd=self.folder,
            env=environment or self.environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        tail = f"{result.stdout[-4000:]}{result.stderr[-4000:]}"
        assert result.returncode == 0, f"{' '.join(command)}: {tail}"
        return result.stdout
