"""What errors of PostgreSQL mean for callers: which are outages, and what they are called."""

from dataclasses import dataclass

import psycopg2
from psycopg2.errors import LockNotAvailable, QueryCanceled

from service_kit.errors import Unavailable

# PostgreSQL ends a statement that takes longer, and a wait for a lock that takes longer.
STATEMENT_TIMEOUT_MS = 30_000
LOCK_TIMEOUT_MS = 10_000
# Callers should come back after this many seconds when a statement or a lock took too long.
RETRY_AFTER_TIMEOUT_S = 5.0
# Troubles of the whole server, by SQLSTATE. A new connection would meet them as well.
_TROUBLES = {
    "53100": "PostgreSQL's disk is full: free space on the disk of its data",
    "53200": "PostgreSQL is out of memory: give its machine or container more",
    "53300": "PostgreSQL has no connection left: raise its max_connections, or end other sessions",
    "53400": "PostgreSQL has reached a limit of its configuration",
    "58030": "PostgreSQL cannot read or write its files: look at its disk",
    "25006": "PostgreSQL takes no writes: it is a standby, or set to read only",
    "57P01": "PostgreSQL is being stopped",
    "57P02": "PostgreSQL has crashed and recovers",
    "57P03": "PostgreSQL is starting, stopping or recovering, and takes no connections yet",
    "40001": "PostgreSQL broke the transaction off because another one changed the same rows",
    "40P01": "PostgreSQL broke the transaction off to end a deadlock with another one",
}
# A refused connection has no SQLSTATE in psycopg2, only the server's English text.
_TEXTS_AT_CONNECT = {
    "too many clients": "53300",
    "remaining connection slots": "53300",
    "too many connections": "53300",
    "starting up": "57P03",
    "in recovery mode": "57P03",
    "not yet accepting connections": "57P03",
    "not accepting connections": "57P03",
    "shutting down": "57P03",
    "No space left on device": "53100",
}
# Errors of these classes end the session or befall the whole server, so they are no fault of the
# statement: lost connections, resources, operator intervention, system errors, rolled back.
_OUTAGE_CLASSES = ("08", "53", "57", "58", "40")
_CONFLICTS = ("40001", "40P01")
_OUTAGES = ("25006", "55P03", "55006")


@dataclass(frozen=True)
class Timeouts:
    """Milliseconds after which PostgreSQL ends a statement, or a statement's wait for one lock."""

    statement_ms: int = STATEMENT_TIMEOUT_MS
    lock_ms: int = LOCK_TIMEOUT_MS


DEFAULT_TIMEOUTS = Timeouts()


class BrokenOff(Unavailable):
    """PostgreSQL is there, but it ended the work: it took too long, or another was in its way."""


def is_outage(error: psycopg2.Error) -> bool:
    """Return whether the same work may succeed later, because the error is no fault of its own."""
    code = error.pgcode
    if code is None:
        return isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError)
    return code[:2] in _OUTAGE_CLASSES or code in _OUTAGES


def is_lost_connection(error: psycopg2.Error) -> bool:
    """Return whether the connection is gone, so that a new one may do better."""
    code = error.pgcode
    return is_outage(error) and (code is None or code[:2] == "08" or code.startswith("57P"))


def unavailable(
    error: psycopg2.Error, action: str = "the statement", timeouts: Timeouts = DEFAULT_TIMEOUTS
) -> Unavailable:
    """Return the caller's error for an outage.

    `action` names the work for the caller, for example "counting the rows of reviews", and
    `timeouts` are those that the work ran with.
    """
    if isinstance(error, LockNotAvailable):
        limit = f"it waited {timeouts.lock_ms / 1000:g} s for a lock that another session holds"
    elif isinstance(error, QueryCanceled):
        limit = f"a statement of it may take {timeouts.statement_ms / 1000:g} s"
    elif error.pgcode in _CONFLICTS:
        return BrokenOff(f"{_trouble(error)}: {action} changed nothing, so try again")
    else:
        return Unavailable(_trouble(error))
    return BrokenOff(
        f"PostgreSQL broke off {action} ({error.diag.message_primary}): {limit}; nothing was"
        f" changed, so try again in {RETRY_AFTER_TIMEOUT_S:g} s",
        RETRY_AFTER_TIMEOUT_S,
    )


def _trouble(error: psycopg2.Error) -> str:
    lines = str(error).strip().splitlines()
    first = lines[0] if lines else type(error).__name__
    code = error.pgcode or next(
        (code for text, code in _TEXTS_AT_CONNECT.items() if text in str(error)), ""
    )
    if code in _TROUBLES:
        return f"{_TROUBLES[code]} ({first})"
    return f"PostgreSQL is away: {first}"
