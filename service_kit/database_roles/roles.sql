-- The roles of a mesh. They exist in the whole server, so this idempotent script runs once, in the
-- database `postgres`, before the scripts of the single databases.
--
-- mesh_shared           owns the tables that several services write, and mesh.schema_versions.
-- mesh_outbox           owns the trigger functions of the training tables. It may add rows to
--                       mesh.outbox and mesh.removals, and nothing else.
-- mesh_audit            owns the audit, mesh.audit. Nobody is a member of it.
-- mesh_training_tables  owns the schema `training` and the tables there.
DO $$
DECLARE
    missing text;
    own text[] := ARRAY[
        'mesh_training', 'mesh_trigger', 'mesh_control_plane', 'mesh_operator', 'mlflow', 'airflow',
        'mesh_shared', 'mesh_outbox', 'mesh_audit', 'mesh_training_tables'
    ];
    other name;
BEGIN
    FOREACH missing IN ARRAY own LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = missing) THEN
            EXECUTE format('CREATE ROLE %I', missing);
        END IF;
    END LOOP;
    GRANT mesh_shared TO mesh_training, mesh_trigger, mesh_control_plane, mesh_operator;
    GRANT mesh_outbox TO mesh_trigger;
    GRANT mesh_training_tables TO mesh_trigger, mesh_operator;
    -- The operator sees the server's settings and what runs there.
    GRANT pg_monitor TO mesh_training_tables;
    ALTER ROLE mesh_operator SET role = 'mesh_training_tables';

    -- Before version 16, a role that may make roles can take part in every role but the superusers.
    IF current_setting('server_version_num')::integer >= 160000 THEN
        ALTER ROLE mesh_training_tables CREATEROLE;
        -- The operator may give a table to a role that the operator has made, and the trigger service
        -- can set up its triggers there.
        ALTER ROLE mesh_operator SET createrole_self_grant = 'set, inherit';
    END IF;

    -- In earlier releases the operator was a superuser. The roles that were made then stay the
    -- operator's: writers and owners of training tables.
    FOR other IN
        SELECT rolname FROM pg_roles
        WHERE NOT (rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls)
          AND rolname !~ '^pg_' AND rolname <> 'mesh' AND NOT rolname = ANY(own)
          AND NOT EXISTS (
              SELECT FROM pg_roles AS strong
              WHERE (strong.rolsuper OR strong.rolname ~ '^pg_' OR strong.rolname = ANY(own))
                AND pg_has_role(pg_roles.oid, strong.oid, 'MEMBER')
          )
    LOOP
        EXECUTE format('GRANT %I TO mesh_training_tables WITH ADMIN OPTION', other);
    END LOOP;

    -- In earlier releases all services in containers used this one role. On a local mesh it is the
    -- superuser.
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'mesh' AND NOT rolsuper) THEN
        ALTER ROLE mesh NOLOGIN;
    END IF;
END
$$;
