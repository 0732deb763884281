"""Two processes of the control plane over one PostgreSQL and MLflow: one leads."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio

from control_plane.leadership.lease import LEASE_S
from mesh.v1 import reload_pb2, reload_pb2_grpc
from tests.real_parts.postgres import free_port
from tests.real_parts.service_process import start_module
from tests.real_parts.waiting import until_async

# Time that a busy machine may take beyond the lease.
SLACK_S = 8.0


@dataclass
class Process:
    """A running control plane."""

    process: asyncio.subprocess.Process
    port: int
    stub: Any

    async def answer(self) -> tuple[grpc.StatusCode, str]:
        """Ask it for a change that needs a model which there is not; return code and message."""
        request = reload_pb2.ReloadRequest(model="nobody")
        try:
            await self.stub.Reload(request, timeout=3, wait_for_ready=True)
        except aio.AioRpcError as error:
            return error.code(), error.details() or ""
        raise AssertionError("there is no such model")

    async def leads(self) -> bool:
        """Whether it carries changes out."""

        return (await self.answer())[0] is grpc.StatusCode.NOT_FOUND


@asynccontextmanager
async def control_plane(
    folder: Path, mlflow_url: str, postgres_url: str, name: str
) -> AsyncIterator[Process]:
    port = free_port()
    environment = {
        "CONTROL_PORT": str(port),
        "CONTROL_ENVOY_PORT": str(free_port()),
        "CONTROL_MLFLOW_URL": mlflow_url,
        "CONTROL_DATABASE_URL": postgres_url,
        "CONTROL_DRAIN_SECONDS": "0",
        "CONTROL_GRACE_SECONDS": "0",
    }
    process = await start_module(
        "control_plane.main", environment=environment, log=folder / f"{name}.log"
    )
    try:
        async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield Process(process, port, reload_pb2_grpc.ReloadServiceStub(channel))
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.fixture
async def two(
    tmp_path: Path, mlflow_url: str, postgres_url: str
) -> AsyncIterator[tuple[Process, Process]]:
    """The one that leads, and the other one."""
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(
            control_plane(tmp_path, mlflow_url, postgres_url, "first")
        )
        await until_async(first.leads)
        second = await stack.enter_async_context(
            control_plane(tmp_path, mlflow_url, postgres_url, "second")
        )
        yield first, second


async def names_the_leader(follower: Process, leader: Process) -> bool:
    code, message = await follower.answer()
    return code is grpc.StatusCode.UNAVAILABLE and f":{leader.port} leads" in message


async def test_the_other_one_names_the_leader_and_still_shows_the_fleet(
    two: tuple[Process, Process],
) -> None:
    leader, follower = two
    await until_async(lambda: names_the_leader(follower, leader))
    fleet = await follower.stub.GetFleet(reload_pb2.GetFleetRequest(), timeout=10)
    assert list(fleet.replicas) == []


async def test_the_other_one_takes_over_when_the_leader_is_killed(
    two: tuple[Process, Process],
) -> None:
    leader, follower = two
    await until_async(lambda: names_the_leader(follower, leader))
    leader.process.kill()
    killed_at = time.monotonic()
    await until_async(follower.leads)
    assert time.monotonic() - killed_at < LEASE_S + SLACK_S


async def test_a_leader_that_hangs_is_deposed_and_knows_it_when_it_goes_on(
    two: tuple[Process, Process],
) -> None:
    leader, follower = two
    leader.process.send_signal(signal.SIGSTOP)
    try:
        await until_async(follower.leads)
    finally:
        leader.process.send_signal(signal.SIGCONT)
    assert await names_the_leader(leader, follower), "its first answer is that it leads no more"
    assert await follower.leads()


async def test_a_leader_that_ends_in_order_is_followed_at_once(
    two: tuple[Process, Process],
) -> None:
    leader, follower = two
    await until_async(lambda: names_the_leader(follower, leader))
    leader.process.terminate()
    await leader.process.wait()
    assert await follower.leads(), "the lease was given back"
