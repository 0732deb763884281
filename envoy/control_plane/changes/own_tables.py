"""Work on the control plane's own tables, which it makes in the background after its start."""

from collections.abc import Callable
from typing import TypeVar

from psycopg2.errors import UndefinedTable
from psycopg2.extensions import cursor as Cursor

from service_kit.database import DEFAULT_TIMEOUTS, Database, Timeouts
from service_kit.errors import Unavailable

T = TypeVar("T")


async def run_on_own_tables(
    database: Database,
    work: Callable[[Cursor], T],
    action: str,
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
) -> T:
    """Run `work` as `database.run` does. Raises Unavailable also before the tables are made."""
    try:
        return await database.run(work, action, timeouts)
    except UndefinedTable as error:
        raise Unavailable("the control plane's tables are not there yet") from error
