"""Reads Docker's answers about the mesh's containers into plain values."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mesh_cli.compose.engine import Engine
from mesh_cli.deployments.deployment import PartStatus
from mesh_cli.errors import CliError

INFERENCE = "inference"
# Services whose containers end with 0 when their work is done.
ONE_SHOTS = frozenset({"database-roles", "envoy-config", "airflow-migrate"})

_PRESENT = frozenset({"running", "restarting", "paused"})
_NUMBER_LABEL = "com.docker.compose.container-number"


@dataclass(frozen=True)
class Container:
    """A container of the inference service."""

    id: str
    number: int
    image_id: str
    addresses: frozenset[str]
    present: bool
    """Whether it runs, or will run again."""

    @property
    def name(self) -> str:
        """Name of the part, for example `inference-2`."""
        return f"{INFERENCE}-{self.number}"


def read_ps(text: str) -> list[dict[str, Any]]:
    """Read `docker compose ps --format json`: one array, or one object per line."""
    if text.lstrip().startswith("["):
        containers: list[dict[str, Any]] = json.loads(text)
        return containers
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def part_statuses(
    containers: Iterable[Mapping[str, Any]], services: Iterable[str], urls: Mapping[str, str]
) -> list[PartStatus]:
    """State of each container, and of each service without one, in the order of `services`.

    urls: URLs by service, of those that have one.
    """
    by_service: dict[str, list[PartStatus]] = {name: [] for name in services}
    for container in containers:
        service = container["Service"]
        url = urls.get(service, "")
        by_service.setdefault(service, []).append(_status(container, url))
    statuses = []
    for service, present in by_service.items():
        missing = PartStatus(service, False, None, urls.get(service, ""), "has no container")
        statuses += sorted(present, key=lambda status: _number(status.name)) or [missing]
    return statuses


def _status(container: Mapping[str, Any], url: str) -> PartStatus:
    service, state = container["Service"], container["State"]
    # The number of `mesh-inference-2` names the replica; other services have one container each.
    name = f"{service}-{_number(container['Name'])}" if service == INFERENCE else service
    # `Up 2 minutes (healthy)`, `Exited (1) 3 seconds ago`; older versions of Compose lack it.
    description = container.get("Status") or f"{state} {container.get('ExitCode', '')}".strip()
    detail = f"{container.get('Image', '')}: {description}".removeprefix(": ")
    return PartStatus(name, _healthy(container), None, url, detail)


def _healthy(container: Mapping[str, Any]) -> bool:
    if container["State"] == "exited":
        return container["Service"] in ONE_SHOTS and container.get("ExitCode") == 0
    return container["State"] == "running" and container.get("Health", "") in ("", "healthy")


def _number(name: str) -> int:
    number = name.rpartition("-")[2]
    return int(number) if number.isdecimal() else 0


def inference_containers(engine: Engine) -> list[Container]:
    """All containers of the inference service, the oldest first. Raises CliError."""
    ids = engine.compose("ps", "--all", "--quiet", INFERENCE).split()
    if not ids:
        return []
    containers = [_container(entry) for entry in json.loads(engine.docker("inspect", *ids))]
    return sorted(containers, key=lambda container: container.number)


def _container(entry: Mapping[str, Any]) -> Container:
    networks: Mapping[str, Mapping[str, Any]] = entry["NetworkSettings"]["Networks"] or {}
    return Container(
        id=entry["Id"],
        number=int(entry["Config"]["Labels"][_NUMBER_LABEL]),
        image_id=entry["Image"],
        addresses=frozenset(
            network["IPAddress"] for network in networks.values() if network["IPAddress"]
        ),
        present=entry["State"]["Status"] in _PRESENT,
    )


@dataclass(frozen=True)
class InferenceService:
    """The inference service of compose.yaml."""

    replicas: int
    image: str


def inference_service(engine: Engine) -> InferenceService:
    """Read it from compose.yaml with all variables filled in. Raises CliError."""
    document = json.loads(engine.compose("config", "--format", "json"))
    try:
        service = document["services"][INFERENCE]
    except KeyError:
        raise CliError(f"compose.yaml has no service {INFERENCE}") from None
    return InferenceService(
        replicas=int(service.get("deploy", {}).get("replicas", 1)),
        image=service.get("image") or f"{document['name']}-{INFERENCE}",
    )


def image_id(engine: Engine, image: str) -> str:
    """Id of a local image. Raises CliError."""
    return engine.docker("image", "inspect", "--format", "{{.Id}}", image).strip()


def published_address(text: str) -> tuple[str, int] | None:
    """Read the host and port that `docker compose port` prints; None when it prints none.

    For a port that is published on every interface the host is loopback.
    """
    host, _, port = text.strip().partition("\n")[0].rpartition(":")
    if not port.isdecimal() or port == "0":
        return None
    everywhere = host.strip("[]") in ("", "0.0.0.0", "::")  # noqa: S104
    return "127.0.0.1" if everywhere else host, int(port)


def names(containers: Sequence[Container]) -> list[str]:
    """Names of the parts."""
    return [container.name for container in containers]
