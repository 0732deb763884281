"""Two real servers: one that is new, and one that an earlier release has filled."""

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

from service_kit.database import Database, apply_schema
from service_kit.database_roles.names import LOGIN_ROLES
from service_kit.database_roles.set_up import set_up
from tests.real_parts.postgres import execute, running_postgres, with_database
from tests.real_parts.trigger_service import query
from training_svc.jobs import job_store
from trigger_svc.database.queries import model_table
from trigger_svc.service import SCHEMA

# URL of the database `training`, or of another, for a role.
UrlOf = Callable[..., str]


class Server:
    """A server, and the passwords of its roles."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.passwords = {role: secrets.token_hex(8) for role in LOGIN_ROLES}

    def superuser(self, database: str = "training") -> str:
        """URL of a database for the superuser."""
        return with_database(self._url, database)

    def url(self, role: str, database: str = "training") -> str:
        """URL of a database for a role. A role of a test has its name as password."""
        parts = urlsplit(with_database(self._url, database))
        login = f"{role}:{self.passwords.get(role, role)}"
        return urlunsplit(parts._replace(netloc=f"{login}@{parts.hostname}:{parts.port}"))

    def set_up(self) -> None:
        """What `mesh up` does before the parts start."""
        set_up(self.superuser, self.passwords)

    async def make_tables(self, trigger: str, training: str, model: str = "reviews") -> None:
        """What the services do at their start, then the first import of a model."""
        database = Database(training, "test", 1)
        await apply_schema(database, "training jobs", job_store.SCHEMA)
        await database.close()
        database = Database(trigger, "test", 1)
        await apply_schema(database, "trigger", *SCHEMA)
        await database.run(lambda cursor: cursor.execute(model_table(model)))
        await database.close()
        query(trigger, "INSERT INTO mesh.models (name) VALUES (%s) ON CONFLICT DO NOTHING", model)


@pytest.fixture
def empty_server(tmp_path: Path) -> Iterator[Server]:
    """A server without databases and roles."""
    with running_postgres(tmp_path) as url:
        yield Server(url)


@pytest.fixture
async def new(empty_server: Server) -> Server:
    """A new server with its roles, the tables of two services, and a model `reviews`."""
    empty_server.set_up()
    await empty_server.make_tables(
        empty_server.url("mesh_trigger"), empty_server.url("mesh_training")
    )
    return empty_server


@pytest.fixture
async def upgraded(empty_server: Server) -> Server:
    """A server on which the superuser owned everything, and that has its roles now.

    A writer `app` may insert into `reviews`, and `owner` owns the table `films`.
    """
    superuser = empty_server.superuser()
    for database in ("training", "mlflow", "airflow"):
        execute(empty_server.superuser("postgres"), f"CREATE DATABASE {database}")
    await empty_server.make_tables(superuser, superuser)
    query(
        superuser,
        "CREATE ROLE app LOGIN PASSWORD 'app'; CREATE ROLE owner LOGIN PASSWORD 'owner';"
        "GRANT USAGE ON SCHEMA training TO app, owner;"
        "GRANT INSERT ON training.reviews TO app;"
        "CREATE TABLE training.films (LIKE training.reviews INCLUDING ALL);"
        "ALTER TABLE training.films OWNER TO owner",
    )
    query(empty_server.superuser("mlflow"), "CREATE TABLE experiments (id serial PRIMARY KEY)")
    query(empty_server.superuser("airflow"), "CREATE TYPE state AS ENUM ('done')")
    for _ in range(2):  # twice: it is idempotent
        empty_server.set_up()
    await empty_server.make_tables(
        empty_server.url("mesh_trigger"), empty_server.url("mesh_training")
    )
    return empty_server
