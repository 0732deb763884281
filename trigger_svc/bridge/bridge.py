"""The bridge between the outbox and Airflow: one process leads and moves the batches on."""

import asyncio
import logging
import time

import psycopg2
from prometheus_client import Gauge

from service_kit.database import Database
from service_kit.errors import Unavailable
from trigger_svc.batches.postgres_batches import PostgresBatches, Superseded
from trigger_svc.batches.table_watch import TableWatch
from trigger_svc.bridge.airflow import Airflow
from trigger_svc.bridge.batch_lifecycle import BatchLifecycle, Turn
from trigger_svc.bridge.bridge_session import BridgeSession
from trigger_svc.settings import TriggerSettings

log = logging.getLogger(__name__)

# Seconds between two turns while the bridge is awake, that is, while writers do not wake it.
LOOK_S = 0.1
# The pause between two turns is at least this many times as long as the last scan of the outbox
# took, so that a long outbox is not read without a pause; likewise for the looks at the tables.
_PAUSE_PER_SCAN = 20
# After a turn with at least BUSY_ROWS rows, more rows are likely: for BUSY_S seconds the bridge
# stays awake, and it looks every BUSY_LOOK_S seconds only, to leave the processors to the writers.
BUSY_ROWS = 50
BUSY_S = 1.0
BUSY_LOOK_S = 0.25
# Seconds between two turns while a transaction is open that may not have woken the bridge.
FENCE_S = 0.5
LIVENESS_S = 10.0  # seconds between two checks whether the session still lives
STANDBY_S = 1.0
RECONNECT_S = 1.0
CLEAN_UP_S = 3600.0
# Seconds between two looks at the training tables themselves.
WATCH_S = 10.0
# Seconds between two turns where PREPARE TRANSACTION is possible: there, writers wake nobody.
PREPARED_LOOK_S = 1.0

LEADS = Gauge("mesh_bridge_leads", "1 while this process's bridge is the one at work.")


class Bridge:
    """The bridge of this process; `run` ends only when it is cancelled."""

    def __init__(self, database: Database, airflow: Airflow, settings: TriggerSettings) -> None:
        self._url = database.url
        self._batches = PostgresBatches(database, settings)
        self._lifecycle = BatchLifecycle(self._batches, airflow)
        self._watch = TableWatch(database, self._batches)
        self._clean_up_at = 0.0

    async def run(self) -> None:
        """Work in one session after another; the log tells why a session ended."""
        away = False
        while True:
            try:
                session = await BridgeSession.open(self._url)
                try:
                    away = False
                    await self._lead(session)
                finally:
                    LEADS.set(0)
                    session.close()
            except (Unavailable, psycopg2.OperationalError, psycopg2.InterfaceError) as error:
                if not away:
                    log.warning("bridge lost PostgreSQL", extra={"why": str(error).strip()})
                away = True
            except Superseded:
                log.warning("bridge stops: another one has followed it")
            except Exception:
                log.exception("bridge failed; it starts again")
            await asyncio.sleep(RECONNECT_S)

    async def _lead(self, session: BridgeSession) -> None:
        if not await session.try_lead():
            log.info("bridge stands by: another one is at work")
        while session.epoch is None:
            await session.wait(STANDBY_S)
            await session.try_lead()
        self._batches.write_as(session.epoch)
        LEADS.set(1)
        log.info("bridge at work")
        watching = asyncio.create_task(self._watch_tables(), name="table watch")
        try:
            await self._work(session)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def _work(self, session: BridgeSession) -> None:
        longest = PREPARED_LOOK_S if await session.can_prepare() else LIVENESS_S
        # The bridge before this one may have been awake when a transaction that is still open
        # wrote its rows, and then that transaction wakes nobody.
        fence: int | None = await session.fence()
        busy_until = 0.0
        while True:
            oldest = await self._batches.oldest_transaction() if fence is not None else 0
            turn = await self._turn(session)
            pause = turn.due_in
            if turn.rows >= BUSY_ROWS:
                busy_until = time.monotonic() + BUSY_S
            if turn.rows_wait or time.monotonic() < busy_until:
                await session.stay_awake()
                look = BUSY_LOOK_S if turn.rows >= BUSY_ROWS else LOOK_S
                look = max(look, turn.scan_s * _PAUSE_PER_SCAN)
                pause, fence = min(pause, look), None if session.awake else fence
            elif session.awake:
                pause, fence = 0.0, await session.fall_asleep()
            elif fence is not None:
                if oldest >= fence:
                    fence = None
                else:
                    pause = min(pause, FENCE_S)
            await self._clean_up()
            if not await session.wait(min(pause, longest)):
                await session.check()

    async def _turn(self, session: BridgeSession) -> Turn:
        """Take one turn; give it up when the session, and with it the leadership, is lost."""
        turn = asyncio.create_task(self._lifecycle.turn())
        try:
            while not (await asyncio.wait({turn}, timeout=LIVENESS_S))[0]:
                await session.check()
            return turn.result()
        finally:
            turn.cancel()
            await asyncio.gather(turn, return_exceptions=True)

    async def _watch_tables(self) -> None:
        """Look at the tables every WATCH_S seconds, beside the turns, which it never delays."""
        failing = False
        while True:
            begin = time.monotonic()
            try:
                await self._watch.look()
                failing = False
            except (Unavailable, Superseded) as error:
                if not failing:
                    log.warning("tables are not looked at", extra={"why": str(error)})
                failing = True
            except Exception:
                log.exception("the look at the tables failed; it goes on")
            took_s = time.monotonic() - begin
            await asyncio.sleep(max(WATCH_S, took_s * _PAUSE_PER_SCAN))

    async def _clean_up(self) -> None:
        if time.monotonic() >= self._clean_up_at:
            self._clean_up_at = time.monotonic() + CLEAN_UP_S
            await self._batches.delete_old()
