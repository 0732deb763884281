"""The Compose files as Docker Compose reads them, and the packages that each image installs."""

import json
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from requirements import images
from service_kit.retention import daily_cleaning
from tests.whole_mesh.running_mesh import ROOT

# Services whose containers do one thing and end.
RUN_ONCE = {"database-roles", "envoy-config", "airflow-migrate"}
# Services that nothing calls: they work while their process runs.
CLEANING = {"airflow-cleaning", "mlflow-cleaning"}
WITHOUT_DOOR = CLEANING | {"certificates", "identities"}
GPU = ("-f", "compose.yaml", "-f", "compose.gpu.yaml", "-f", "compose.gpu-inference.yaml")


@cache
def has_compose() -> bool:
    """Docker is here with its Compose plugin: without it, `docker compose version` fails."""
    return (
        bool(shutil.which("docker"))
        and not subprocess.run(
            ["docker", "compose", "version"], capture_output=True, check=False
        ).returncode
    )


def compose(*arguments: str) -> Any:
    """The decoded output of `docker compose config`, which needs no running Docker engine."""
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


def test_every_container_is_bounded() -> None:
    for name, service in compose()["services"].items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["deploy"]["resources"]["limits"]["memory"], name


def test_every_service_has_a_health_check_restarts_and_gets_time_to_stop() -> None:
    services = compose()["services"]
    for name in services.keys() - RUN_ONCE:
        service = services[name]
        assert has_health_check(service) is (name not in WITHOUT_DOOR), name
        assert service["restart"] == "unless-stopped", name
        assert service["stop_grace_period"], name


def has_health_check(service: dict[str, Any]) -> bool:
    """The service's own health check, or that of its image."""
    if check := service.get("healthcheck"):
        return not check.get("disable")
    return "\nHEALTHCHECK" in (ROOT / service["build"]["dockerfile"]).read_text()


def test_old_things_are_removed_after_the_days_of_one_setting() -> None:
    services = compose()["services"]
    for name in CLEANING:
        command = services[name]["command"]
        assert command[:3] == ["python", "/opt/mesh/daily_cleaning.py", "--days=30"]
        copied = (ROOT / services[name]["build"]["dockerfile"]).read_text()
        assert "COPY service_kit/retention/daily_cleaning.py /opt/mesh/" in copied
        assert daily_cleaning.parsed(command[2:]).days == 30


def test_variables_of_passwords_name_files() -> None:
    values = {
        f"{name}: {variable}": value
        for name, service in compose()["services"].items()
        for variable, value in (service.get("environment") or {}).items()
        if "PASSWORD" in variable
    }
    assert values
    assert {
        key: value for key, value in values.items() if not value.startswith(("/run/", "/tmp/"))
    } == {}


@pytest.mark.parametrize("service", ["training", "inference"])
def test_a_gpu_is_reserved(service: str) -> None:
    configuration = compose(*GPU)["services"][service]
    [device] = configuration["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]
    assert configuration["environment"][f"{service.upper()}_DEVICE"] == "cuda"
    assert configuration["image"].endswith("-cuda")


@pytest.mark.parametrize("image", images.IMAGES)
def test_an_images_requirements_are_up_to_date(image: str) -> None:
    written = (ROOT / "requirements" / f"{image}.txt").read_text()
    assert written == images.render(image), "run `python requirements/images.py`"


def dockerfiles() -> Sequence[Path]:
    return [
        path
        for path in sorted(ROOT.glob("[!.]*/**/Dockerfile"))
        if path.relative_to(ROOT).parts[0] != "build"
    ]


def test_compose_builds_from_every_dockerfile_of_the_project() -> None:
    named = {
        service["build"]["dockerfile"]
        for service in compose()["services"].values()
        if "build" in service
    }
    assert named == {str(path.relative_to(ROOT)) for path in dockerfiles()}
