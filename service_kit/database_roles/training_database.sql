-- What each role may do in the database `training`. This idempotent script also brings a database of
-- a release with one role for all services into this order.
CREATE SCHEMA IF NOT EXISTS mesh;
CREATE SCHEMA IF NOT EXISTS training;
ALTER SCHEMA mesh OWNER TO CURRENT_USER;
ALTER SCHEMA training OWNER TO mesh_training_tables;

DO $$
BEGIN
    EXECUTE format('ALTER DATABASE %I OWNER TO CURRENT_USER', current_database());
    -- The operator may let other roles connect.
    EXECUTE format(
        'GRANT CONNECT, TEMPORARY, CREATE ON DATABASE %I TO mesh_training_tables WITH GRANT OPTION',
        current_database()
    );
    -- The services' scripts begin with CREATE SCHEMA IF NOT EXISTS, which needs this right even when
    -- the schema exists.
    EXECUTE format(
        'GRANT CONNECT, TEMPORARY, CREATE ON DATABASE %I TO mesh_training, mesh_trigger,'
        ' mesh_control_plane, mesh_shared, mesh_operator',
        current_database()
    );
END
$$;

GRANT USAGE ON SCHEMA mesh TO mesh_outbox, mesh_training_tables, mesh_operator;
GRANT USAGE, CREATE ON SCHEMA mesh TO mesh_shared, mesh_training, mesh_control_plane;
-- The trigger service lends mesh_outbox the right CREATE while it hands its functions over.
GRANT USAGE, CREATE ON SCHEMA mesh TO mesh_trigger WITH GRANT OPTION;
GRANT USAGE ON SCHEMA training TO mesh_training, mesh_operator;

-- Tables of the schema `mesh` whose owner is none of these roles come from an earlier release.
DO $$
DECLARE
    found record;
BEGIN
    FOR found IN
        SELECT pg_class.oid::regclass AS name, CASE
            WHEN relname IN ('training_jobs', 'training_queue') THEN 'mesh_training'
            WHEN relname IN ('leader', 'answered_requests', 'removed_models', 'served_records')
                THEN 'mesh_control_plane'
            WHEN relname IN ('models', 'forgotten_models', 'troubles', 'batches', 'bridge',
                             'outbox', 'removals', 'requests') THEN 'mesh_trigger'
            WHEN relname IN ('audit', 'audit_retention') THEN 'mesh_audit'
            ELSE 'mesh_shared' END AS new_owner
        FROM pg_class JOIN pg_roles ON pg_roles.oid = relowner
        WHERE relnamespace = 'mesh'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'S')
          AND (rolsuper OR rolname = 'mesh')
          AND NOT EXISTS (
              SELECT FROM pg_depend
              WHERE classid = 'pg_class'::regclass AND objid = pg_class.oid
                AND deptype IN ('a', 'i') AND relkind = 'S' AND refobjsubid > 0
          )
    LOOP
        EXECUTE format('ALTER TABLE %s OWNER TO %I', found.name, found.new_owner);
    END LOOP;

    FOR found IN
        SELECT pg_proc.oid::regprocedure AS name, CASE
            WHEN proname IN ('after_write', 'after_delete', 'after_truncate', 'has_safe_types')
                THEN 'mesh_outbox'
            WHEN proname = 'end_of_queue' THEN 'mesh_trigger'
            WHEN proname IN ('keep_audit', 'clean_audit') THEN 'mesh_audit'
            ELSE 'mesh_shared' END AS new_owner
        FROM pg_proc JOIN pg_roles ON pg_roles.oid = proowner
        WHERE pronamespace = 'mesh'::regnamespace AND (rolsuper OR rolname = 'mesh')
    LOOP
        EXECUTE format('ALTER FUNCTION %s OWNER TO %I', found.name, found.new_owner);
    END LOOP;

    IF to_regclass('mesh.outbox') IS NOT NULL THEN
        GRANT INSERT ON mesh.outbox, mesh.removals TO mesh_outbox;
        -- The operator may give a model seals of its own.
        GRANT UPDATE (seal_rows, seal_quiet_ms, seal_age_ms) ON mesh.models TO mesh_training_tables;
    END IF;
END
$$;

-- Nobody else may attach the mesh's trigger functions to a table, or call another function of it.
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA mesh FROM PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE mesh_training, mesh_trigger, mesh_control_plane, mesh_shared,
    mesh_outbox REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;

-- Every part and the operator may read the tables of the mesh; a part writes its own and the shared
-- ones.
GRANT SELECT ON ALL TABLES IN SCHEMA mesh
    TO mesh_training, mesh_trigger, mesh_control_plane, mesh_operator, mesh_training_tables;
ALTER DEFAULT PRIVILEGES FOR ROLE mesh_training, mesh_trigger, mesh_control_plane, mesh_shared
    IN SCHEMA mesh GRANT SELECT ON TABLES
    TO mesh_training, mesh_trigger, mesh_control_plane, mesh_operator, mesh_training_tables;

-- The training service reads the rows and writes none.
GRANT SELECT ON ALL TABLES IN SCHEMA training TO mesh_training;
ALTER DEFAULT PRIVILEGES FOR ROLE mesh_training_tables, mesh_trigger, mesh_operator
    IN SCHEMA training GRANT SELECT ON TABLES TO mesh_training;
