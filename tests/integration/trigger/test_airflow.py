"""Batches, a real Airflow with the real DAG, and a scripted mesh behind it."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from mesh.client import AsyncMeshClient
from mesh.v1 import data_pb2, train_pb2
from tests.real_parts.airflow import BINARY, RunningAirflow, running_airflow
from tests.real_parts.postgres import execute, with_database
from tests.real_parts.trigger_service import examples, query, running_trigger, until
from tests.twins.stub_mesh import StubMesh, running_stub_mesh
from tests.twins.webhook import SECRET, ThreadedWebhook, running_webhook

pytestmark = [
    pytest.mark.skipif(not BINARY.exists(), reason=f"{BINARY} is missing: run `make install`"),
    pytest.mark.timeout(300),
]
SWITCH_S = 15.0  # from the end of a training to its Reload, on a busy machine
RUN_S = 120.0  # for all runs together, on a busy machine
GREEN = {"Training_Data_Update": "success", "Train_Model": "success", "Notify": "success"}
ENDED = (data_pb2.BATCH_STATE_SUCCEEDED, data_pb2.BATCH_STATE_FAILED, data_pb2.BATCH_STATE_DEAD)


@pytest.fixture(scope="module")
def mesh() -> Iterator[tuple[StubMesh, str]]:
    with running_stub_mesh() as running:
        yield running


@pytest.fixture(scope="module")
def webhook() -> Iterator[ThreadedWebhook]:
    with running_webhook() as running:
        yield running


@pytest.fixture(scope="module")
def airflow(
    postgres_server: str,
    mesh: tuple[StubMesh, str],
    webhook: ThreadedWebhook,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[RunningAirflow]:
    execute(postgres_server, "CREATE DATABASE airflow")
    folder = tmp_path_factory.mktemp("airflow")
    environment = {"MESH_ADDRESS": mesh[1], "SLACK_URL": webhook.url}
    with running_airflow(folder, with_database(postgres_server, "airflow"), environment) as running:
        yield running
    execute(postgres_server, "DROP DATABASE airflow WITH (FORCE)")


@pytest.fixture
async def client(postgres_url: str, airflow: RunningAirflow) -> AsyncIterator[AsyncMeshClient]:
    async with running_trigger(postgres_url, **login(airflow)) as running:
        yield running


def login(airflow: RunningAirflow) -> dict[str, Any]:
    """Return the trigger service's settings for this Airflow."""
    return {
        "airflow_url": airflow.url,
        "airflow_user": airflow.user,
        "airflow_password_file": airflow.password_file,
    }


async def ends(client: AsyncMeshClient, models: list[str]) -> dict[str, data_pb2.Batch]:
    """Import rows of these models; return their batches once the runs have ended."""
    for model in models:
        await client.import_examples(model, examples(10))
    batches: dict[str, data_pb2.Batch] = {}

    async def ended() -> bool:
        for model in models:
            batches[model] = (await client.list_batches(model))[0]
        return all(batch.state in ENDED for batch in batches.values())

    await until(ended, RUN_S)
    return batches


async def test_every_turn_of_the_loop_ends_as_its_training_does(
    client: AsyncMeshClient,
    airflow: RunningAirflow,
    mesh: tuple[StubMesh, str],
    webhook: ThreadedWebhook,
) -> None:
    by_hand = airflow.start_run({"model": "byhand"})
    models = ["reviews", "kept", "broken", "rowless", "onelabel"]
    batches = await ends(client, models)
    states = {model: data_pb2.BatchState.Name(batch.state) for model, batch in batches.items()}
    succeeded, failed = "BATCH_STATE_SUCCEEDED", "BATCH_STATE_FAILED"
    assert states == {
        "reviews": succeeded,
        "kept": succeeded,
        "broken": failed,
        "rowless": failed,
        "onelabel": failed,
    }

    tasks = {model: airflow.task_states(batch.id) for model, batch in batches.items()}
    assert tasks["reviews"] == GREEN | {"Switch_Latest_Model": "success"}
    assert tasks["kept"] == GREEN | {"Switch_Latest_Model": "skipped"}
    assert tasks["broken"]["Train_Model"] == "failed"
    assert tasks["broken"]["Notify"] == "upstream_failed"

    assert by_hand.startswith("manual__")
    assert airflow.run_state(by_hand) == "success"

    stub = mesh[0]
    assert {request.model for request in stub.reloads} == {"reviews", "byhand"}
    assert {request.request_id for request in stub.reloads} <= set(stub.jobs)
    assert stub.jobs["retrain__broken__1"].attempt == 3
    assert stub.jobs["retrain__onelabel__1"].attempt == 1

    def notified(text: str) -> bool:
        return any(text in item for item in webhook.texts)

    async def failures_notified() -> bool:
        # The dag-processor sends the notifications of failures, at a time of its own.
        return notified("retrain__broken__1: the run failed") and notified("retrain__rowless__1")

    await until(failures_notified, 30)
    assert notified("reviews: version 2 serves now")
    assert notified("kept: version 2 was not promoted")
    logs = [file.read_text() for file in airflow.logs.rglob("*.log")]
    assert logs
    assert not any(SECRET in text for text in logs)


async def test_a_failed_batch_that_is_sent_again_is_the_same_run_and_the_jobs_next_attempt(
    client: AsyncMeshClient, airflow: RunningAirflow, mesh: tuple[StubMesh, str]
) -> None:
    model = "broken"
    (failed,) = (await ends(client, [model])).values()
    assert failed.state == data_pb2.BATCH_STATE_FAILED
    attempts = mesh[0].jobs[failed.id].attempt
    await client.retry(model)

    async def failed_again() -> bool:
        batch = (await client.list_batches(model))[0]
        return batch.state == data_pb2.BATCH_STATE_FAILED and batch.retries == 1

    await until(failed_again, RUN_S)
    assert mesh[0].jobs[failed.id].attempt > attempts
    assert airflow.run_state(failed.id) == "failed"


async def test_a_run_by_hand_that_is_marked_as_failed_cancels_its_training(
    airflow: RunningAirflow, mesh: tuple[StubMesh, str]
) -> None:
    run_id = airflow.start_run({"model": "endless"})
    jobs = mesh[0].jobs

    async def trains() -> bool:
        return run_id in jobs and jobs[run_id].state == train_pb2.TRAINING_STATE_RUNNING

    await until(trains, RUN_S)
    airflow.fail_run(run_id)

    async def cancelled() -> bool:
        return jobs[run_id].state == train_pb2.TRAINING_STATE_CANCELLED

    await until(cancelled, RUN_S)
    assert airflow.run_state(run_id) == "failed"


async def test_a_canary_is_followed_without_holding_a_slot(
    airflow: RunningAirflow, mesh: tuple[StubMesh, str]
) -> None:
    mesh[0].running_looks = 1
    run_id = airflow.start_run({"model": "keptcanary", "canary": "5,50"})
    states: set[str | None] = set()

    async def ended() -> bool:
        states.add(airflow.task_states(run_id).get("Switch_Latest_Model"))
        return airflow.run_state(run_id) in ("success", "failed")

    await until(ended, RUN_S)
    assert airflow.run_state(run_id) == "success"
    assert "up_for_reschedule" in states


async def test_a_finished_model_switches_at_once_while_seven_others_train_or_wait(
    airflow: RunningAirflow, mesh: tuple[StubMesh, str]
) -> None:
    stub = mesh[0]
    for number in range(8):
        airflow.start_run({"model": f"queue{number}"})

    async def all_switched() -> bool:
        return sum(model.startswith("queue") for model in stub.reloaded_at) == 8

    await until(all_switched, RUN_S)
    waits = [stub.reloaded_at[model] - ended for model, ended in stub.trained_at.items()]
    assert max(waits) < SWITCH_S, waits


async def test_parameters_that_break_a_rule_are_refused(airflow: RunningAirflow) -> None:
    broken: list[dict[str, object]] = [
        {},
        {"model": "Not a name"},
        {"model": "reviews", "epochs": -1},
    ]
    for conf in broken:
        assert airflow.post_run(conf).status_code == 400


async def test_a_run_that_was_deleted_frees_the_model(
    postgres_url: str, airflow: RunningAirflow
) -> None:
    async with running_trigger(postgres_url, **login(airflow)) as client:
        await client.import_examples("endless", examples(10))

        async def running() -> bool:
            batch = (await client.list_batches("endless"))[0]
            return batch.state == data_pb2.BATCH_STATE_RUNNING

        await until(running, RUN_S)
    # Airflow deletes only runs that have ended.
    airflow.fail_run("retrain__endless__1")
    airflow.delete_run("retrain__endless__1")
    async with running_trigger(postgres_url, **login(airflow)) as client:

        async def freed() -> bool:
            batch = (await client.list_batches("endless"))[0]
            return batch.state == data_pb2.BATCH_STATE_FAILED and "was deleted" in batch.error

        await until(freed, RUN_S)


async def test_a_paused_dag_is_told_and_its_run_goes_on_afterwards(
    client: AsyncMeshClient, airflow: RunningAirflow
) -> None:
    airflow.pause(True)
    try:
        await client.import_examples("patient", examples(10))

        async def told() -> bool:
            page = await client.list_batches_page("patient")
            return any("the DAG is paused in Airflow" in item.message for item in page.troubles)

        await until(told, RUN_S)
    finally:
        airflow.pause(False)

    async def succeeded() -> bool:
        page = await client.list_batches_page("patient")
        return page.batches[0].state == data_pb2.BATCH_STATE_SUCCEEDED and not page.troubles

    await until(succeeded, RUN_S)


async def test_a_run_from_before_a_restore_is_told_from_the_batchs_own(
    client: AsyncMeshClient, airflow: RunningAirflow, postgres_url: str
) -> None:
    await ends(client, ["restored"])
    query(postgres_url, "DELETE FROM mesh.batches WHERE model = 'restored'")
    query(postgres_url, "UPDATE mesh.models SET next_batch = 1 WHERE name = 'restored'")
    await client.import_examples("restored", examples(20, prefix="new"))

    async def succeeded() -> bool:
        newest = (await client.list_batches("restored"))[0]
        return (newest.id, newest.state) == (
            "retrain__restored__2",
            data_pb2.BATCH_STATE_SUCCEEDED,
        )

    await until(succeeded, RUN_S)


async def test_a_failed_run_names_its_task(client: AsyncMeshClient) -> None:
    (failed,) = (await ends(client, ["rowless"])).values()
    assert failed.error == "the run failed in Training_Data_Update: see its log in Airflow"
