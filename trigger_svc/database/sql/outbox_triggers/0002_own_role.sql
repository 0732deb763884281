-- compatible_from: 1
-- The trigger functions run with the rights of mesh_outbox, a role that can only add entries; and
-- they work only with types that no writer can have made.
--
-- The owner of a training table may give a column any type, and a type may have a cast or an operator
-- with the owner's own code in it. That code would run with the rights of the functions below. So
-- they leave a table alone in which one of the columns that they read has such a type. Its rows are
-- not lost: the bridge finds them by itself, as it finds rows that came past the triggers.

-- Tells whether the trigger functions may work with the rows of a table. PostgreSQL's own types have
-- numbers below 16384. A domain over such a type is as good, and so is an enumeration to which nobody
-- has added a cast.
CREATE OR REPLACE FUNCTION mesh.has_safe_types(of_table oid) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT count(*) = 0
    FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid
    WHERE attrelid = of_table AND attname IN ('id', 'text', 'label', 'split') AND atttypid >= 16384
      AND NOT (typtype = 'd' AND typbasetype < 16384)
      AND NOT (
          typtype = 'e' AND NOT EXISTS (SELECT FROM pg_cast WHERE castsource = pg_type.oid)
      )
$$;

-- Records training rows that were added or changed. Rows of the test split start no training: they
-- are not counted, and a statement that changed only such rows leaves no entry. The model is the
-- one that the table is named after at that moment, so the rows of a renamed table follow its name.
--
-- A failure in this function is a warning, never an error of the user's statement: a lost entry
-- only delays the next training, which reads every row of the table anyway. Every INSERT takes as
-- much longer as this function takes, so it calls no other function of ours.
CREATE OR REPLACE FUNCTION mesh.after_write() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- A table that was moved to another schema is no model's any more.
    IF TG_TABLE_SCHEMA <> 'training' THEN
        RETURN NULL;
    END IF;
    IF TG_OP = 'INSERT' THEN
        -- The lowest and the highest id of all rows bound every later search for them; only rows of
        -- the train split are counted. The exact ids of a large COPY would need much memory. The
        -- aggregates get no row before WHERE has looked at the types, which costs least in this way.
        INSERT INTO mesh.outbox (model, op, row_count, row_ids, table_id)
        SELECT TG_TABLE_NAME, TG_OP, count(*) FILTER (WHERE split = 'train'),
               int8multirange(int8range(min(id), max(id), '[]')), TG_RELID
        FROM new_rows
        WHERE CASE WHEN pg_typeof(id) = 'bigint'::regtype AND pg_typeof(split) = 'text'::regtype
                   THEN true ELSE (SELECT mesh.has_safe_types(TG_RELID)) END
        HAVING count(*) FILTER (WHERE split = 'train') > 0;
    ELSIF mesh.has_safe_types(TG_RELID) THEN
        -- A row whose id was changed counts as new: it finds no old row, so the old columns are
        -- null.
        INSERT INTO mesh.outbox (model, op, row_count, row_ids, table_id)
        SELECT TG_TABLE_NAME, TG_OP, count(*),
               int8multirange(int8range(min(new_rows.id), max(new_rows.id), '[]')), TG_RELID
        FROM new_rows LEFT JOIN old_rows ON old_rows.id = new_rows.id
        WHERE new_rows.split = 'train'
          AND (old_rows.text = new_rows.text AND old_rows.label = new_rows.label
               AND old_rows.split = new_rows.split) IS NOT TRUE
        HAVING count(*) > 0;
    END IF;
    -- Wakes the bridge only when it sleeps. While the bridge is awake it holds this lock and looks
    -- for rows by itself. A NOTIFY at every commit would make all writers queue for one global lock.
    -- Where PREPARE TRANSACTION is possible nobody is woken, since it fails after a NOTIFY: there the
    -- bridge looks once a second.
    IF FOUND AND current_setting('max_prepared_transactions') = '0'
        AND pg_try_advisory_xact_lock_shared(hashtext('champion-mesh'), hashtext('bridge awake'))
    THEN
        PERFORM pg_notify('mesh_outbox', '');
    END IF;
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'mesh: the rows are in, but they start no training by themselves: %', SQLERRM;
    RETURN NULL;
END
$$;

-- Records deleted rows, which start no training.
CREATE OR REPLACE FUNCTION mesh.after_delete() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    counted bigint;
    ids int8multirange;
BEGIN
    IF TG_TABLE_SCHEMA <> 'training' OR NOT mesh.has_safe_types(TG_RELID) THEN
        RETURN NULL;
    END IF;
    SELECT count(*), int8multirange(int8range(min(id), max(id), '[]')) INTO counted, ids
    FROM old_rows;
    IF counted > 0 THEN
        INSERT INTO mesh.removals (model, op, row_count, row_ids)
        VALUES (TG_TABLE_NAME, TG_OP, counted, ids);
    END IF;
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'mesh: the deletion is not recorded: %', SQLERRM;
    RETURN NULL;
END
$$;

CREATE OR REPLACE FUNCTION mesh.after_truncate() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_TABLE_SCHEMA = 'training' THEN
        INSERT INTO mesh.removals (model, op, row_count, row_ids)
        VALUES (TG_TABLE_NAME, TG_OP, 0, '{}');
    END IF;
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'mesh: the truncation is not recorded: %', SQLERRM;
    RETURN NULL;
END
$$;

-- Whoever may attach one of these functions to a table of theirs can forge entries.
REVOKE EXECUTE ON FUNCTION mesh.after_write(), mesh.after_delete(), mesh.after_truncate(),
    mesh.has_safe_types(oid) FROM PUBLIC;

-- A database without the roles of the mesh, for example one of your own, has one role for all of it.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'mesh_outbox') THEN
        GRANT INSERT ON mesh.outbox, mesh.removals TO mesh_outbox;
        GRANT UPDATE (seal_rows, seal_quiet_ms, seal_age_ms) ON mesh.models TO mesh_training_tables;
        -- The new owner of a function needs this right for the moment of the change.
        GRANT USAGE, CREATE ON SCHEMA mesh TO mesh_outbox;
        ALTER FUNCTION mesh.after_write() OWNER TO mesh_outbox;
        ALTER FUNCTION mesh.after_delete() OWNER TO mesh_outbox;
        ALTER FUNCTION mesh.after_truncate() OWNER TO mesh_outbox;
        ALTER FUNCTION mesh.has_safe_types(oid) OWNER TO mesh_outbox;
        REVOKE CREATE ON SCHEMA mesh FROM mesh_outbox;
    END IF;
END
$$;
