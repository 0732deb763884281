"""A running trigger service for tests."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from typing import Any

import psycopg2

from mesh.client import AsyncMeshClient
from mesh.v1 import data_pb2
from service_kit.server import GrpcServer
from trigger_svc.bridge.airflow import Airflow
from trigger_svc.service import TriggerService
from trigger_svc.settings import TriggerSettings

NOWHERE = "http://127.0.0.1:1"
WAIT_S = 60.0


def settings(database_url: str, **values: Any) -> TriggerSettings:
    """Return settings that seal after 200 ms without rows and drain at once."""
    defaults: dict[str, Any] = {"mlflow_url": NOWHERE, "seal_quiet_ms": 200, "drain_seconds": 0.0}
    return TriggerSettings(database_url=database_url, **(defaults | values))


@asynccontextmanager
async def running_trigger(
    database_url: str, airflow: Airflow | None = None, **values: Any
) -> AsyncIterator[AsyncMeshClient]:
    """Run the service; yield a client of it."""
    async with (
        serving_trigger(database_url, airflow, **values) as address,
        AsyncMeshClient(address) as client,
    ):
        yield client


@asynccontextmanager
async def serving_trigger(
    database_url: str, airflow: Airflow | None = None, **values: Any
) -> AsyncIterator[str]:
    """Run the service; yield its address."""
    chosen = settings(database_url, **values)
    async with GrpcServer(TriggerService(chosen, airflow), chosen) as server:
        yield server.address


def examples(count: int, labels: str = "ab", prefix: str = "text") -> list[data_pb2.Example]:
    """Return examples with distinct texts whose labels take turns."""
    return [
        data_pb2.Example(text=f"{prefix} {number}", label=labels[number % len(labels)])
        for number in range(count)
    ]


def query(url: str, sql: str, *values: Any) -> list[tuple[Any, ...]]:
    """Run one statement in a transaction of its own; return its rows."""
    with (
        closing(psycopg2.connect(url)) as connection,
        connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(sql, values)
        return cursor.fetchall() if cursor.description else []


async def until(condition: Callable[[], Awaitable[bool]], timeout_s: float = WAIT_S) -> None:
    """Wait until `condition()` is true. Raises TimeoutError."""
    async with asyncio.timeout(timeout_s):
        while not await condition():
            await asyncio.sleep(0.02)


async def until_state(client: AsyncMeshClient, state: data_pb2.BatchState) -> data_pb2.Batch:
    """Wait until the newest batch of `reviews` is in this state; return it."""

    async def reached() -> bool:
        batches = await client.list_batches("reviews")
        return bool(batches) and batches[0].state == state

    await until(reached)
    return (await client.list_batches("reviews"))[0]
