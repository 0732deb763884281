-- name: table_facts
-- What the catalog says about the tables of these models; it takes no lock on them.
SELECT models.name, pg_class.relkind::text, columns.of_mesh,
       EXISTS (
           SELECT FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = indkey[0]
           WHERE indrelid = pg_class.oid AND attname = 'id' AND indisvalid AND indpred IS NULL
       ),
       triggers.installed, triggers.enabled
FROM unnest(%(models)s::text[]) AS models (name)
LEFT JOIN pg_class ON relname = models.name AND relnamespace = 'training'::regnamespace
    AND relkind NOT IN ('i', 'I', 'S')
LEFT JOIN LATERAL (
    SELECT jsonb_object_agg(
        attname, jsonb_build_array(
            CASE typtype WHEN 'e' THEN 'enum' WHEN 'd' THEN format_type(typbasetype, NULL)
                 ELSE format_type(atttypid, NULL) END,
            attnotnull
        )
    ) AS of_mesh
    FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid
    WHERE attrelid = pg_class.oid AND attnum > 0 AND NOT attisdropped
      AND attname IN ('id', 'text', 'label', 'split', 'source')
) AS columns ON true
LEFT JOIN LATERAL (
    SELECT count(*) AS installed, count(*) FILTER (WHERE tgenabled IN ('O', 'A')) AS enabled
    FROM pg_trigger
    WHERE tgrelid = pg_class.oid
      AND tgname IN ('mesh_after_insert', 'mesh_after_update', 'mesh_after_delete',
                     'mesh_after_truncate')
) AS triggers ON true
ORDER BY models.name

-- name: count_null
-- Counts 10,000 rows without a value at most.
SELECT count(*) FROM (
    SELECT FROM training.{table} WHERE {column} IS NULL LIMIT 10000
) AS without_value

-- name: mark_made
COMMENT ON TABLE training.{table}
IS 'Made by champion-mesh: the training rows of one model. mesh remove --with-rows drops it.'

-- name: is_made_by_mesh
-- Earlier releases set no comment, so their tables are known by the shape that only they have.
SELECT coalesce(obj_description(pg_class.oid, 'pg_class') LIKE 'Made by champion-mesh%%', false)
    OR (
        SELECT count(*) = 3 FROM pg_attribute
        LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
        WHERE attrelid = pg_class.oid AND (
            attname = 'id' AND attidentity = 'a'
            OR attname = 'source' AND pg_get_expr(adbin, adrelid) = '''sql''::text'
            OR attname = 'created_at' AND pg_get_expr(adbin, adrelid) = 'now()'
        )
    )
FROM pg_class WHERE pg_class.oid = to_regclass('training.' || quote_ident(%(model)s))

-- name: models
SELECT name FROM mesh.models ORDER BY name

-- name: begin_to_look
UPDATE mesh.models SET looked_to = (SELECT coalesce(max(id), 0) + 1 FROM training.{table})
WHERE name = %(model)s AND looked_to IS NULL

-- name: highest_id
SELECT coalesce(max(id), 0) FROM training.{table}

-- name: gaps
-- The ids that nobody has looked at yet, up to `highest`, without those that came through the
-- triggers; null while very many entries wait, which would need much memory.
WITH waiting AS (
    SELECT row_ids FROM mesh.outbox WHERE model = %(model)s LIMIT 10001
)
SELECT looked_to, CASE WHEN (SELECT count(*) FROM waiting) > 10000 THEN NULL ELSE (
    int8multirange(int8range(looked_to, greatest(looked_to, %(highest)s::bigint + 1))) - covered
    - coalesce((SELECT range_agg(row_ids) FROM waiting), '{}')
)::text END
FROM mesh.models WHERE name = %(model)s

-- name: rows_in_gaps
SELECT count(*), count(*) FILTER (WHERE split = 'train'), max(id) FROM (
    SELECT found.id, found.split
    FROM unnest(%(gaps)s::int8multirange) AS gap
    CROSS JOIN LATERAL (
        SELECT id, split FROM training.{table}
        WHERE id >= lower(gap) AND id < upper(gap) ORDER BY id LIMIT %(limit)s
    ) AS found
    LIMIT %(limit)s
) AS rows

-- name: looked
UPDATE mesh.models
SET looked_to = %(looked_to)s, unbatched_rows = unbatched_rows + %(found)s,
    covered = covered * int8multirange(int8range(%(looked_to)s, NULL))
WHERE name = %(model)s

-- name: register_strays
-- A table that was renamed brings its triggers along, so its rows are those of a new model.
INSERT INTO mesh.models (name, next_batch)
SELECT DISTINCT stray.model, coalesce(forgotten.next_batch, 1)
FROM (SELECT DISTINCT model FROM mesh.outbox) AS stray
LEFT JOIN mesh.forgotten_models AS forgotten ON forgotten.name = stray.model
WHERE NOT EXISTS (SELECT FROM mesh.models WHERE models.name = stray.model)
  AND stray.model ~ '^[a-z][a-z0-9_]{0,39}$'
  AND EXISTS (
      SELECT FROM pg_trigger WHERE tgname = 'mesh_after_insert'
        AND tgrelid = to_regclass('training.' || quote_ident(stray.model))
  )
ON CONFLICT DO NOTHING
RETURNING name

-- name: unbatched_models
SELECT name, unbatched_rows FROM mesh.models WHERE unbatched_rows > 0

-- name: note_trouble
INSERT INTO mesh.troubles (model, kind, message)
SELECT models.name, %(kind)s, %(message)s FROM mesh.models WHERE models.name = %(model)s
ON CONFLICT (model, kind) DO UPDATE SET message = excluded.message

-- name: end_troubles
DELETE FROM mesh.troubles WHERE kind = %(kind)s AND NOT model = ANY(%(models)s::text[])

-- name: find_troubles
SELECT model, message, since FROM mesh.troubles
WHERE (%(model)s = '' OR model = %(model)s) AND model LIKE ANY (%(may)s)
ORDER BY model, kind LIMIT 1000

-- name: drop_triggers
DROP TRIGGER IF EXISTS mesh_after_insert ON training.{table};
DROP TRIGGER IF EXISTS mesh_after_update ON training.{table};
DROP TRIGGER IF EXISTS mesh_after_delete ON training.{table};
DROP TRIGGER IF EXISTS mesh_after_truncate ON training.{table}

-- name: drop_table
DROP TABLE training.{table}

-- name: forget_model
-- The number of its next batch is kept, because Airflow and the training jobs keep the old ones.
INSERT INTO mesh.forgotten_models (name, next_batch)
SELECT name, next_batch FROM mesh.models WHERE name = %(model)s
ON CONFLICT (name) DO UPDATE SET next_batch = excluded.next_batch;
DELETE FROM mesh.outbox WHERE model = %(model)s;
DELETE FROM mesh.removals WHERE model = %(model)s;
DELETE FROM mesh.requests WHERE model = %(model)s;
DELETE FROM mesh.troubles WHERE model = %(model)s;
DELETE FROM mesh.batches WHERE model = %(model)s;
DELETE FROM mesh.models WHERE name = %(model)s
