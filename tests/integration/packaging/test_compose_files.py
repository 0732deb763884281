"""The Compose files as Docker Compose reads them, and what each image installs."""

import json
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from requirements import images
from tests.whole_mesh.running_mesh import ROOT

GPU = ("-f", "compose.yaml", "-f", "compose.gpu.yaml", "-f", "compose.gpu-inference.yaml")


@cache
def has_compose() -> bool:
    """Docker may be there without its plugin, and says so in other words with each version."""
    return (
        bool(shutil.which("docker"))
        and not subprocess.run(
            ["docker", "compose", "version"], capture_output=True, check=False
        ).returncode
    )


def compose(*arguments: str) -> Any:
    """`docker compose config`, which talks to no engine."""
    if not has_compose():
        pytest.skip("there is no Docker Compose here")
    result = subprocess.run(
        ["docker", "compose", *arguments, "config", "--format", "json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_only_three_ports_are_published_on_loopback() -> None:
    services = compose()["services"]
    published = {
        (name, port["host_ip"], port["published"])
        for name, service in services.items()
        for port in service.get("ports", ())
    }
    assert published == {
        ("envoy", "127.0.0.1", "8000"),
        ("mlflow", "127.0.0.1", "5001"),
        ("airflow-api-server", "127.0.0.1", "8080"),
    }
    assert compose()["networks"]["mesh"]["internal"]


def test_every_container_is_bounded_and_checked() -> None:
    for name, service in compose()["services"].items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["deploy"]["resources"]["limits"]["memory"], name
        if name not in ("envoy-config", "airflow-migrate"):
            assert service["restart"] == "unless-stopped", name
            assert service["stop_grace_period"], name


def test_no_password_is_in_the_file() -> None:
    for name, service in compose()["services"].items():
        for variable, value in (service.get("environment") or {}).items():
            if "PASSWORD" in variable:
                assert value.startswith(("/run/", "/tmp/")), f"{name}: {variable}"


@pytest.mark.parametrize("service", ["training", "inference"])
def test_a_gpu_is_reserved(service: str) -> None:
    found = compose(*GPU)["services"][service]
    [device] = found["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]
    assert found["environment"][f"{service.upper()}_DEVICE"] == "cuda"
    assert found["image"].endswith("-cuda")


@pytest.mark.parametrize("image", images.IMAGES)
def test_what_an_image_installs_is_up_to_date(image: str) -> None:
    """Else run `python requirements/images.py`."""
    assert (ROOT / "requirements" / f"{image}.txt").read_text() == images.render(image)


def dockerfiles() -> Sequence[Path]:
    return sorted(path for path in ROOT.glob("*/**/Dockerfile") if "build" not in path.parts)


def test_a_dockerfile_for_each_image_of_ours() -> None:
    named = {
        service["build"]["dockerfile"]
        for service in compose()["services"].values()
        if "build" in service
    }
    assert named == {str(path.relative_to(ROOT)) for path in dockerfiles()}
