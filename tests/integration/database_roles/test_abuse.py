"""Attacks by roles that may write to training tables, or own one."""

import psycopg2
import pytest
from psycopg2.errors import InsufficientPrivilege

from service_kit.database_roles.names import OPERATOR
from tests.integration.database_roles.conftest import Server
from tests.real_parts.trigger_service import query

# Code of the owner's own, which notes as whom it runs, behind casts that nobody has to name.
OWN_CODE = (
    "CREATE TABLE evil.ran (who text); GRANT INSERT ON evil.ran TO PUBLIC;"
    "GRANT USAGE ON SCHEMA evil TO PUBLIC;"
    "CREATE TYPE evil.kind AS (value text);"
    "CREATE FUNCTION evil.note() RETURNS void LANGUAGE sql AS"
    " 'INSERT INTO evil.ran VALUES (current_user)';"
    "CREATE FUNCTION evil.to_id(evil.kind) RETURNS bigint LANGUAGE plpgsql AS"
    " 'BEGIN PERFORM evil.note(); RETURN 1; END';"
    "CREATE CAST (evil.kind AS bigint) WITH FUNCTION evil.to_id(evil.kind) AS IMPLICIT;"
    "CREATE FUNCTION evil.to_text(evil.kind) RETURNS text LANGUAGE plpgsql AS"
    " 'BEGIN PERFORM evil.note(); RETURN ''train''; END';"
    "CREATE CAST (evil.kind AS text) WITH FUNCTION evil.to_text(evil.kind) AS IMPLICIT;"
    "CREATE TYPE evil.mood AS ENUM ('train', 'test', 'positive');"
    "CREATE FUNCTION evil.mood_to_text(evil.mood) RETURNS text LANGUAGE plpgsql AS"
    " 'BEGIN PERFORM evil.note(); RETURN ''train''; END';"
    "CREATE CAST (evil.mood AS text) WITH FUNCTION evil.mood_to_text(evil.mood) AS IMPLICIT;"
    "CREATE DOMAIN evil.wrapped AS evil.kind"
)


@pytest.fixture
def evil(new: Server) -> str:
    """URL for a role that owns the training table `reviews` and has a schema of its own."""
    query(
        new.url(OPERATOR),
        "CREATE ROLE evil LOGIN PASSWORD 'evil'; GRANT USAGE, CREATE ON SCHEMA training TO evil;"
        "ALTER TABLE training.reviews OWNER TO evil; CREATE SCHEMA evil AUTHORIZATION evil",
    )
    query(new.url("evil"), OWN_CODE)
    return new.url("evil")


@pytest.mark.parametrize(
    ("column", "type_name", "value"),
    [
        ("id", "evil.kind", "ROW('1')::evil.kind"),
        ("id", "evil.wrapped", "ROW('1')::evil.kind::evil.wrapped"),
        ("split", "evil.kind", "ROW('train')::evil.kind"),
        ("split", "evil.mood", "'train'"),
        ("label", "evil.mood", "'positive'"),
    ],
)
def test_a_columns_own_type_runs_no_code_with_the_functions_rights(
    evil: str, column: str, type_name: str, value: str
) -> None:
    query(evil, f"ALTER TABLE training.reviews DROP COLUMN {column} CASCADE")
    query(evil, f"ALTER TABLE training.reviews ADD COLUMN {column} {type_name}")
    others = [name for name in ("text", "label", "split") if name != column]
    places = ", ".join("'train'" for _ in others)
    query(
        evil,
        f"INSERT INTO training.reviews ({column}, {', '.join(others)}) VALUES ({value}, {places})",
    )
    query(evil, "UPDATE training.reviews SET text = 'changed'")
    query(evil, "DELETE FROM training.reviews")
    assert query(evil, "SELECT who FROM evil.ran WHERE who <> 'evil'") == []


def test_types_that_hold_no_code_go_on(new: Server) -> None:
    operator = new.url(OPERATOR)
    query(
        operator,
        "CREATE TYPE training.kind AS ENUM ('train', 'test');"
        "CREATE DOMAIN training.number AS bigint;"
        "ALTER TABLE training.reviews ALTER COLUMN id DROP IDENTITY;"
        "ALTER TABLE training.reviews ALTER COLUMN id TYPE training.number;"
        "ALTER TABLE training.reviews DROP COLUMN split;"
        "ALTER TABLE training.reviews ADD COLUMN split training.kind NOT NULL DEFAULT 'train'",
    )
    query(operator, "INSERT INTO training.reviews (id, text, label) VALUES (1, 'fine', 'a')")
    query(operator, "UPDATE training.reviews SET text = 'finer'")
    query(operator, "DELETE FROM training.reviews")
    assert query(operator, "SELECT op, row_count, row_ids::text FROM mesh.outbox") == [
        ("INSERT", 1, "{[1,2)}"),
        ("UPDATE", 1, "{[1,2)}"),
    ]
    assert query(operator, "SELECT op, row_count FROM mesh.removals") == [("DELETE", 1)]


@pytest.mark.parametrize("function", ["after_write", "after_delete", "after_truncate"])
def test_a_writer_cannot_attach_the_functions_to_a_table_of_its_own(
    evil: str, function: str
) -> None:
    query(evil, "CREATE TABLE training.forged (LIKE training.reviews)")
    with pytest.raises(InsufficientPrivilege):
        query(
            evil,
            "CREATE TRIGGER forging AFTER INSERT ON training.forged REFERENCING NEW TABLE AS"
            f" new_rows FOR EACH STATEMENT EXECUTE FUNCTION mesh.{function}('reviews')",
        )


def test_a_writer_that_may_look_into_the_schema_is_refused_too(new: Server, evil: str) -> None:
    query(new.superuser(), "GRANT USAGE ON SCHEMA mesh TO evil")
    query(evil, "CREATE TABLE training.forged (LIKE training.reviews)")
    for statement in (
        "CREATE TRIGGER forging AFTER INSERT ON training.forged REFERENCING NEW TABLE AS new_rows"
        " FOR EACH STATEMENT EXECUTE FUNCTION mesh.after_write('reviews')",
        "INSERT INTO mesh.outbox (model, op, row_count, row_ids) VALUES ('x', 'INSERT', 1, '{}')",
        "SELECT mesh.end_of_queue('reviews')",
    ):
        with pytest.raises(InsufficientPrivilege):
            query(evil, statement)


def test_a_role_of_the_operator_gets_into_no_part(evil: str) -> None:
    for role in ("mesh_training_tables", "mesh_trigger", "mesh_outbox", "mesh_shared"):
        with pytest.raises(psycopg2.Error, match="permission denied"):
            query(evil, f"SET ROLE {role}")
