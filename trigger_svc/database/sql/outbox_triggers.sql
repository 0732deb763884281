-- What the triggers of every training table do. training_table.sql attaches them to a table.

-- Records training rows that were added or changed. Rows of the test split start no training: they
-- are not counted, and a statement that changed only such rows leaves no entry. The model is the
-- one that the table is named after at that moment, so the rows of a renamed table follow its name.
--
-- A failure in this function is a warning, never an error of the user's statement: a lost entry
-- only delays the next training, which reads every row of the table anyway. Every INSERT takes as
-- much longer as this function takes, so it is one statement and calls no other function of ours.
-- It runs with its owner's rights, whatever search_path the writer has. Setting search_path here
-- would make each INSERT take a twentieth longer, so everything is named with its schema instead.
CREATE OR REPLACE FUNCTION mesh.after_write() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    -- A table that was moved to another schema is no model's any more.
    IF TG_TABLE_SCHEMA OPERATOR(pg_catalog.<>) 'training' THEN
        RETURN NULL;
    END IF;
    IF TG_OP OPERATOR(pg_catalog.=) 'INSERT' THEN
        -- The lowest and the highest id of all rows bound every later search for them; only rows of
        -- the train split are counted. The exact ids of a large COPY would need much memory.
        INSERT INTO mesh.outbox (model, op, row_count, row_ids, table_id)
        SELECT TG_TABLE_NAME, TG_OP,
               pg_catalog.count(*) FILTER (WHERE split OPERATOR(pg_catalog.=) 'train'),
               pg_catalog.int8multirange(pg_catalog.int8range(
                   pg_catalog.min(id), pg_catalog.max(id), '[]'
               )),
               TG_RELID
        FROM new_rows
        HAVING pg_catalog.count(*) FILTER (WHERE split OPERATOR(pg_catalog.=) 'train')
               OPERATOR(pg_catalog.>) 0;
    ELSE
        -- A row whose id was changed counts as new: it finds no old row, so the old columns are
        -- null.
        INSERT INTO mesh.outbox (model, op, row_count, row_ids, table_id)
        SELECT TG_TABLE_NAME, TG_OP, pg_catalog.count(*),
               pg_catalog.int8multirange(pg_catalog.int8range(
                   pg_catalog.min(new_rows.id), pg_catalog.max(new_rows.id), '[]'
               )),
               TG_RELID
        FROM new_rows LEFT JOIN old_rows ON old_rows.id OPERATOR(pg_catalog.=) new_rows.id
        WHERE new_rows.split OPERATOR(pg_catalog.=) 'train'
          AND (old_rows.text OPERATOR(pg_catalog.=) new_rows.text
               AND old_rows.label OPERATOR(pg_catalog.=) new_rows.label
               AND old_rows.split OPERATOR(pg_catalog.=) new_rows.split) IS NOT TRUE
        HAVING pg_catalog.count(*) OPERATOR(pg_catalog.>) 0;
    END IF;
    -- Wakes the bridge only when it sleeps. While the bridge is awake it holds this lock and looks
    -- for rows by itself. A NOTIFY at every commit would make all writers queue for one global lock.
    -- Where PREPARE TRANSACTION is possible nobody is woken, since it fails after a NOTIFY: there the
    -- bridge looks once a second.
    IF FOUND
        AND pg_catalog.current_setting('max_prepared_transactions') OPERATOR(pg_catalog.=) '0'
        AND pg_catalog.pg_try_advisory_xact_lock_shared(
            pg_catalog.hashtext('champion-mesh'), pg_catalog.hashtext('bridge awake')
        )
    THEN
        PERFORM pg_catalog.pg_notify('mesh_outbox', '');
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
    INSERT INTO mesh.removals (model, op, row_count, row_ids)
    VALUES (TG_TABLE_NAME, TG_OP, 0, '{}');
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'mesh: the truncation is not recorded: %', SQLERRM;
    RETURN NULL;
END
$$;
