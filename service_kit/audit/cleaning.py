"""Removes the entries of the audit that are past their days, once a day."""

import asyncio
import logging

import psycopg2
from psycopg2.extensions import cursor as Cursor

from service_kit.database import Database
from service_kit.errors import Unavailable

log = logging.getLogger(__name__)

# Seconds: the first cleaning waits until the mesh is up, and one that failed is tried again sooner.
FIRST_AFTER_S = 300.0
DAY_S = 86_400.0
RETRY_AFTER_S = 3_600.0
# Between two batches of 10,000 rows, so that entries can be written meanwhile.
PAUSE_S = 0.1


async def keep_clean(database: Database) -> None:
    """Clean once a day until cancelled."""
    pause = FIRST_AFTER_S
    while True:
        await asyncio.sleep(pause)
        pause = DAY_S if await cleaned(database) else RETRY_AFTER_S


async def cleaned(database: Database) -> bool:
    """Remove all that is past its days, and return whether that worked."""
    removed = 0
    try:
        while some := await database.run(_remove_some, "cleaning the audit"):
            removed += some
            await asyncio.sleep(PAUSE_S)
    except (Unavailable, psycopg2.Error) as error:
        log.warning("the audit is not cleaned; that is tried again", extra={"why": str(error)})
        return False
    if removed:
        log.info("old entries of the audit are removed", extra={"entries": removed})
    return True


def _remove_some(cursor: Cursor) -> int:
    cursor.execute("SELECT mesh.clean_audit()")
    [(removed,)] = cursor.fetchall()
    return int(removed)
