"""What each container may do, and what it is built from, by the Compose files and Dockerfiles."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from containers import pin_images
from tests.unit.structure.source_files import ROOT

COMPOSE = ROOT / "compose.yaml"
OTHER_FILES = sorted(ROOT.glob("compose.*.yaml"))
DOCKERFILES = sorted(
    path for path in ROOT.glob("[!.]*/**/Dockerfile") if "build" not in path.relative_to(ROOT).parts
)
# Starts as root to copy its secret, and goes on as the user postgres with no capability.
STARTS_AS_ROOT = {"postgres"}
# Airflow writes its configuration into its home folder at each start.
WRITABLE = re.compile(r"airflow-.*")
# Images without a digest. A digest can be taken from an image's registry only, and the machines on
# which this project is written reach none: `python containers/pin_images.py` does it elsewhere.
NOT_PINNED_YET = {
    "envoyproxy/envoy:v1.40.0",
    "python:3.11-slim-bookworm",
    "apache/airflow:3.3.2-python3.11",
    "postgres:17-trixie",
}
PINNED = re.compile(r"[\w./-]+:[\w.-]*\d[\w.-]*@sha256:[0-9a-f]{64}")


def services() -> dict[str, dict[str, Any]]:
    """The services of compose.yaml, with what its anchors bring."""
    found: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE.read_text())["services"]
    return found


@pytest.mark.parametrize("name", services())
def test_every_container_has_bounds_on_processes_cores_and_memory(name: str) -> None:
    service = services()[name]
    limits = service["deploy"]["resources"]["limits"]
    assert 0 < service["pids_limit"] <= 1024
    assert re.fullmatch(r"\d+|\$\{[A-Z_]+:-\d+\}", limits["cpus"])
    assert re.fullmatch(r"\d+[mg]|\$\{[A-Z_]+:-\d+[mg]\}", limits["memory"])


@pytest.mark.parametrize("name", services())
def test_every_container_has_few_rights(name: str) -> None:
    service = services()[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not set(service) & {"privileged", "devices", "pid", "ipc", "network_mode", "userns_mode"}
    assert service["read_only"] is True or WRITABLE.fullmatch(name)
    if name in STARTS_AS_ROOT:
        given = {"CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"}
        assert set(service["cap_add"]) <= given
        assert service["entrypoint"] == ["/mesh/entrypoint.sh"]
    else:
        assert "cap_add" not in service
        assert service["user"] == "${MESH_UID:-50000}:${MESH_GID:-0}"


@pytest.mark.parametrize("name", services())
def test_no_container_sees_the_machines_files(name: str) -> None:
    for volume in services()[name].get("volumes", ()):
        if isinstance(volume, dict):
            # A folder of the secrets; only the two containers that renew certificates write there.
            assert volume["source"].startswith("${MESH_SECRETS:-./secrets}/"), volume
            assert volume["read_only"] or name in ("certificates", "identities"), volume
            continue
        source, _, options = volume.partition(":")
        # A named volume, or a file of the project that cannot be written.
        assert re.fullmatch(r"[a-z-]+", source) or (
            source.startswith("./containers/") and options.endswith(":ro")
        ), volume


@pytest.mark.parametrize("path", OTHER_FILES, ids=lambda path: path.name)
def test_no_other_file_takes_these_bounds_away(path: Path) -> None:
    for service in yaml.safe_load(path.read_text())["services"].values():
        changed = set(service) & {"cap_drop", "cap_add", "security_opt", "user", "read_only"}
        assert not changed | (set(service) & {"privileged", "pids_limit", "network_mode"})


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_image_runs_as_a_user_who_is_not_root(path: Path) -> None:
    text = path.read_text()
    users = re.findall(r"(?m)^USER (\S+)$", text)
    # Airflow's own image ends as its user 50000.
    assert users[-1:] == ["50000:0"] or (not users and "FROM ${AIRFLOW_IMAGE}" in text)


def foreign_images() -> Iterator[tuple[str, str]]:
    """Every image that is not built here, with the file that names it."""
    for path in (COMPOSE, *OTHER_FILES):
        for service in yaml.safe_load(path.read_text())["services"].values():
            if (image := service.get("image", "")) and not image.startswith("mesh-"):
                yield path.name, image
    for path in DOCKERFILES:
        text = path.read_text()
        given = dict(re.findall(r"(?m)^ARG (\w+)=(\S*)$", text))
        stages = set(re.findall(r"(?m)^FROM \S+ AS (\w+)$", text))
        copied = re.findall(r"(?m)^COPY .*--from=(\S+)", text)
        for image in (*re.findall(r"(?m)^FROM (\S+)", text), *copied):
            variable = re.fullmatch(r"\$\{(\w+)\}", image)
            name = given[variable[1]] if variable else image
            if name not in stages:
                yield str(path.relative_to(ROOT)), name


def test_every_foreign_image_is_pinned_by_digest_or_listed() -> None:
    found = set(foreign_images())
    assert len({image for _, image in found}) >= 4
    wrong = {
        (file, image)
        for file, image in found
        if not PINNED.fullmatch(image) and image not in NOT_PINNED_YET
    }
    assert wrong == set(), "pin it: `python containers/pin_images.py`"


def test_pinning_adds_a_digest_to_each_of_them_and_to_nothing_else() -> None:
    digest = f"sha256:{'0a' * 32}"
    asked: list[str] = []

    def digest_of(image: str) -> str:
        asked.append(image)
        return digest

    for path in (COMPOSE, *OTHER_FILES, *DOCKERFILES):
        before = path.read_text()
        after = pin_images.pinned(before, digest_of)
        assert after.replace(f"@{digest}", "") == before
        assert pin_images.pinned(after, digest_of) == after
    assert set(asked) == NOT_PINNED_YET


def test_the_list_of_images_without_a_digest_names_none_that_is_gone_or_pinned() -> None:
    assert set() == NOT_PINNED_YET - {image for _, image in foreign_images()}
