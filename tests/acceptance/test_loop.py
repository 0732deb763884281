"""The loop itself: rows go in, then a better model serves, and no request fails."""

import asyncio
import csv
from collections import Counter
from pathlib import Path

import psycopg2
from grpc import aio

from mesh.client import AsyncMeshClient
from mesh.v1 import data_pb2, train_pb2
from tests.whole_mesh.running_mesh import Mesh

CLIENTS = 64
# Seconds between an answer and the client's next request while a model is trained: they leave the
# processors to the training.
PAUSE_S = 4.0


def _insert(mesh: Mesh, rows: Path) -> int:
    url = mesh.json("status")["urls"]["postgres"]
    with rows.open(newline="") as file:
        values = [(row["text"], row["label"]) for row in csv.DictReader(file)]
    connection = psycopg2.connect(url)
    try:
        with connection, connection.cursor() as cursor:
            cursor.executemany("INSERT INTO training.reviews (text, label) VALUES (%s, %s)", values)
    finally:
        connection.close()
    return len(values)


async def _call_until(
    stop: asyncio.Event, address: str, answers: Counter[str], pause_s: float = 0.0
) -> None:
    # A channel without the client's retries, which would hide a failed request.
    async with AsyncMeshClient(channel=aio.insecure_channel(address)) as client:
        while not stop.is_set():
            answer = await client.predict("reviews", "Better than I had dared to hope.")
            answers[answer.model.version] += 1
            await asyncio.sleep(pause_s)


async def _await_version(client: AsyncMeshClient, old: str, timeout_s: float) -> str:
    async with asyncio.timeout(timeout_s):
        while (version := (await client.get_model("reviews")).version) == old:
            await asyncio.sleep(0.2)
        return version


async def test_inserted_rows_bring_a_better_model_and_no_request_fails(
    mesh: Mesh, reviews: str, sample_rows: Path
) -> None:
    answers: Counter[str] = Counter()
    stop = asyncio.Event()
    async with AsyncMeshClient(mesh.address) as client:
        old = (await client.get_model(reviews)).version
        async with asyncio.TaskGroup() as group:
            # A request that fails raises here, and fails the test.
            for _ in range(CLIENTS):
                group.create_task(_call_until(stop, mesh.address, answers, PAUSE_S))
            inserted = await asyncio.to_thread(_insert, mesh, sample_rows)
            new = await _await_version(client, old, timeout_s=400)
            answered = answers[new]
            async with asyncio.timeout(60):
                while answers[new] < answered + 5 * CLIENTS:
                    await asyncio.sleep(0.05)
            stop.set()
        # Only promoted versions have answered.
        assert set(answers) == {old, new}
        batches = await client.list_batches(reviews)
        turn = next(batch for batch in batches if batch.version == new)
        job = await client.get_training(turn.id)
        assert turn.reason in (data_pb2.BATCH_REASON_QUIET, data_pb2.BATCH_REASON_AGE)
        assert turn.rows == inserted
        assert job.decision.outcome == train_pb2.DECISION_OUTCOME_PROMOTED
        assert job.decision.challenger_accuracy > job.decision.champion_accuracy
        answer = await client.predict(reviews, "Better than I had dared to hope.")
        assert (answer.model.batch_id, answer.model.alias) == (turn.id, "Champion")
    print(f"answers by version: {dict(answers)}, failed: 0")


async def test_reload_of_the_fleet_under_load_fails_nothing(mesh: Mesh, reviews: str) -> None:
    answers: Counter[str] = Counter()
    stop = asyncio.Event()
    async with AsyncMeshClient(mesh.address) as client:
        current = (await client.get_model(reviews)).version
        async with asyncio.TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(_call_until(stop, mesh.address, answers))
            for version in ("1", current, "1", current):
                reloaded = await client.reload(reviews, version=version)
                assert {item.to_version for item in reloaded.replicas} == {version}
                after = await client.predict(reviews, "the answer after the Reload")
                assert after.model.version == version
            stop.set()
        assert set(answers) == {"1", current}
    print(f"{sum(answers.values())} requests during 4 Reloads, failed: 0")


def test_rollback_serves_the_previous_champion(mesh: Mesh, reviews: str) -> None:
    before = mesh.fleet_model(reviews)
    assert before["previousVersion"] not in ("", before["championVersion"])
    mesh.run("rollback", reviews)
    after = mesh.fleet_model(reviews)
    assert after["servingVersion"] == after["championVersion"] == before["previousVersion"]
    assert mesh.json("predict", reviews, "fine")["model"]["version"] == after["servingVersion"]
    mesh.run("rollback", reviews)
    assert mesh.fleet_model(reviews)["championVersion"] == before["championVersion"]


def test_no_log_has_an_error(mesh: Mesh, reviews: str) -> None:
    paths = sorted((mesh.home / "logs").glob("*.log"))
    parts = {part["name"] for part in mesh.json("status")["parts"]}
    assert {path.stem for path in paths} >= parts
    for path in paths:
        for line in path.read_text().splitlines():
            assert "Traceback" not in line, f"{path.name}: {line}"
            assert '"level": "ERROR"' not in line, f"{path.name}: {line}"
            assert "[error" not in line, f"{path.name}: {line}"
