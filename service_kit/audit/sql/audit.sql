-- Who changed what: a row for each call of the scopes data, train and release when it ends, and for
-- each token that `mesh token` makes or revokes. Nothing changes a row, and only mesh.clean_audit()
-- removes rows, when they are old.
--
-- Where the database has the roles of the mesh (service_kit/database_roles), the role mesh_audit
-- owns what is made here. This script is idempotent; for a role that may not change the table it
-- does nothing.
CREATE SCHEMA IF NOT EXISTS mesh;

DO $script$
BEGIN
    IF EXISTS (
        SELECT FROM pg_class WHERE oid = to_regclass('mesh.audit')
          AND NOT pg_has_role(relowner, 'USAGE')
    ) THEN
        RETURN;
    END IF;

    CREATE TABLE IF NOT EXISTS mesh.audit (
        -- Chosen by the writer, so that an entry that is written twice is there once.
        id          uuid PRIMARY KEY,
        -- When the call ended.
        at          timestamptz NOT NULL,
        -- Of the token; of a foreign issuer's token subject@issuer.
        subject     text NOT NULL,
        token_id    text NOT NULL,
        method      text NOT NULL,
        -- Empty: the call named no model.
        model       text NOT NULL,
        request_id  text NOT NULL,
        -- Name of the gRPC code.
        outcome     text NOT NULL,
        detail      text NOT NULL
    );
    CREATE INDEX IF NOT EXISTS audit_at ON mesh.audit (at, id);
    CREATE INDEX IF NOT EXISTS audit_model ON mesh.audit (model, at);
    CREATE INDEX IF NOT EXISTS audit_subject ON mesh.audit (subject, at);

    -- Days for which rows stay. The one row is set by `mesh up` or the job database-roles, from
    -- MESH_AUDIT_DAYS.
    CREATE TABLE IF NOT EXISTS mesh.audit_retention (
        is_only  boolean PRIMARY KEY DEFAULT true CHECK (is_only),
        days     integer NOT NULL CHECK (days BETWEEN 1 AND 36500)
    );
    INSERT INTO mesh.audit_retention (days) VALUES (400) ON CONFLICT DO NOTHING;

    -- Holds for everybody, the owner included.
    CREATE OR REPLACE FUNCTION mesh.keep_audit() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog AS $function$
    BEGIN
        IF TG_OP = 'DELETE' AND OLD.at < now() - make_interval(
            days => (SELECT days FROM mesh.audit_retention)
        ) THEN
            RETURN OLD;
        END IF;
        RAISE EXCEPTION 'mesh.audit is append-only: % is refused', TG_OP
            USING ERRCODE = 'insufficient_privilege';
    END
    $function$;

    CREATE OR REPLACE TRIGGER keep_rows BEFORE UPDATE OR DELETE ON mesh.audit
        FOR EACH ROW EXECUTE FUNCTION mesh.keep_audit();
    CREATE OR REPLACE TRIGGER keep_all BEFORE TRUNCATE ON mesh.audit
        FOR EACH STATEMENT EXECUTE FUNCTION mesh.keep_audit();

    -- Removes at most 10,000 old rows and returns how many. It runs with the rights of its owner,
    -- and takes no argument, so that who may call it can remove nothing else.
    CREATE OR REPLACE FUNCTION mesh.clean_audit() RETURNS integer LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = pg_catalog AS $function$
    DECLARE
        removed integer;
    BEGIN
        DELETE FROM mesh.audit WHERE id IN (
            SELECT id FROM mesh.audit WHERE at < now() - make_interval(
                days => (SELECT days FROM mesh.audit_retention)
            )
            ORDER BY at LIMIT 10000
        );
        GET DIAGNOSTICS removed = ROW_COUNT;
        RETURN removed;
    END
    $function$;

    REVOKE ALL ON FUNCTION mesh.keep_audit(), mesh.clean_audit() FROM PUBLIC;
END
$script$;
