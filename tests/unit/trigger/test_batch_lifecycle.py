"""The life of batches, with a store and an Airflow in memory and a clock that the test turns."""

import asyncio
from dataclasses import replace

import pytest

from service_kit.errors import Unavailable
from tests.unit.trigger.lifecycle_world import FIRST, World
from trigger_svc.batches.batch import BatchState, batch_id
from trigger_svc.batches.sealing import Waiting
from trigger_svc.bridge.airflow import KEY, Refused, RunState
from trigger_svc.bridge.batch_lifecycle import (
    IDLE_S,
    LONGEST_POLL_S,
    LOOK_S,
    POLL_S,
    wait_for_all,
)


@pytest.fixture
def world() -> World:
    return World()


async def test_without_rows_and_batches_nothing_is_due(world: World) -> None:
    turn = await world.lifecycle.turn()
    assert (turn.due_in, turn.rows_wait) == (IDLE_S, False)


async def test_rows_that_are_not_due_yet_are_looked_at_again_soon(world: World) -> None:
    world.store.waiting = Waiting(5, 1.0, 1.0)
    turn = await world.lifecycle.turn()
    assert (turn.due_in, turn.rows_wait) == (LOOK_S, True)
    assert world.airflow.posts == []


async def test_a_sealed_batch_is_posted_in_the_same_turn(world: World) -> None:
    world.store.waiting = Waiting(5, 3.0, 3.0)
    await world.lifecycle.turn()
    conf = {"model": "reviews", "batch_id": FIRST, "reason": "QUIET", "rows": 5, KEY: ""}
    assert world.airflow.runs[FIRST].conf == conf
    assert world.store.batches[FIRST].state is BatchState.RUNNING


async def test_a_model_whose_row_is_locked_is_tried_again_soon(world: World) -> None:
    world.store.waiting, world.store.locked = Waiting(5, 3.0, 3.0), True
    assert (await world.lifecycle.turn()).due_in == LOOK_S


async def test_no_batch_is_sealed_while_one_is_open(world: World) -> None:
    world.store.add_batch(1, BatchState.RUNNING)
    world.airflow.states[FIRST] = RunState.ACTIVE
    world.store.waiting = Waiting(5_000, 300.0, 300.0)
    await world.turns(30)
    assert list(world.store.batches) == [FIRST]


async def test_batches_are_delivered_in_order_one_run_at_a_time(world: World) -> None:
    world.store.add_batch(1)
    world.store.add_batch(2)
    await world.turns(10)
    assert list(world.airflow.runs) == [FIRST]
    world.airflow.end(FIRST, RunState.SUCCEEDED)
    await world.turns(10)
    assert list(world.airflow.runs) == [FIRST, batch_id("reviews", 2)]


@pytest.mark.parametrize(
    ("state", "end"),
    [
        (RunState.SUCCEEDED, BatchState.SUCCEEDED),
        (RunState.FAILED, BatchState.FAILED),
        (RunState.GONE, BatchState.FAILED),
    ],
)
async def test_the_end_of_a_run_frees_the_model(
    world: World, state: RunState, end: BatchState
) -> None:
    world.store.add_batch(1, BatchState.RUNNING)
    world.airflow.states[FIRST] = state
    await world.lifecycle.turn()
    assert world.store.ends[FIRST][0] is end


async def test_while_airflow_is_away_the_batch_waits_for_ever(world: World) -> None:
    world.store.add_batch(1)
    world.airflow.failures = [Unavailable("Airflow is away")] * 2_000
    await world.turns(3_600)
    assert world.store.batches[FIRST].state is BatchState.SEALED
    # Attempts are 7.5 to 15 s apart, so an hour has 240 to 480; the first ones are closer together.
    assert 240 <= len(world.store.deferrals) <= 500
    world.airflow.failures.clear()
    await world.turns(16)
    assert world.store.batches[FIRST].state is BatchState.RUNNING


async def test_after_a_failed_post_the_bridge_asks_for_the_run_before_it_posts_again(
    world: World,
) -> None:
    world.store.add_batch(1)
    world.airflow.failures = [Unavailable("the answer got lost")]
    await world.lifecycle.turn()
    world.airflow.states[FIRST] = RunState.ACTIVE
    await world.turns(1)
    assert world.airflow.posts == [FIRST]
    assert world.store.batches[FIRST].state is BatchState.RUNNING


async def test_a_refused_batch_is_dead_and_the_next_one_follows(world: World) -> None:
    world.store.add_batch(1)
    world.store.add_batch(2)
    world.airflow.failures = [Refused("no such parameter")]
    await world.turns(1)
    assert world.store.ends == {FIRST: (BatchState.DEAD, "no such parameter")}
    assert list(world.airflow.runs) == [batch_id("reviews", 2)]


def sent_again(world: World) -> None:
    world.store.add_batch(1)
    world.store.batches[FIRST] = replace(world.store.batches[FIRST], retries=1)


async def test_a_batch_that_is_sent_again_lets_its_run_begin_again(world: World) -> None:
    sent_again(world)
    world.airflow.states[FIRST] = RunState.FAILED
    await world.lifecycle.turn()
    assert (world.airflow.posts, world.airflow.restarts) == ([], [FIRST])
    assert world.store.batches[FIRST].state is BatchState.RUNNING


async def test_a_run_that_began_again_already_is_left_alone(world: World) -> None:
    sent_again(world)
    world.airflow.states[FIRST] = RunState.ACTIVE  # an attempt whose answer got lost restarted it
    await world.lifecycle.turn()
    assert (world.airflow.posts, world.airflow.restarts) == ([], [])
    assert world.store.batches[FIRST].state is BatchState.RUNNING


async def test_a_batch_that_is_sent_again_and_has_no_run_gets_one(world: World) -> None:
    sent_again(world)
    await world.lifecycle.turn()
    assert (world.airflow.posts, world.airflow.restarts) == ([FIRST], [])


async def test_rows_wait_no_longer_because_the_databases_clock_is_set_back(world: World) -> None:
    world.store.waiting = Waiting(5, 0.0, 0.0)  # the database's clock says so for an hour
    await world.turns(1.5)
    assert world.airflow.posts == []
    await world.turns(1.0)
    assert world.airflow.posts == [FIRST]


async def test_an_error_of_one_step_is_raised_after_the_other_steps_have_ended() -> None:
    ended: list[str] = []

    async def fails() -> float:
        raise Unavailable("PostgreSQL is away")

    async def goes_on() -> float:
        await asyncio.sleep(0)
        ended.append("step")
        return 1.0

    with pytest.raises(Unavailable):
        await wait_for_all([fails(), goes_on()])
    assert ended == ["step"]


async def test_a_question_that_fails_does_not_end_the_batch(world: World) -> None:
    world.store.add_batch(1, BatchState.RUNNING)
    world.airflow.states[FIRST] = RunState.ACTIVE
    world.airflow.failures = [Unavailable("Airflow is away")] * 20
    await world.turns(60)
    assert world.store.batches[FIRST].state is BatchState.RUNNING
    assert world.store.deferrals == []


@pytest.mark.parametrize(("age_s", "pause_s"), [(0, POLL_S), (100, 5.0), (9_000, LONGEST_POLL_S)])
async def test_a_long_run_is_asked_about_less_often(
    world: World, age_s: float, pause_s: float
) -> None:
    world.store.add_batch(1, BatchState.RUNNING)
    world.store.batches[FIRST] = replace(world.store.batches[FIRST], running_s=age_s)
    world.airflow.states[FIRST] = RunState.ACTIVE
    assert (await world.lifecycle.turn()).due_in == pytest.approx(pause_s)
