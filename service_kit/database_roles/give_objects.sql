-- Gives what a superuser or the former role `mesh` owns in this database to the role that the
-- setting mesh.new_owner names. Objects in the schema `mesh` and those of extensions stay.
DO $$
DECLARE
    new_owner text := current_setting('mesh.new_owner');
    found record;
BEGIN
    FOR found IN
        WITH old_owners AS (
            SELECT oid FROM pg_roles WHERE rolsuper OR rolname = 'mesh'
        ), schemas AS (
            SELECT oid, nspname FROM pg_namespace
            WHERE nspname !~ '^pg_' AND nspname NOT IN ('information_schema', 'mesh')
        )
        SELECT format('ALTER SCHEMA %I', nspname) AS alter
        FROM pg_namespace JOIN schemas USING (oid, nspname)
        WHERE nspowner IN (SELECT oid FROM old_owners)
        UNION ALL
        SELECT format('ALTER TABLE %s', pg_class.oid::regclass)
        FROM pg_class JOIN schemas ON schemas.oid = relnamespace
        WHERE relowner IN (SELECT oid FROM old_owners) AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
          -- The sequence of a column follows its table.
          AND NOT EXISTS (
              SELECT FROM pg_depend
              WHERE classid = 'pg_class'::regclass AND objid = pg_class.oid
                AND (deptype = 'e'
                     OR deptype IN ('a', 'i') AND relkind = 'S' AND refobjsubid > 0)
          )
        UNION ALL
        SELECT format('ALTER TYPE %s', format_type(pg_type.oid, NULL))
        FROM pg_type JOIN schemas ON schemas.oid = typnamespace
        WHERE typowner IN (SELECT oid FROM old_owners)
          AND (typtype IN ('e', 'd', 'r') OR typtype = 'c' AND EXISTS (
              SELECT FROM pg_class WHERE pg_class.oid = typrelid AND relkind = 'c'
          ))
          AND NOT EXISTS (
              SELECT FROM pg_depend WHERE classid = 'pg_type'::regclass
                AND objid = pg_type.oid AND deptype = 'e'
          )
        UNION ALL
        SELECT format('ALTER ROUTINE %s', pg_proc.oid::regprocedure)
        FROM pg_proc JOIN schemas ON schemas.oid = pronamespace
        WHERE proowner IN (SELECT oid FROM old_owners)
          AND NOT EXISTS (
              SELECT FROM pg_depend WHERE classid = 'pg_proc'::regclass
                AND objid = pg_proc.oid AND deptype IN ('e', 'i')
          )
    LOOP
        EXECUTE format('%s OWNER TO %I', found.alter, new_owner);
    END LOOP;
END
$$;
