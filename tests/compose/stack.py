"""A copy of the project with containers of its own, spoken to by `docker` and `mesh`."""

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

# Building images, the torch one above all.
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
        """Copy what git knows of the project; its Compose project and ports are its own."""
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
        """The ports that may be seen from outside."""
        return {int(self.environment[name]) for name in _PORTS}

    @cached_property
    def secrets(self) -> dict[str, str]:
        """The secret values, by what they are for."""
        folder = self.folder / "secrets"
        found = {
            path.name: path.read_text().strip().rpartition(":")[2]
            for path in folder.iterdir()
            if path.suffix != ".json"
        }
        found |= json.loads((folder / "airflow_passwords.json").read_text())
        return {name: value for name, value in found.items() if value}

    def init(self) -> None:
        """`mesh init` with secrets of the operator's own, which nobody accepts."""
        own = {name: f"secret_{uuid.uuid4().hex}" for name in ("HUGGINGFACE_TOKEN", "SLACK_URL")}
        self._run([str(MESH), "init"], self.environment | own)

    def mesh(self, *arguments: str) -> str:
        """Output of `mesh --context compose …`."""
        return self._run([str(MESH), *arguments])

    def json(self, *arguments: str) -> Any:
        """What `mesh … --json` says."""
        return json.loads(self.mesh(*arguments, "--json"))

    def compose(self, *arguments: str) -> str:
        """Output of `docker compose …`."""
        return self.docker("compose", *arguments)

    def docker(self, *arguments: str) -> str:
        """Output of `docker …`."""
        return self._run(["docker", *arguments])

    def file_system(self, container: str) -> Iterator[bytes]:
        """A container's files as one archive, in parts that overlap."""
        with subprocess.Popen(["docker", "export", container], stdout=subprocess.PIPE) as export:
            assert export.stdout is not None
            before = b""
            while part := export.stdout.read(_PART_BYTES):
                yield before + part
                before = part[-_LONGEST_SECRET:]
        assert export.returncode == 0

    def containers(self, *services: str) -> list[dict[str, Any]]:
        """What `docker inspect` says of the services' containers, ended ones included."""
        ids = self.compose("ps", "--all", "--quiet", *services).split()
        found: list[dict[str, Any]] = json.loads(self.docker("inspect", *ids))
        return found

    def remove_images(self) -> None:
        """Remove the images that were built here."""
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
