"""How the answers of Docker are read."""

import json

import pytest

from mesh_cli.compose.containers import part_statuses, published_address, read_ps
from mesh_cli.deployments.deployment import PartStatus


def _listed(service: str, state: str, **more: object) -> dict[str, object]:
    return {"Service": service, "Name": f"mesh-{service}-1", "State": state, **more}


@pytest.mark.parametrize(
    ("container", "healthy"),
    [
        (_listed("mlflow", "running", Health="healthy"), True),
        (_listed("mlflow", "running", Health=""), True),
        (_listed("mlflow", "running"), True),
        (_listed("mlflow", "running", Health="starting"), False),
        (_listed("mlflow", "restarting"), False),
        (_listed("mlflow", "exited", ExitCode=0), False),
        (_listed("envoy-config", "exited", ExitCode=0), True),
        (_listed("airflow-migrate", "exited", ExitCode=1), False),
        (_listed("mlflow", "created"), False),
    ],
)
def test_which_container_is_healthy(container: dict[str, object], healthy: bool) -> None:
    [status] = part_statuses([container], [], {})
    assert status.healthy is healthy


def test_a_service_without_a_container_has_a_status() -> None:
    containers = [
        {"Service": "inference", "Name": f"mesh-inference-{n}", "State": "running"} for n in (10, 2)
    ]
    statuses = part_statuses(containers, ["envoy", "inference"], {"envoy": "http://x"})
    assert statuses[0] == PartStatus("envoy", False, None, "http://x", "has no container")
    assert [status.name for status in statuses[1:]] == ["inference-2", "inference-10"]


def test_an_array_and_lines_of_objects_are_both_read() -> None:
    containers = [{"Name": "a"}, {"Name": "b"}]
    assert read_ps(json.dumps(containers)) == containers
    assert read_ps("".join(f"{json.dumps(item)}\n" for item in containers)) == containers
    assert read_ps("\n") == read_ps("[]\n") == []


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8000\n", ("127.0.0.1", 8000)),
        ("0.0.0.0:8000\n[::]:8000\n", ("127.0.0.1", 8000)),
        ("[::]:8000", ("127.0.0.1", 8000)),
        ("10.1.2.3:8000", ("10.1.2.3", 8000)),
        ("[fd00::1]:8000", ("[fd00::1]", 8000)),
        (":0", None),
        ("", None),
    ],
)
def test_published_ports_are_read(text: str, address: tuple[str, int] | None) -> None:
    assert published_address(text) == address
