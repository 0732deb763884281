"""What keeps batches from getting on: locked tables, other batches' runs, a paused DAG."""

import psycopg2
import pytest

from service_kit.database import BrokenOff
from tests.unit.trigger.lifecycle_world import FIRST, World
from trigger_svc.batches.batch import BatchState, batch_id
from trigger_svc.batches.sealing import Waiting
from trigger_svc.bridge.airflow import KEY, Run, RunState
from trigger_svc.bridge.backoff import LONGEST_S
from trigger_svc.bridge.batch_lifecycle import LONGEST_POLL_S


@pytest.fixture
def world() -> World:
    return World()


async def test_a_model_whose_rows_cannot_be_sealed_is_passed_over_with_growing_pauses(
    world: World,
) -> None:
    world.store.waiting = Waiting(5, 3.0, 3.0)
    world.store.seal_error = BrokenOff("its table is locked")
    pauses = []
    for _ in range(6):
        turn = await world.lifecycle.turn()
        pauses.append(turn.due_in)
        world.now += turn.due_in
    assert pauses[0] < 0.3
    assert pauses[-1] > 3.0
    assert "its table is locked" in world.store.troubles["seal"]["reviews"]
    world.store.seal_error = None
    await world.turns(LONGEST_S)
    assert world.store.troubles["seal"] == {}
    assert world.airflow.posts == [FIRST]


async def test_an_error_of_the_table_itself_is_a_trouble_of_its_model_too(world: World) -> None:
    world.store.waiting = Waiting(5, 3.0, 3.0)
    world.store.seal_error = psycopg2.errors.UndefinedColumn("no column")
    await world.lifecycle.turn()
    assert "UndefinedColumn" in world.store.troubles["seal"]["reviews"]


async def test_a_run_of_the_same_id_that_is_another_batchs_does_not_count_as_this_one(
    world: World,
) -> None:
    for number in range(1, 6):
        name = batch_id("reviews", number)
        world.airflow.runs[name] = Run(name, {KEY: "before the restore"})
        world.airflow.states[name] = RunState.SUCCEEDED
    world.store.add_batch(1, key="after it")
    await world.turns(1)
    # 1, 2 and 4 are taken, and each time the number moves on twice as far.
    eighth = batch_id("reviews", 8)
    assert world.airflow.runs[eighth].key == "after it"
    assert list(world.store.ends) == [batch_id("reviews", number) for number in (1, 2, 4)]
    state, error = world.store.ends[batch_id("reviews", 4)]
    assert state is BatchState.FAILED
    assert f"batch {eighth} has the rows now" in error


async def test_an_answer_that_got_lost_is_told_from_another_batchs_run(world: World) -> None:
    world.airflow.runs[FIRST] = Run(FIRST, {KEY: "mine"})
    world.airflow.states[FIRST] = RunState.ACTIVE
    world.store.add_batch(1, key="mine")
    await world.lifecycle.turn()
    assert world.store.ends == {}
    assert world.store.batches[FIRST].state is BatchState.RUNNING


async def test_the_run_of_another_batch_does_not_end_a_running_one_as_a_success(
    world: World,
) -> None:
    world.airflow.runs[FIRST] = Run(FIRST, {KEY: "another"})
    world.airflow.states[FIRST] = RunState.SUCCEEDED
    world.store.add_batch(1, BatchState.RUNNING, key="mine")
    await world.lifecycle.turn()
    assert world.store.ends[FIRST] == (BatchState.FAILED, "the run was deleted in Airflow")


async def test_a_paused_dag_is_told_while_a_batch_waits_for_it(world: World) -> None:
    world.store.add_batch(1)
    world.airflow.paused = True
    await world.turns(10)
    assert "the DAG is paused in Airflow" in world.store.troubles["dag"]["reviews"]
    world.airflow.paused = False
    await world.turns(2 * LONGEST_POLL_S)
    assert world.store.troubles["dag"] == {}


async def test_the_task_that_failed_is_named(world: World) -> None:
    world.store.add_batch(1, BatchState.RUNNING)
    world.airflow.states[FIRST] = RunState.FAILED
    world.airflow.broken_tasks = ["Switch_Latest_Model"]
    await world.lifecycle.turn()
    assert "the run failed in Switch_Latest_Model" in world.store.ends[FIRST][1]
