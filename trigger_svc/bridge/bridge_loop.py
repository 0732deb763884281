"""Keeps the bridge going: leads, turns, sleeps until something is due or somebody wakes it."""

import asyncio
import logging
import time

import psycopg2
from prometheus_client import Gauge

from service_kit.database import Database
from service_kit.errors import Unavailable
from trigger_svc.batches.batch_store import BatchStore, Superseded
from trigger_svc.bridge.airflow import Airflow
from trigger_svc.bridge.bridge import Bridge, Turn
from trigger_svc.bridge.wakeups import Wakeups
from trigger_svc.settings import TriggerSettings

log = logging.getLogger(__name__)

LOOK_S = 0.1  # between two looks at the outbox while no writer wakes the bridge
_LOOK_SHARE = 20  # and so many times what a look takes: a long outbox is not read all the time
# After so many rows at once more are likely: their writers need not wake it, for a while.
BUSY_ROWS = 50
BUSY_S = 1.0
BUSY_LOOK_S = 0.25  # between two looks then: a stream of rows has the processors for itself
FENCE_S = 0.5  # between two looks while a transaction may write that left the wake-up out
LIVENESS_S = 10.0  # between two checks of a silent session
STANDBY_S = 1.0
RECONNECT_S = 1.0
CLEAN_UP_S = 3600.0

LEADS = Gauge("mesh_bridge_leads", "1 while this process's bridge is the one at work.")


class BridgeLoop:
    """The bridge of this process; `run` ends only when it is cancelled."""

    def __init__(self, database: Database, airflow: Airflow, settings: TriggerSettings) -> None:
        self._url = database.url
        self._store = BatchStore(database, settings)
        self._bridge = Bridge(self._store, airflow)
        self._clean_up_at = 0.0

    async def run(self) -> None:
        """Work in one session after another; whatever ends a session is logged."""
        away = False
        while True:
            try:
                wakeups = await Wakeups.open(self._url)
                try:
                    away = False
                    await self._lead(wakeups)
                finally:
                    LEADS.set(0)
                    wakeups.close()
            except (Unavailable, psycopg2.OperationalError, psycopg2.InterfaceError) as error:
                if not away:
                    log.warning("bridge lost PostgreSQL", extra={"why": str(error).strip()})
                away = True
            except Superseded:
                log.warning("bridge stops: another one has followed it")
            except Exception:
                log.exception("bridge failed; it starts again")
            await asyncio.sleep(RECONNECT_S)

    async def _lead(self, wakeups: Wakeups) -> None:
        if not await wakeups.lead():
            log.info("bridge stands by: another one is at work")
        while wakeups.epoch is None:
            await wakeups.wait(STANDBY_S)
            await wakeups.lead()
        self._store.lead(wakeups.epoch)
        LEADS.set(1)
        log.info("bridge at work")
        # A bridge before this one may have been awake when a transaction in flight wrote.
        fence: int | None = await wakeups.fence()
        busy_until = 0.0
        while True:
            oldest = await self._store.oldest_transaction() if fence is not None else 0
            turn = await self._turn(wakeups)
            pause = turn.due_in
            if turn.rows >= BUSY_ROWS:
                busy_until = time.monotonic() + BUSY_S
            if turn.rows_wait or time.monotonic() < busy_until:
                await wakeups.stay_awake()
                look = BUSY_LOOK_S if turn.rows >= BUSY_ROWS else LOOK_S
                look = max(look, turn.scan_s * _LOOK_SHARE)
                pause, fence = min(pause, look), None if wakeups.awake else fence
            elif wakeups.awake:
                pause, fence = 0.0, await wakeups.fall_asleep()
            elif fence is not None:
                if oldest >= fence:
                    fence = None
                else:
                    pause = min(pause, FENCE_S)
            await self._clean_up()
            if not await wakeups.wait(min(pause, LIVENESS_S)):
                await wakeups.check()

    async def _turn(self, wakeups: Wakeups) -> Turn:
        """One turn, given up when the session, and with it the leadership, is lost meanwhile."""
        turn = asyncio.create_task(self._bridge.turn())
        try:
            while not (await asyncio.wait({turn}, timeout=LIVENESS_S))[0]:
                await wakeups.check()
            return turn.result()
        finally:
            turn.cancel()
            await asyncio.gather(turn, return_exceptions=True)

    async def _clean_up(self) -> None:
        if time.monotonic() >= self._clean_up_at:
            self._clean_up_at = time.monotonic() + CLEAN_UP_S
            await self._store.forget_old()
