"""PostgreSQL's clock is set by an hour, forward or back, while the trigger service works.

Fault: the test moves every time that the service has stored by an hour, as if the clock had been
set the other way since: times of waiting rows, of a running batch, of batches that queue.
Invariants: every committed row is in exactly one batch; every batch has exactly one run; batches
are posted in their order, and without waiting for the clock to catch up.
"""

import pytest

from tests.chaos.conftest import Hold
from tests.chaos.trigger.batches import hold_once
from tests.real_parts.trigger_service import examples, query, running_trigger, until
from trigger_svc.bridge.airflow import RunState
from trigger_svc.bridge.airflow_memory import MemoryAirflow

HOURS = [pytest.param(1, id="set-back"), pytest.param(-1, id="set-forward")]
IN_ORDER = "batches wait for no clock, in their order"
INSERT = "INSERT INTO training.reviews (text, label) VALUES ('new', 'a'), ('newer', 'b')"
# The transaction that writes rows moves their times, so the bridge never sees the true ones.
MOVE_ROWS = "UPDATE mesh.outbox SET created_at = created_at + make_interval(hours => %s)"
MOVE_BATCHES = (
    "UPDATE mesh.batches SET sealed_at = sealed_at + move, queued_at = queued_at + move,"
    " posted_at = posted_at + move, ended_at = ended_at + move"
    " FROM (SELECT make_interval(hours => %s) AS move) AS moved"
)


class Rig:
    """The database and the Airflow of one trigger service."""

    def __init__(self, url: str, airflow: MemoryAirflow) -> None:
        self.url, self.airflow = url, airflow

    async def run_of(self, number: int) -> str:
        """Wait until batch `number` runs; return its id."""
        name = f"retrain__reviews__{number}"

        async def runs() -> bool:
            state = query(self.url, "SELECT state FROM mesh.batches WHERE id = %s", name)
            return state == [("RUNNING",)]

        await until(runs)
        return name

    def check(self, hold: Hold) -> None:
        """Assert the invariants of rows, batches and runs."""
        rows = [row for (row,) in query(self.url, "SELECT id FROM training.reviews")]
        new = [row for row in rows if row > 10]  # the ten imported rows started no training
        hold_once(hold, self.url, "reviews", new, self.airflow.posts)


@pytest.mark.parametrize("hours", HOURS)
async def test_rows_that_wait_during_a_run_are_trained_on_after_it(
    postgres_url: str, hold: Hold, hours: int
) -> None:
    airflow = MemoryAirflow()
    async with running_trigger(postgres_url, airflow, seal_quiet_ms=300) as client:
        rig = Rig(postgres_url, airflow)
        await client.import_examples("reviews", examples(10), no_train=True)
        for number in (1, 2, 3):
            query(postgres_url, f"{INSERT}; {MOVE_ROWS}", hours)
            name = await rig.run_of(number)
            query(postgres_url, MOVE_BATCHES, hours)
            query(
                postgres_url, f"{INSERT}; {MOVE_ROWS}", hours
            )  # these wait for the end of the run
            airflow.end(name, RunState.SUCCEEDED)
        await rig.run_of(4)
        rig.check(hold)


@pytest.mark.parametrize("hours", HOURS)
async def test_batches_that_queue_are_posted_in_their_order(
    postgres_url: str, hold: Hold, hours: int
) -> None:
    airflow = MemoryAirflow()
    async with running_trigger(postgres_url, airflow) as client:
        rig = Rig(postgres_url, airflow)
        await client.import_examples("reviews", examples(10), no_train=True)
        await client.trigger("reviews")
        await rig.run_of(1)
        for _ in range(3):  # behind the one that runs
            query(postgres_url, INSERT)
            await client.trigger("reviews")
            query(postgres_url, MOVE_BATCHES, hours)
        for number in (1, 2, 3, 4):
            airflow.end(await rig.run_of(number), RunState.SUCCEEDED)
        hold(
            IN_ORDER,
            airflow.posts == [f"retrain__reviews__{number}" for number in (1, 2, 3, 4)],
            f"in this order: {airflow.posts}",
        )
        rig.check(hold)
