"""The audit: every part may add rows to it, and nobody may change or remove one that is not old."""

import asyncio
import uuid
from typing import Any

import psycopg2
import pytest
from psycopg2.errors import InsufficientPrivilege

from service_kit.audit.cleaning import cleaned
from service_kit.audit.log import SCHEMA, AuditLog
from service_kit.callers.audit_entry import Entry
from service_kit.database import Database, apply_schema
from service_kit.database_roles.names import AUDIT, LOGIN_ROLES, OPERATOR
from service_kit.database_roles.set_up import set_up
from tests.integration.database_roles.conftest import Server
from tests.real_parts.trigger_service import query
from tests.real_parts.waiting import until

PARTS = ("mesh_training", "mesh_trigger", "mesh_control_plane")
NOBODYS = ("UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")


@pytest.fixture(params=["new", "upgraded"])
def server(request: pytest.FixtureRequest) -> Server:
    """Both servers in turn."""
    found: Server = request.getfixturevalue(request.param)
    return found


def add(url: str, days_ago: int = 0, count: int = 1) -> None:
    query(
        url,
        "INSERT INTO mesh.audit (id, at, subject, token_id, method, model, request_id, outcome,"
        " detail) SELECT gen_random_uuid(), now() - make_interval(days => %s), 'shop', 't1', 'a/b',"
        " 'reviews', 'r' || n, 'OK', '' FROM generate_series(1, %s) AS n",
        *(days_ago, count),
    )


def count(server: Server) -> int:
    [(found,)] = query(server.superuser(), "SELECT count(*) FROM mesh.audit")
    return int(found)


def privileges(server: Server, role: str) -> set[str]:
    rows = query(
        server.superuser(),
        "SELECT privilege FROM unnest(%s) AS privilege"
        " WHERE has_table_privilege(%s, 'mesh.audit', privilege)",
        *(["SELECT", "INSERT", *NOBODYS], role),
    )
    return {privilege for (privilege,) in rows}


def test_the_parts_may_add_rows_and_nothing_else(server: Server) -> None:
    for role in ("mesh_shared", *PARTS):
        assert privileges(server, role) == {"INSERT"}, role
    assert privileges(server, OPERATOR) == {"INSERT", "SELECT"}
    for role in ("mlflow", "airflow", "mesh_outbox", "mesh_training_tables"):
        assert privileges(server, role) == set(), role


def test_nobody_is_a_member_of_the_owner(server: Server) -> None:
    owners = query(
        server.superuser(),
        "SELECT relname, relowner::regrole::text FROM pg_class"
        " WHERE oid IN ('mesh.audit'::regclass, 'mesh.audit_retention'::regclass)",
    )
    assert {owner for _, owner in owners} == {AUDIT}
    members = query(
        server.superuser(),
        "SELECT rolname FROM pg_roles WHERE pg_has_role(oid, %s, 'MEMBER') AND NOT rolsuper"
        " AND rolname <> %s",
        *(AUDIT, AUDIT),
    )
    assert members == []
    [(logs_in,)] = query(
        server.superuser(), "SELECT rolcanlogin FROM pg_roles WHERE rolname = %s", AUDIT
    )
    assert not logs_in


def test_no_part_changes_hides_or_replaces_the_audit(server: Server) -> None:
    add(server.url("mesh_training"))
    for role in PARTS:
        check_that_nothing_changes(server.url(role))
    check_that_nothing_changes(f"{server.url(OPERATOR)}?options=-c%20role%3Dnone")
    assert count(server) == 1


def check_that_nothing_changes(url: str) -> None:
    for statement in (
        "UPDATE mesh.audit SET subject = 'somebody else'",
        "DELETE FROM mesh.audit",
        "TRUNCATE mesh.audit",
        "DROP TABLE mesh.audit",
        "DROP TABLE mesh.audit CASCADE",
        "ALTER TABLE mesh.audit RENAME TO other",
        "ALTER TABLE mesh.audit SET SCHEMA training",
        "ALTER TABLE mesh.audit DISABLE TRIGGER ALL",
        "ALTER TABLE mesh.audit ENABLE ROW LEVEL SECURITY",
        "DROP TRIGGER keep_rows ON mesh.audit",
        "CREATE RULE gone AS ON INSERT TO mesh.audit DO INSTEAD NOTHING",
        "CREATE TRIGGER gone BEFORE INSERT ON mesh.audit FOR EACH ROW"
        " EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        "DROP SCHEMA mesh CASCADE",
        "ALTER SCHEMA mesh RENAME TO other",
        "UPDATE mesh.audit_retention SET days = 1",
        "DELETE FROM mesh.audit_retention",
        "CREATE OR REPLACE FUNCTION mesh.clean_audit() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
        "DROP FUNCTION mesh.keep_audit() CASCADE",
        "SET ROLE mesh_audit",
        "INSERT INTO mesh.audit SELECT * FROM mesh.audit ON CONFLICT (id) DO UPDATE SET model = ''",
        "MERGE INTO mesh.audit USING (SELECT 1) AS one ON true WHEN MATCHED THEN DELETE",
    ):
        with pytest.raises(InsufficientPrivilege):
            query(url, statement)
    for setting in ("mesh_shared", "mesh_training_tables"):
        for statement in ("DELETE FROM mesh.audit", "TRUNCATE mesh.audit"):
            with pytest.raises(InsufficientPrivilege):
                query(url, f"SET ROLE {setting}; {statement}")


def test_only_the_operator_reads_it(server: Server) -> None:
    add(server.url("mesh_training"))
    query(server.url(OPERATOR), "SET ROLE NONE; SELECT subject FROM mesh.audit")
    for role in PARTS:
        with pytest.raises(InsufficientPrivilege):
            query(server.url(role), "SELECT subject FROM mesh.audit")


def test_not_even_the_owner_changes_a_row_or_removes_a_young_one(server: Server) -> None:
    add(server.url("mesh_training"))
    add(server.url("mesh_training"), days_ago=401)
    for statement in (
        "UPDATE mesh.audit SET subject = 'somebody else'",
        "DELETE FROM mesh.audit",
        "TRUNCATE mesh.audit",
    ):
        with pytest.raises(InsufficientPrivilege, match="append-only"):
            query(server.superuser(), f"SET ROLE mesh_audit; {statement}")
    assert count(server) == 2
    query(
        server.superuser(), "DELETE FROM mesh.audit WHERE at < now() - interval '400 days 1 hour'"
    )
    assert count(server) == 1


async def test_the_daily_cleaning_removes_what_is_past_its_days_in_batches(server: Server) -> None:
    url = server.url("mesh_trigger")
    add(url, days_ago=399, count=3)
    add(url, days_ago=401, count=10_001)
    assert query(url, "SELECT mesh.clean_audit()") == [(10_000,)]
    database = Database(url, "test", threads=1)
    assert await cleaned(database)
    assert count(server) == 3
    set_up(server.superuser, server.passwords, audit_days=30)
    assert await cleaned(database)
    assert count(server) == 0
    await database.close()


def test_only_the_trigger_service_may_clean(server: Server) -> None:
    for role in LOGIN_ROLES:
        [(may,)] = query(
            server.superuser(),
            "SELECT has_function_privilege(%s, 'mesh.clean_audit()', 'EXECUTE')",
            role,
        )
        assert may is (role == "mesh_trigger"), role


async def test_services_write_with_their_own_role_and_an_entry_that_comes_twice_is_there_once(
    server: Server,
) -> None:
    log = AuditLog(server.url("mesh_control_plane"), "test")
    twice = Entry("shop", "a/b", id=str(uuid.uuid4()))
    log.start()
    for _ in range(2):
        log.record(twice)
        await until(lambda: log.waiting == 0)
    for number in range(1_200):
        log.record(Entry("shop", "a/b", "reviews", detail=str(number)))
    await log.close()
    assert count(server) == 1_201
    first = query(
        server.superuser(), "SELECT subject, method, model, outcome, detail FROM mesh.audit"
    )
    assert ("shop", "a/b", "reviews", "OK", "1199") in first


async def test_a_service_that_starts_leaves_the_audit_as_it_is(server: Server) -> None:
    for role in PARTS:
        database = Database(server.url(role), "test", threads=1)
        await apply_schema(database, "test", SCHEMA)
        await database.close()
    [(owner,)] = query(
        server.superuser(),
        "SELECT relowner::regrole::text FROM pg_class WHERE oid = 'mesh.audit'::regclass",
    )
    assert owner == AUDIT


async def test_an_audit_that_a_service_has_made_gets_its_owner(new: Server) -> None:
    query(new.superuser(), "DROP TABLE mesh.audit, mesh.audit_retention CASCADE")
    query(new.superuser(), "DROP FUNCTION mesh.keep_audit(), mesh.clean_audit()")
    database = Database(new.url("mesh_training"), "test", threads=1)
    await apply_schema(database, "test", SCHEMA)
    await database.close()
    add(new.url("mesh_training"))
    new.set_up()
    assert privileges(new, "mesh_training") == {"INSERT"}
    assert count(new) == 1


async def test_entries_wait_while_the_table_cannot_be_written(
    new: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    blocker: Any = psycopg2.connect(new.superuser())
    with blocker.cursor() as cursor:
        cursor.execute("LOCK TABLE mesh.audit")
    log = AuditLog(new.url("mesh_trigger"), "test")
    log.start()
    log.record(Entry("shop", "a/b"))
    await until(lambda: "wait for the database" in caplog.text, timeout_s=20)
    # A connection that is lost meanwhile costs nothing either.
    query(
        new.superuser(),
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'test-audit'",
    )
    await asyncio.to_thread(blocker.close)
    await until(lambda: log.waiting == 0, timeout_s=20)
    await log.close()
    assert count(new) == 1
    assert "written again" in caplog.text
