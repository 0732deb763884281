"""A twin of the `docker` command that keeps a list of containers and runs none."""

import json
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesh.v1 import reload_pb2
from mesh_cli.compose.engine import Engine, Output

SERVICES = ("envoy", "envoy-config", "inference", "mlflow", "postgres")


@dataclass
class TwinContainer:
    """One container."""

    service: str
    number: int
    image: str
    address: str
    state: str = "running"
    health: str = "healthy"
    exit_code: int = 0

    @property
    def id(self) -> str:
        return f"id-{self.service}-{self.number}-{self.address}"

    def inspected(self) -> dict[str, Any]:
        return {
            "Id": self.id,
            "Image": self.image,
            "Config": {"Labels": {"com.docker.compose.container-number": str(self.number)}},
            "State": {"Status": self.state},
            "NetworkSettings": {
                "Networks": {
                    "mesh_default": {"IPAddress": self.address if self.state == "running" else ""}
                }
            },
        }

    def listed(self) -> dict[str, Any]:
        return {
            "Name": f"mesh-{self.service}-{self.number}",
            "Service": self.service,
            "Image": f"mesh/{self.service}",
            "State": self.state,
            "Health": self.health if self.state == "running" else "",
            "ExitCode": self.exit_code,
            "Status": f"Exited ({self.exit_code}) 2 minutes ago"
            if self.state == "exited"
            else f"Up 2 minutes ({self.health})",
        }


class TwinDocker:
    """The containers of one project, with two replicas of the image `old`."""

    def __init__(self, folder: Path) -> None:
        (folder / "compose.yaml").write_text("")
        (folder / ".env").write_text("MESH_REPLICAS=2\n")
        self.engine = Engine(folder, self.run)
        self.commands: list[str] = []
        self.stdin = ""
        self.on_command: Callable[[str], object] = lambda command: None
        self.image = "old"
        self.ports = {"envoy": "127.0.0.1:8000\n", "mlflow": "0.0.0.0:5001\n"}
        self.containers = [
            TwinContainer(name, 1, name, "") for name in SERVICES if name != "inference"
        ]
        self.containers[1].state = "exited"
        self.made = 0
        self.broken: set[str] = set()
        self.listed_for_ever: set[str] = set()
        self.max_replicas = 0
        self.failure: dict[str, str] = {}
        # What `docker compose exec -T SERVICE …` prints, by service.
        self.printed: dict[str, str] = {}
        self.grow_to(2)
        self.max_replicas = 0

    @property
    def folder(self) -> Path:
        return self.engine.folder

    @property
    def replicas(self) -> list[TwinContainer]:
        return [container for container in self.containers if container.service == "inference"]

    def summary(self) -> list[tuple[str, str]]:
        """Name and image of each replica."""
        return [(f"inference-{container.number}", container.image) for container in self.replicas]

    def grow_to(self, count: int) -> None:
        for container in self.replicas:
            container.state = "running"
        while len(self.replicas) < count:
            numbers = {container.number for container in self.replicas}
            number = next(n for n in range(1, 100) if n not in numbers)
            self.made += 1
            address = f"172.18.0.{self.made + 9}"
            self.containers.append(TwinContainer("inference", number, self.image, address))
        self.max_replicas = max(self.max_replicas, len(self.replicas))

    def fleet(self) -> reload_pb2.Fleet:
        """The fleet as the control plane would list it."""
        return reload_pb2.Fleet(replicas=self.fleet_replicas())

    def fleet_replicas(self) -> list[reload_pb2.Replica]:
        running = {
            container.address: container
            for container in self.replicas
            if container.state == "running"
        }
        return [
            reload_pb2.Replica(
                id=address,
                address=f"{address}:9001",
                eligible=address in running
                and f"inference-{running[address].number}" not in self.broken,
                detail="is starting",
            )
            for address in sorted({*running, *self.listed_for_ever})
        ]

    def run(
        self, command: Sequence[str], *, folder: Path, stdin: str, output: Output
    ) -> "subprocess.CompletedProcess[str]":
        assert folder == self.folder
        assert command[0] == "docker"
        words = list(command[1:])
        if words[0] == "compose":
            assert words[1:3] == ["--project-directory", str(folder)]
            words = ["compose", *words[3:]]
        text = " ".join(words)
        self.commands.append(text)
        for beginning, complaint in self.failure.items():
            if text.startswith(beginning):
                return subprocess.CompletedProcess(command, 1, "", complaint + "\n")
        self.stdin = stdin or self.stdin
        self.on_command(text)
        answer = self._compose(words[1:]) if words[0] == "compose" else self._docker(words)
        return subprocess.CompletedProcess(command, 0, answer, "")

    def _compose(self, words: list[str]) -> str:
        match words:
            case ["ps", "--all", "--quiet", "inference"]:
                return "".join(f"{container.id}\n" for container in self.replicas)
            case ["ps", "--all", "--format", "json"]:
                return "".join(
                    f"{json.dumps(container.listed())}\n" for container in self.containers
                )
            case ["config", "--services"]:
                return "\n".join(SERVICES)
            case ["config", "--format", "json"]:
                env = (self.folder / ".env").read_text().split("=")
                service = {"deploy": {"replicas": int(env[1])}, "image": "mesh/inference"}
                return json.dumps({"name": "mesh", "services": {"inference": service}})
            case ["port", service, _]:
                return self.ports.get(service, ":0\n")
            case ["up", *options] if "--scale" in options:
                assert {"--detach", "--no-deps", "--no-recreate"} <= set(options)
                self.grow_to(int(options[options.index("--scale") + 1].removeprefix("inference=")))
                return ""
            case ["exec", "-T", service, *_] if service in self.printed:
                return self.printed[service]
            case ["up" | "down" | "exec" | "logs" | "build", *_]:
                return ""
        raise AssertionError(words)

    def _docker(self, words: list[str]) -> str:
        match words:
            case ["inspect", *ids]:
                return json.dumps([self._find(name).inspected() for name in ids])
            case ["stop", name]:
                self._find(name).state = "exited"
                return name
            case ["rm", "--force", "--volumes", name]:
                self.containers.remove(self._find(name))
                return name
            case ["image", "inspect", "--format", "{{.Id}}", "mesh/inference"]:
                return f"{self.image}\n"
        raise AssertionError(words)

    def _find(self, name: str) -> TwinContainer:
        [match] = [container for container in self.containers if container.id == name]
        return match
