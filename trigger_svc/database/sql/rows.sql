-- name: begin_request
INSERT INTO mesh.requests (id, method, model) VALUES (%(id)s, %(method)s, %(model)s)
ON CONFLICT DO NOTHING

-- name: end_request
UPDATE mesh.requests SET answer = %(answer)s WHERE id = %(id)s

-- name: find_request
SELECT method, model, answer FROM mesh.requests WHERE id = %(id)s

-- name: has_model
SELECT EXISTS (SELECT FROM mesh.models WHERE name = %(model)s)
   AND to_regclass('training.' || quote_ident(%(model)s)) IS NOT NULL

-- name: is_registered
SELECT EXISTS (SELECT FROM mesh.models WHERE name = %(model)s)

-- name: create_model
-- A model that was removed before goes on with its batches' numbers: Airflow and the training jobs
-- remember the old ones.
INSERT INTO mesh.models (name, next_batch)
SELECT %(model)s, coalesce(
    (SELECT next_batch FROM mesh.forgotten_models WHERE name = %(model)s), 1
)
ON CONFLICT DO NOTHING

-- name: unregistered_models
SELECT name FROM mesh.models WHERE NOT registered ORDER BY name

-- name: model_registered
UPDATE mesh.models SET registered = true WHERE name = %(model)s

-- name: create_staged
CREATE TEMPORARY TABLE staged (
    index integer NOT NULL, text text NOT NULL, label text NOT NULL, split text NOT NULL
) ON COMMIT DROP

-- name: copy_staged
COPY staged FROM STDIN

-- name: fill_staged
INSERT INTO staged
SELECT rows.number - 1, rows.text, rows.label, rows.split
FROM unnest(%(texts)s::text[], %(labels)s::text[], %(splits)s::text[])
     WITH ORDINALITY AS rows (text, label, split, number)

-- name: staged_names_split
SELECT EXISTS (SELECT FROM staged WHERE split <> '')

-- name: default_split
UPDATE staged SET split = 'train' WHERE split = ''

-- name: hold_out
-- Holds out a fifth of each label's new texts, the first in the order of their SHA-256. It holds
-- out at least one text of a label that has none held out yet and another text to train on. A text
-- that the table has already keeps its split. A new text that is staged under two labels is trained
-- on, so that the checks of the training see it.
WITH placed AS (
    SELECT text, bool_or(split = 'test') AS held FROM training.{table}
    WHERE text IN (SELECT text FROM staged) GROUP BY text
), fresh AS (
    SELECT text, min(label) AS label FROM staged
    WHERE NOT EXISTS (SELECT FROM placed WHERE placed.text = staged.text)
    GROUP BY text HAVING count(DISTINCT label) = 1
), known AS (
    SELECT label::text, count(DISTINCT text) AS texts, bool_or(split = 'test') AS held
    FROM training.{table} GROUP BY label
), ranked AS (
    SELECT text, label,
           row_number() OVER (PARTITION BY label ORDER BY sha256(convert_to(text, 'UTF8'))) AS rank,
           count(*) OVER (PARTITION BY label) AS texts
    FROM fresh
), held AS (
    SELECT ranked.text FROM ranked LEFT JOIN known USING (label)
    WHERE rank <= greatest(
        ranked.texts / 5,
        (NOT coalesce(known.held, false) AND ranked.texts + coalesce(known.texts, 0) >= 2)::integer
    )
    UNION ALL
    SELECT text FROM placed WHERE held
)
UPDATE staged SET split = CASE WHEN text IN (SELECT text FROM held) THEN 'test' ELSE 'train' END

-- name: untrained_label
-- Looks for one row of each label that is only held out here, instead of reading every row.
WITH held AS (
    SELECT label, min(index) AS index FROM staged
    WHERE split = 'test' AND label NOT IN (SELECT label FROM staged WHERE split = 'train')
    GROUP BY label
)
SELECT index, label FROM held
WHERE NOT EXISTS (
    SELECT FROM training.{table} AS known WHERE known.label::text = held.label AND known.split = 'train'
)
ORDER BY index LIMIT 1

-- name: column_types
-- Types of the columns that rows are written to, as SQL.
SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
WHERE attrelid = to_regclass('training.' || quote_ident(%(model)s))
  AND attname IN ('text', 'label', 'split') AND NOT attisdropped

-- name: count_staged
SELECT count(*) FROM staged

-- name: make_counter
-- Counts the rows that the INSERT below has begun with. A rollback does not set it back, so that
-- it tells which row was refused.
CREATE TEMPORARY SEQUENCE staged_begun MINVALUE 0 START 0 CACHE 1

-- name: rows_begun
SELECT CASE WHEN is_called THEN last_value + 1 ELSE 0 END FROM staged_begun

-- name: drop_counter
DROP SEQUENCE staged_begun

-- name: insert_staged
WITH counted AS (
    SELECT text, label, split, nextval('staged_begun') AS begun
    FROM staged WHERE index < %(end)s ORDER BY index
), added AS (
    INSERT INTO training.{table} (text, label, split, source)
    SELECT text::{text}, label::{label}, split::{split}, %(source)s FROM counted
    RETURNING id, split
)
SELECT count(*) FILTER (WHERE split = 'train'),
       count(*) FILTER (WHERE split = 'test'),
       int8multirange(int8range(min(id), max(id), '[]'))::text
FROM added

-- name: count_labels
SELECT label,
       count(*) FILTER (WHERE split = 'train'),
       count(*) FILTER (WHERE split = 'test')
FROM training.{table} GROUP BY label ORDER BY label::text COLLATE "C"

-- name: delete_rows
DELETE FROM training.{table} WHERE text = ANY(%(texts)s)

-- name: table_size
-- Bytes and blocks of the table, with those of its partitions.
SELECT coalesce(sum(pg_relation_size(part)), 0)::bigint,
       coalesce(sum(pg_relation_size(part)) / current_setting('block_size')::integer, 0)::bigint
FROM (
    SELECT to_regclass('training.' || quote_ident(%(model)s)) AS part
    UNION
    SELECT relid FROM pg_partition_tree(to_regclass('training.' || quote_ident(%(model)s)))
) AS parts

-- name: estimate_labels
-- Counts the rows of a sample of whole blocks, `percent` of all.
SELECT label,
       count(*) FILTER (WHERE split = 'train'),
       count(*) FILTER (WHERE split = 'test')
FROM training.{table} TABLESAMPLE SYSTEM (%(percent)s) REPEATABLE (1)
GROUP BY label ORDER BY label::text COLLATE "C"
