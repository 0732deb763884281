"""The life of batches, with a store and an Airflow in memory and a clock that the test turns."""

import asyncio
import random
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

import psycopg2
import pytest

from service_kit.database import BrokenOff
from service_kit.errors import Unavailable
from trigger_svc.batches.batch import Batch, BatchReason, BatchState, OpenBatch, batch_id
from trigger_svc.batches.sealing import ModelWork, SealPolicy, Waiting
from trigger_svc.bridge.airflow import KEY, Refused, Run, RunState
from trigger_svc.bridge.airflow_memory import MemoryAirflow
from trigger_svc.bridge.backoff import LONGEST_S
from trigger_svc.bridge.batch_lifecycle import (
    IDLE_S,
    LONGEST_POLL_S,
    LOOK_S,
    POLL_S,
    BatchLifecycle,
    wait_for_all,
)

POLICY = SealPolicy(rows=100, quiet_s=2.0, age_s=60.0)
FIRST = batch_id("reviews", 1)


class MemoryStore:
    """A BatchStore with one model, "reviews"."""

    def __init__(self) -> None:
        self.waiting: Waiting | None = None
        self.batches: dict[str, OpenBatch] = {}
        self.ends: dict[str, tuple[BatchState, str]] = {}
        self.deferrals: list[str] = []
        self.locked = False
        self.seal_error: Exception | None = None
        self.troubles: dict[str, dict[str, str]] = {}

    def add_batch(self, number: int, state: BatchState = BatchState.SEALED, key: str = "") -> None:
        name = batch_id("reviews", number)
        self.batches[name] = OpenBatch(name, "reviews", 5, BatchReason.MANUAL, state, key)

    async def scan(self) -> list[ModelWork]:
        first = next(iter(self.batches.values()), None)
        if self.waiting is None and first is None:
            return []
        return [ModelWork("reviews", POLICY, self.waiting, first)]

    async def seal(self, model: str, reason: BatchReason) -> Batch | None:
        if self.seal_error is not None:
            raise self.seal_error
        if self.locked:
            return None
        assert self.waiting is not None
        rows, self.waiting = self.waiting.rows, None
        self.add_batch(len(self.batches) + len(self.ends) + 1)
        name = next(reversed(self.batches))
        return Batch(name, model, rows, reason, BatchState.SEALED, datetime.now(UTC))

    async def replace(self, batch: str, model: str, skip: int, error: str) -> None:
        number = int(batch.rpartition("__")[2]) + skip
        self.ends[batch] = (BatchState.FAILED, error.format(batch=batch_id(model, number)))
        key = self.batches.pop(batch).key
        self.add_batch(number, key=key)

    async def note_troubles(self, kind: str, troubles: Mapping[str, str]) -> None:
        self.troubles[kind] = dict(troubles)

    async def mark_accepted(self, batch: str) -> None:
        self.batches[batch] = replace(self.batches[batch], state=BatchState.RUNNING)

    async def mark_deferred(self, batch: str, error: str) -> None:
        self.deferrals.append(error)

    async def mark_refused(self, batch: str, error: str) -> None:
        self.ends[batch] = (BatchState.DEAD, error)
        del self.batches[batch]

    async def mark_ended(self, batch: str, state: BatchState, error: str) -> None:
        self.ends[batch] = (state, error)
        del self.batches[batch]


class World:
    """The lifecycle with its store, its Airflow and its clock."""

    def __init__(self) -> None:
        self.store, self.airflow, self.now = MemoryStore(), MemoryAirflow(), 0.0
        self.lifecycle = BatchLifecycle(
            self.store, self.airflow, lambda: self.now, random.Random(1)
        )

    async def turns(self, seconds: float) -> None:
        """Take every turn that is due within the next `seconds` of the clock."""
        end = self.now + seconds
        while self.now <= end:
            turn = await self.lifecycle.turn()
            self.now += max(turn.due_in, 0.001)
        self.now = end


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
