"""A trigger service is stopped in the middle of its work, alone or beside one that stands by.

Fault: SIGSTOP when the service is about to seal a batch, when Airflow has made a run and the answer
is on its way, or when a run is at work; SIGCONT some seconds later. All the while rows come. Where
a second service stands by, the stopped one is killed; or PostgreSQL ends its session, the second
one leads, and then the first one continues with what it was about to do.
Invariants: no INSERT fails or waits; every committed row is in exactly one batch; every batch has
exactly one run.
"""

import asyncio
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

import psycopg2
import pytest

from tests.chaos.conftest import Hold
from tests.chaos.trigger.batches import hold_once, settled
from tests.chaos.trigger.tables import make_tables
from tests.chaos.trigger.trigger_process import TriggerProcess, epoch, running_trigger_process
from tests.real_parts import trigger_service as trigger
from tests.real_parts.trigger_service import query
from tests.real_parts.waiting import until
from tests.twins.stub_airflow import StubAirflow, running_stub_airflow

MODEL = "left"
SHORT_S, LONG_S = 2.0, 30.0
WITHIN_S = 90.0
PAUSE_S = 0.005  # between two rows
# Much shorter than a stop: an INSERT that waits for a lock of the stopped process fails.
LOCK_TIMEOUT = "1s"
INSERTS = "no INSERT fails or waits"
FOLLOWS = "one bridge leads, another follows it"
# Ends the session that leads, as PostgreSQL does after 30 s of silence.
GIVE_UP = (
    "SELECT pg_terminate_backend(pid) FROM pg_locks"
    " WHERE locktype = 'advisory' AND granted AND classid::int = hashtext('champion-mesh')"
    " AND objid::int = hashtext('bridge')"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


@dataclass
class Writer:
    """Inserts one row after another, each in a transaction of its own."""

    url: str
    rows: list[int] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    slowest_s: float = 0.0
    _end: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def begin(self) -> None:
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def end(self) -> None:
        self._end.set()
        if self._thread:
            self._thread.join()

    def _run(self) -> None:
        with closing(psycopg2.connect(self.url)) as connection, connection.cursor() as cursor:
            connection.autocommit = True
            cursor.execute(f"SET lock_timeout = '{LOCK_TIMEOUT}'")
            while not self._end.wait(PAUSE_S):
                began = time.monotonic()
                try:
                    cursor.execute(
                        f"INSERT INTO training.{MODEL} (text, label) VALUES ('new', 'a')"
                        " RETURNING id"
                    )
                    self.rows += [row for (row,) in cursor.fetchall()]
                except psycopg2.Error as error:
                    self.failed.append(str(error))
                self.slowest_s = max(self.slowest_s, time.monotonic() - began)


@dataclass
class StoppingAirflow(StubAirflow):
    """Stops a bridge at its first successful request of one kind: done, but not yet answered."""

    method: str = "POST"
    """POST: the bridge starts a run; GET: it asks for the state of a run."""
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    stop: TriggerProcess | None = None
    """The bridge to stop; the answer then waits in its socket."""

    def answer(self, method: str, path: str, token: str, body: bytes) -> tuple[int, object]:
        answer = super().answer(method, path, token, body)
        of_a_run = "/dagRuns" in path
        if self.stop and of_a_run and method == self.method and answer[0] == 200:
            self.stop.process.send_signal(signal.SIGSTOP)
            self.stop = None
            self.reached.set()
        return answer


@dataclass
class Scene:
    """Bridges, their database and Airflow, and a writer."""

    url: str
    folder: Path
    airflow: StoppingAirflow
    writer: Writer
    _stack: AsyncExitStack

    async def start(self) -> TriggerProcess:
        """Start one more bridge; return once it leads or stands by."""
        sessions = self._sessions() + 1
        bridge = await self._stack.enter_async_context(
            running_trigger_process(self.url, self.airflow.url, self.folder)
        )
        await self._until(lambda: self._sessions() == sessions and epoch(self.url) > 0)
        return bridge

    async def until_stopped(self, bridge: TriggerProcess, method: str) -> None:
        """Return once `bridge` is stopped at its next successful request by `method` to Airflow."""
        self.airflow.method, self.airflow.stop = method, bridge
        async with asyncio.timeout(WITHIN_S):
            await self.airflow.reached.wait()
        await until(lambda: bridge.stands_still)

    async def rows_come(self, bridge: TriggerProcess, seconds: float = SHORT_S) -> int:
        """Wait some seconds while `bridge` is stopped; return how many rows were committed."""
        before = len(self.writer.rows)
        await asyncio.sleep(seconds)
        assert bridge.stands_still
        return len(self.writer.rows) - before

    async def more_runs(self, count: int = 2) -> None:
        """Wait until `count` more runs have begun."""
        aim = len(self.airflow.created) + count
        await until(lambda: len(self.airflow.created) >= aim, WITHIN_S)

    async def leads(self, number: int) -> None:
        """Wait until the bridge with epoch `number` leads."""
        await self._until(lambda: epoch(self.url) == number)

    async def ends(self, hold: Hold, meanwhile: int) -> None:
        """End the writer, wait until its rows have settled, and assert the invariants.

        `meanwhile`: rows that were committed while a bridge was stopped.
        """
        self.writer.end()
        await self._until(lambda: settled(self.url))
        rows = self.writer.rows
        hold(
            INSERTS,
            not self.writer.failed and meanwhile > 0,
            f"{meanwhile} of {len(rows)} rows while it stood still, the slowest of all"
            f" {self.writer.slowest_s * 1000:.0f} ms; failed: {self.writer.failed[:1] or 'none'}",
        )
        more = f", {self.airflow.repeats} posts repeated"
        hold_once(hold, self.url, MODEL, rows, self.airflow.created, more)

    def _sessions(self) -> int:
        ((count,),) = query(
            self.url,
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'mesh-bridge'",
        )
        return int(count)

    async def _until(self, condition: Callable[[], bool]) -> None:
        await trigger.until(lambda: asyncio.to_thread(condition), WITHIN_S)


@pytest.fixture
async def scene(postgres_url: str, tmp_path: Path) -> AsyncIterator[Scene]:
    await make_tables(postgres_url)
    async with AsyncExitStack() as stack:
        airflow = StoppingAirflow()
        await stack.enter_async_context(running_stub_airflow(airflow))
        writer = Writer(postgres_url)
        stack.callback(writer.end)
        yield Scene(postgres_url, tmp_path, airflow, writer, stack)


@pytest.mark.parametrize(
    ("method", "seconds"),
    [
        ("POST", SHORT_S),
        pytest.param("POST", LONG_S, marks=pytest.mark.chaos_full),
        pytest.param("GET", LONG_S, marks=pytest.mark.chaos_full),
    ],
)
async def test_a_bridge_stopped_at_an_answer_of_airflow_continues(
    scene: Scene, hold: Hold, method: str, seconds: float
) -> None:
    bridge = await scene.start()
    scene.writer.begin()
    await scene.until_stopped(bridge, method)
    meanwhile = await scene.rows_come(bridge, seconds)
    bridge.go_on()
    await scene.more_runs()
    await scene.ends(hold, meanwhile)


@pytest.mark.parametrize("seconds", [SHORT_S, pytest.param(LONG_S, marks=pytest.mark.chaos_full)])
async def test_a_bridge_stopped_before_it_seals_continues(
    scene: Scene, hold: Hold, seconds: float
) -> None:
    bridge = await scene.start()
    scene.writer.begin()
    await until(lambda: bool(scene.writer.rows))
    await bridge.stop()
    meanwhile = await scene.rows_come(bridge, seconds)
    bridge.go_on()
    await scene.more_runs()
    await scene.ends(hold, meanwhile)


async def test_the_second_bridge_follows_when_the_stopped_one_is_killed(
    scene: Scene, hold: Hold
) -> None:
    first = await scene.start()
    await scene.start()
    scene.writer.begin()
    await scene.until_stopped(first, "POST")
    meanwhile = await scene.rows_come(first)
    led = epoch(scene.url)
    await first.kill()
    await scene.leads(2)
    hold(FOLLOWS, led == 1, f"bridge {led} while it stood still, 2 when it was killed")
    await scene.more_runs()
    await scene.ends(hold, meanwhile)


@pytest.mark.parametrize(
    ("method", "given_up_by"),
    [
        ("POST", "hand"),
        pytest.param("GET", "hand", marks=pytest.mark.chaos_full),
        pytest.param("POST", "silence", marks=pytest.mark.chaos_full),
        pytest.param("GET", "silence", marks=pytest.mark.chaos_full),
    ],
)
async def test_a_stopped_bridge_that_another_has_followed_changes_nothing(
    scene: Scene, hold: Hold, method: str, given_up_by: str
) -> None:
    first = await scene.start()
    await scene.start()
    scene.writer.begin()
    await scene.until_stopped(first, method)
    meanwhile = await scene.rows_come(first)
    if given_up_by == "hand":
        query(scene.url, GIVE_UP)
    await scene.leads(2)
    await scene.more_runs()
    assert first.stands_still
    first.go_on()
    await scene.more_runs()
    leader = epoch(scene.url)
    hold(FOLLOWS, leader == 2, f"bridge {leader} when the first went on")
    await scene.ends(hold, meanwhile)
