"""What each role may do, in a new database and in one of an earlier release."""

import psycopg2
import pytest
from psycopg2.errors import InsufficientPrivilege

from service_kit.database_roles.names import AIRFLOW, LOGIN_ROLES, MLFLOW, OPERATOR
from tests.integration.database_roles.conftest import Server
from tests.real_parts.trigger_service import query

ROW = "INSERT INTO training.reviews (text, label) VALUES ('fine', 'positive')"
OUTBOX = "SELECT model, op, row_count FROM mesh.outbox"


@pytest.fixture(params=["new", "upgraded"])
def server(request: pytest.FixtureRequest) -> Server:
    """Both servers in turn."""
    found: Server = request.getfixturevalue(request.param)
    return found


def test_no_role_that_logs_in_is_a_superuser_or_may_become_one(server: Server) -> None:
    strong = query(
        server.superuser(),
        "SELECT login.rolname, strong.rolname FROM pg_roles AS login, pg_roles AS strong"
        " WHERE login.rolname = ANY(%s) AND pg_has_role(login.oid, strong.oid, 'MEMBER')"
        " AND (strong.rolsuper OR strong.rolreplication OR strong.rolbypassrls"
        "      OR strong.rolname IN ('pg_execute_server_program', 'pg_write_server_files',"
        "                            'pg_read_server_files', 'pg_write_all_data'))",
        list(LOGIN_ROLES),
    )
    assert strong == []


def test_nothing_in_the_databases_belongs_to_the_superuser(server: Server) -> None:
    for database in ("training", "mlflow", "airflow"):
        owned = query(
            server.superuser(database),
            "SELECT relname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace"
            " JOIN pg_roles ON pg_roles.oid = relowner"
            " WHERE rolsuper AND nspname IN ('public', 'mesh', 'training')"
            " UNION ALL SELECT proname FROM pg_proc JOIN pg_roles ON pg_roles.oid = proowner"
            " WHERE rolsuper AND pronamespace IN (SELECT oid FROM pg_namespace"
            "                                     WHERE nspname IN ('public', 'mesh', 'training'))",
        )
        assert owned == []


def test_every_function_of_the_mesh_is_closed_to_the_public_and_has_its_search_path(
    server: Server,
) -> None:
    found = query(
        server.superuser(),
        "SELECT proname, has_function_privilege('public', pg_proc.oid, 'EXECUTE'),"
        " coalesce(array_to_string(proconfig, ' '), ''), prosecdef, proowner::regrole::text"
        " FROM pg_proc WHERE pronamespace = 'mesh'::regnamespace",
    )
    assert {name for name, *_ in found} >= {"after_write", "after_delete", "end_of_queue"}
    for name, is_public, settings, is_definer, owner in found:
        assert not is_public, name
        assert "search_path=" in str(settings), name
        # These two own nothing but what the functions are for.
        assert not is_definer or owner in ("mesh_outbox", "mesh_audit"), name


def test_the_owner_of_the_trigger_functions_can_only_add_entries(server: Server) -> None:
    granted = query(
        server.superuser(),
        "SELECT relname, privilege FROM pg_class,"
        " unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) AS privilege"
        " WHERE relnamespace IN ('mesh'::regnamespace, 'training'::regnamespace)"
        " AND relkind = 'r' AND has_table_privilege('mesh_outbox', pg_class.oid, privilege)",
    )
    assert set(granted) == {("outbox", "INSERT"), ("removals", "INSERT")}
    schemas = query(
        server.superuser(),
        "SELECT nspname FROM pg_namespace WHERE has_schema_privilege('mesh_outbox', oid, 'CREATE')",
    )
    assert schemas == []


def test_the_operator_works_with_training_tables_as_before(server: Server) -> None:
    url = server.url(OPERATOR)
    query(url, ROW)
    assert query(url, OUTBOX) == [("reviews", "INSERT", 1)]
    query(url, "ALTER TABLE training.reviews ADD COLUMN note text")
    query(url, "CREATE INDEX ON training.reviews (label)")
    query(url, "CREATE TABLE training.mine (id bigint PRIMARY KEY, text text NOT NULL)")
    query(url, "UPDATE mesh.models SET seal_rows = 5 WHERE name = 'reviews'")
    query(url, "CREATE ROLE writer LOGIN PASSWORD 'writer'")
    query(
        url, "GRANT USAGE ON SCHEMA training TO writer; GRANT INSERT ON training.reviews TO writer"
    )
    query(server.url("writer"), ROW)
    assert len(query(url, OUTBOX)) == 2
    query(url, "DROP OWNED BY writer; DROP ROLE writer")


def test_the_operator_is_no_superuser(server: Server) -> None:
    for statement in (
        "COPY training.reviews (text, label) FROM PROGRAM 'id'",
        "SELECT pg_read_file('/etc/passwd')",
        "GRANT pg_execute_server_program TO mesh_operator",
        "ALTER ROLE mesh_operator SUPERUSER",
        "INSERT INTO mesh.outbox (model, op, row_count, row_ids) VALUES ('x', 'INSERT', 1, '{}')",
    ):
        with pytest.raises(InsufficientPrivilege):
            query(server.url(OPERATOR), statement)


@pytest.mark.parametrize(
    ("role", "statement"),
    [
        ("mesh_training", ROW),
        ("mesh_training", "UPDATE mesh.models SET seal_rows = 1"),
        ("mesh_training", "DELETE FROM mesh.batches"),
        ("mesh_control_plane", "SELECT * FROM training.reviews"),
        ("mesh_control_plane", "DELETE FROM mesh.training_jobs"),
        ("mesh_trigger", "DELETE FROM mesh.training_jobs"),
        ("mesh_trigger", "COPY training.reviews (text, label) FROM PROGRAM 'id'"),
    ],
)
def test_a_part_may_not_do_what_is_another_parts(new: Server, role: str, statement: str) -> None:
    with pytest.raises(InsufficientPrivilege):
        query(new.url(role), statement)


def test_mlflow_and_airflow_have_their_own_database_only(server: Server) -> None:
    query(server.url(MLFLOW, "mlflow"), "CREATE TABLE versions (id integer)")
    query(server.url(AIRFLOW, "airflow"), "CREATE TABLE runs (id integer)")
    for role, database in ((MLFLOW, "airflow"), (AIRFLOW, "mlflow"), ("mesh_training", "mlflow")):
        with pytest.raises(psycopg2.OperationalError, match="permission denied for database"):
            query(server.url(role, database), "SELECT 1")
    with pytest.raises(InsufficientPrivilege):
        query(server.url(MLFLOW), "SELECT * FROM training.reviews")


def test_writers_and_owners_of_an_earlier_release_go_on(upgraded: Server) -> None:
    query(upgraded.url("app"), ROW)
    query(upgraded.url("mlflow", "mlflow"), "ALTER TABLE experiments ADD COLUMN name text")
    query(upgraded.url("airflow", "airflow"), "ALTER TYPE state ADD VALUE 'failed'")
    query(upgraded.url("owner"), "ALTER TABLE training.films ADD COLUMN note text")
    assert query(upgraded.url(OPERATOR), OUTBOX) == [("reviews", "INSERT", 1)]


async def test_a_table_of_another_owner_gets_its_triggers(upgraded: Server) -> None:
    await upgraded.make_tables(upgraded.url("mesh_trigger"), upgraded.url("mesh_training"), "films")
    query(upgraded.url("owner"), ROW.replace("reviews", "films"))
    assert query(upgraded.url(OPERATOR), OUTBOX) == [("films", "INSERT", 1)]
    assert query(upgraded.url("mesh_training"), "SELECT text FROM training.films") == [("fine",)]
