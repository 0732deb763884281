"""The whole mesh in containers: the loop, disturbances under load, ports, secrets, a restart.

`make compose-test` runs this file, which needs Docker with Compose v2. The tests build on each
other in the order of the file.
"""

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from tests.compose.conftest import Figures
from tests.compose.stack import Stack
from tests.real_parts.steady_load import under_load

pytestmark = [pytest.mark.compose, pytest.mark.timeout(1800)]

CLIENTS = 32
MODEL = "reviews"
OURS = ("inference", "training", "trigger", "control-plane", "mlflow", "airflow-api-server")
# Largest size of an image in MB.
LIMITS_MB = {"trigger": 300, "control-plane": 300, "inference": 1500}
# Size of the slim Python image with Debian, in MB.
SLIM_BASE_MB = 150
HEALTHY_TIMEOUT_S = 240.0


def await_healthy(stack: Stack, replicas: int = 2) -> None:
    """Wait until every container is healthy and exactly `replicas` replicas get traffic."""
    deadline = time.monotonic() + HEALTHY_TIMEOUT_S
    while True:
        try:
            eligible = [r for r in stack.json("fleet")["replicas"] if r.get("eligible")]
            if stack.json("status")["healthy"] and len(eligible) == replicas:
                return
        except AssertionError as error:
            # `mesh status` fails while something is not healthy.
            last = error
        else:
            last = AssertionError(f"{len(eligible)} replicas, not {replicas}")
        if time.monotonic() > deadline:
            raise last
        time.sleep(1)


async def disturbed(
    stack: Stack, figures: Figures, name: str, disturb: Callable[[], object]
) -> None:
    """Call `disturb` while clients call Predict without a pause: none of their calls may fail."""
    async with under_load(stack.address, MODEL, CLIENTS) as load:
        await asyncio.to_thread(disturb)
        await load.more(300)
    figures.add(name, f"{len(load.versions):,} requests, {len(load.failures)} failed")
    assert not load.failures, load.failures[:5]


def kill(container: dict[str, Any]) -> None:
    """Kill a container's process, which Docker takes for a crash, so that it restarts it."""
    os.kill(container["State"]["Pid"], signal.SIGKILL)


def test_images_are_small_and_hold_no_tools(stack: Stack, figures: Figures) -> None:
    for name in OURS:
        [container] = stack.containers(name)[:1]
        image = stack.docker("image", "inspect", "--format", "{{.Size}}", container["Image"])
        size = int(image) / 1e6
        figures.add(f"image {name}", f"{size:,.0f} MB")
        base = int(stack.docker("image", "inspect", "--format", "{{.Size}}", base_of(name))) / 1e6
        figures.add(f"image {name}, on top of {base_of(name)}", f"{size - base:,.0f} MB")
        if name in LIMITS_MB:
            # A base image above its usual size is not this project's doing, and does not count.
            assert size - max(0.0, base - SLIM_BASE_MB) <= LIMITS_MB[name], name
    for name in LIMITS_MB:
        tools = stack.compose("exec", "-T", name, "sh", "-c", "command -v gcc make || true")
        assert not tools.strip(), name
        packages = stack.compose("exec", "-T", name, "sh", "-c", "ls /opt/mesh/lib/*/site-packages")
        assert not {"pip", "torch", "mlflow", "setuptools"} & set(packages.split())


def base_of(service: str) -> str:
    """Name of the image from which a service's image is built."""
    airflow = service.startswith("airflow")
    return "apache/airflow:3.3.2-python3.11" if airflow else "python:3.11-slim-bookworm"


def test_the_loop_brings_a_better_model_and_no_request_fails(
    stack: Stack, figures: Figures
) -> None:
    demo = stack.json("demo")
    figures.add(
        "the loop: accuracy before and after",
        f"{demo['first_accuracy']:.3f} → {demo['second_accuracy']:.3f}",
    )
    figures.add("the loop: commit to first answer", f"{demo['commit_to_first_answer_s']:.1f} s")
    figures.add("the loop", f"{demo['requests']:,} requests, {demo['failed']} failed")
    assert demo["failed"] == 0
    assert demo["model"] == MODEL
    assert demo["second_accuracy"] > demo["first_accuracy"]


async def test_no_request_fails_while_a_replica_is_killed(stack: Stack, figures: Figures) -> None:
    if os.geteuid():
        pytest.skip("only root may kill a container's process")
    victim = stack.containers("inference")[0]
    await disturbed(stack, figures, "a replica killed", lambda: kill(victim))
    await asyncio.to_thread(await_healthy, stack)


async def test_no_request_fails_while_the_trigger_service_restarts(
    stack: Stack, figures: Figures
) -> None:
    await disturbed(
        stack, figures, "trigger restarted", lambda: stack.compose("restart", "trigger")
    )
    await asyncio.to_thread(await_healthy, stack)


@pytest.mark.parametrize("count", [4, 2])
async def test_no_request_fails_while_the_fleet_is_scaled(
    stack: Stack, figures: Figures, count: int
) -> None:
    await disturbed(
        stack, figures, f"scaled to {count} replicas", lambda: stack.mesh("scale", str(count))
    )
    running = stack.compose("ps", "--quiet", "inference").split()
    assert len(running) == count


async def test_no_request_fails_while_a_new_image_is_rolled_out(
    stack: Stack, figures: Figures
) -> None:
    before = {container["Image"] for container in stack.containers("inference")}
    with (stack.folder / "inference_svc" / "main.py").open("a") as file:
        file.write("# Another image.\n")
    stack.compose("build", "inference")
    await disturbed(stack, figures, "new inference image", lambda: stack.mesh("roll"))
    after = {container["Image"] for container in stack.containers("inference")}
    assert len(stack.compose("ps", "--quiet", "inference").split()) == 2
    assert not before & after
    stack.docker("image", "rm", *before)


async def test_no_request_fails_while_postgres_restarts_and_the_loop_goes_on(
    stack: Stack, figures: Figures
) -> None:
    await disturbed(
        stack, figures, "PostgreSQL restarted", lambda: stack.compose("restart", "postgres")
    )
    await asyncio.to_thread(await_healthy, stack)
    demo = await asyncio.to_thread(stack.json, "demo")
    assert demo["failed"] == 0
    figures.add(
        "the loop after that: commit to first answer", f"{demo['commit_to_first_answer_s']:.1f} s"
    )


def test_every_containers_memory_is_measured(stack: Stack, figures: Figures) -> None:
    ids = stack.compose("ps", "--quiet").split()
    lines = stack.docker(
        "stats", "--no-stream", "--format", "{{.Name}}\t{{.MemUsage}}", *ids
    ).splitlines()
    for line in sorted(lines):
        name, _, used = line.partition("\t")
        figures.add(f"memory {name.removeprefix(stack.project + '-')}", used)
    assert len(lines) == len(ids)


def test_only_the_published_ports_are_open_and_on_loopback_only(
    stack: Stack, figures: Figures
) -> None:
    bindings = {
        (binding["HostIp"], int(binding["HostPort"]))
        for container in stack.containers()
        for of_port in (container["HostConfig"]["PortBindings"] or {}).values()
        for binding in of_port
    }
    assert bindings == {("127.0.0.1", port) for port in stack.published}
    listening = [
        connection.laddr
        for connection in psutil.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr
    ]
    assert {at.ip for at in listening if at.port in stack.published} <= {"127.0.0.1"}
    for ip in own_addresses():
        for port in stack.published:
            with socket.socket() as outside:
                outside.settimeout(2)
                assert outside.connect_ex((ip, port)) != 0
    figures.add("published", ", ".join(f"{ip}:{port}" for ip, port in sorted(bindings)))


def test_every_container_has_few_rights_and_a_memory_limit(stack: Stack) -> None:
    for container in stack.containers():
        config, host = container["Config"], container["HostConfig"]
        name = config["Labels"]["com.docker.compose.service"]
        assert not host["Privileged"], name
        assert host["CapDrop"] == ["ALL"], name
        assert name == "postgres" or not config["User"].startswith("0"), name
        assert name.startswith("airflow") or host["ReadonlyRootfs"], name
        assert host["Memory"], name


def own_addresses() -> list[str]:
    """This machine's IPv4 addresses other than loopback and Docker's bridges."""
    return [
        address.address
        for name, addresses in psutil.net_if_addrs().items()
        for address in addresses
        if address.family == socket.AF_INET
        and not address.address.startswith("127.")
        and not name.startswith(("br-", "docker", "veth"))
    ]


def test_secrets_are_nowhere_but_in_their_files(stack: Stack, figures: Figures) -> None:
    assert len(stack.secrets) >= 6
    for path in (stack.folder / "secrets").iterdir():
        assert path.stat().st_mode & 0o777 == 0o600
    values = [value.encode() for value in stack.secrets.values()]
    containers = stack.containers()
    images = sorted({container["Image"] for container in containers})
    places = {
        "docker inspect": str(containers),
        "docker history": "".join(stack.docker("history", "--no-trunc", image) for image in images),
        "logs": stack.compose("logs", "--no-color"),
        "command lines": "\n".join(
            " ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])
        ),
    }
    for place, text in places.items():
        assert not any(value in text.encode() for value in values), place
    size = 0
    for container in containers:
        # The exported archive holds the container's own file system, not its mounts.
        for part in stack.file_system(container["Id"]):
            size += len(part)
            assert not any(value in part for value in values), container["Name"]
    figures.add(
        "secret values found",
        f"0 of {len(stack.secrets)} in inspect, history, logs, command lines "
        f"and {size / 1e9:.1f} GB of file systems",
    )


def test_everything_is_there_after_down_and_up(stack: Stack, figures: Figures) -> None:
    def state() -> dict[str, Any]:
        return {
            "rows": stack.rows("training", f"SELECT count(*) FROM training.{MODEL}"),
            "versions": stack.rows(
                "mlflow", "SELECT name, version FROM model_versions ORDER BY 1, 2"
            ),
            "aliases": stack.rows("mlflow", "SELECT * FROM registered_model_aliases ORDER BY 1, 2"),
            "jobs": stack.rows("training", "SELECT id, state FROM mesh.training_jobs ORDER BY 1"),
            "runs": stack.rows("airflow", "SELECT run_id, state FROM dag_run ORDER BY 1"),
        }

    before = state()
    stack.mesh("down")
    begin = time.monotonic()
    stack.mesh("up")
    figures.add("from up to all healthy, again", f"{time.monotonic() - begin:.0f} s")
    await_healthy(stack)
    assert state() == before
    assert all(before.values())
    assert stack.json("predict", MODEL, "wonderful")["predictions"]
