"""Brings a PostgreSQL server into the order of roles that the mesh works with."""

from collections.abc import Callable, Mapping
from contextlib import closing
from importlib import resources

from psycopg2 import sql
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor
from psycopg2.extensions import encrypt_password

from service_kit.audit.log import SCHEMA as AUDIT
from service_kit.database import connect
from service_kit.database_errors import Timeouts
from service_kit.database_roles.names import (
    AUDIT_DAYS,
    LOGIN_ROLES,
    OWNED_DATABASES,
    TRAINING_DATABASE,
)

SERVER_DATABASE = "postgres"
# Giving away a table waits for the transactions that have it open, for example those of writers who
# are no part of the mesh.
TIMEOUTS = Timeouts(statement_ms=600_000, lock_ms=30_000)

_FOLDER = resources.files("service_kit.database_roles")

# Returns the URL of a database, with the superuser's name and password.
SuperuserUrl = Callable[[str], str]


def set_up(url: SuperuserUrl, passwords: Mapping[str, str], audit_days: int = AUDIT_DAYS) -> None:
    """Create the roles and databases that are missing, and give each role its rights.

    A server that an earlier release filled is brought into the same order. Running this again
    changes nothing but the passwords. `passwords` has one for each of LOGIN_ROLES; rows of the
    audit stay for `audit_days`. Raises Unavailable when the server is away, and psycopg2.Error when
    a statement fails.
    """
    with closing(_connect(url(SERVER_DATABASE))) as connection:
        with connection, connection.cursor() as cursor:
            cursor.execute(_script("roles.sql"))
            for role in LOGIN_ROLES:
                _let_log_in(connection, cursor, role, passwords[role])
        _create_databases(connection)
    for database, owner in OWNED_DATABASES.items():
        with closing(_connect(url(database))) as connection, connection:
            _give_objects(connection.cursor(), owner)
    with closing(_connect(url(TRAINING_DATABASE))) as connection, connection:
        cursor = connection.cursor()
        cursor.execute(_script("training_database.sql"))
        cursor.execute(AUDIT.read_text(encoding="utf-8"))
        cursor.execute(_script("audit_rights.sql"))
        cursor.execute("UPDATE mesh.audit_retention SET days = %s", (audit_days,))
        _give_objects(cursor, "mesh_training_tables")


def _connect(url: str) -> Connection:
    return connect(url, "mesh roles", TIMEOUTS)


def _let_log_in(connection: Connection, cursor: Cursor, role: str, password: str) -> None:
    # The statement holds a verifier only, so that no log of the server can show the password.
    verifier = encrypt_password(password, role, connection, "scram-sha-256")
    cursor.execute(
        sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}").format(
            sql.Identifier(role), sql.Literal(verifier)
        )
    )


def _create_databases(connection: Connection) -> None:
    connection.autocommit = True  # CREATE DATABASE runs outside of transactions only
    with connection.cursor() as cursor:
        cursor.execute("SELECT datname FROM pg_database")
        present = {name for (name,) in cursor.fetchall()}
        for database in (TRAINING_DATABASE, *OWNED_DATABASES):
            if database not in present:
                _create_database(cursor, database)
        for database, owner in OWNED_DATABASES.items():
            name, role = sql.Identifier(database), sql.Identifier(owner)
            cursor.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(name, role))
            cursor.execute(sql.SQL("REVOKE CONNECT ON DATABASE {} FROM PUBLIC").format(name))


def _create_database(cursor: Cursor, name: str) -> None:
    cursor.execute(
        sql.SQL(
            "CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8' LOCALE_PROVIDER builtin"
            " BUILTIN_LOCALE 'C.UTF-8' LOCALE 'C'"
        ).format(sql.Identifier(name))
    )


def _give_objects(cursor: Cursor, new_owner: str) -> None:
    cursor.execute("SELECT set_config('mesh.new_owner', %s, true)", (new_owner,))
    cursor.execute(_script("give_objects.sql"))


def _script(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")
