-- name: scan
-- Every model with waiting rows or an open batch. Of several open batches it shows the RUNNING one,
-- else the one that has waited longest for Airflow.
SELECT models.name,
       coalesce(models.seal_rows, %(seal_rows)s),
       coalesce(models.seal_quiet_ms, %(seal_quiet_ms)s) / 1000.0,
       coalesce(models.seal_age_ms, %(seal_age_ms)s) / 1000.0,
       waiting.rows,
       extract(epoch FROM clock_timestamp() - waiting.oldest),
       extract(epoch FROM clock_timestamp() - waiting.newest),
       next.id, next.rows, next.reason, next.state, next.retries,
       extract(epoch FROM clock_timestamp() - next.posted_at)
FROM mesh.models
LEFT JOIN (
    SELECT model, sum(row_count)::bigint AS rows,
           min(created_at) AS oldest, max(created_at) AS newest
    FROM mesh.outbox GROUP BY model
) AS waiting ON waiting.model = models.name
LEFT JOIN LATERAL (
    SELECT id, rows, reason, state, retries, posted_at FROM mesh.batches
    WHERE model = models.name AND state IN ('SEALED', 'RUNNING')
    ORDER BY state = 'RUNNING' DESC, queued_at, number LIMIT 1
) AS next ON true
WHERE waiting.rows IS NOT NULL OR next.id IS NOT NULL
ORDER BY models.name

-- name: lead
UPDATE mesh.bridge SET epoch = epoch + 1 RETURNING epoch

-- name: check_lead
-- The lock makes the next bridge wait until this transaction has ended. When this process is
-- stopped in the middle of the transaction, PostgreSQL ends it after the timeout.
SET LOCAL idle_in_transaction_session_timeout = '20s';
SELECT epoch = %(epoch)s FROM mesh.bridge FOR SHARE

-- name: oldest_transaction
SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint

-- name: next_transaction
SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint

-- name: try_lock_model
SELECT next_batch FROM mesh.models WHERE name = %(model)s FOR UPDATE SKIP LOCKED

-- name: lock_model
SELECT next_batch FROM mesh.models WHERE name = %(model)s FOR UPDATE

-- name: has_open_batch
SELECT EXISTS (
    SELECT FROM mesh.batches WHERE model = %(model)s AND state IN ('SEALED', 'RUNNING')
)

-- name: take
WITH taken AS (DELETE FROM mesh.outbox WHERE model = %(model)s RETURNING row_ids)
SELECT count(*), coalesce(range_agg(row_ids), '{}')::text FROM taken

-- name: take_without_batch
DELETE FROM mesh.outbox WHERE model = %(model)s AND row_ids <@ %(ids)s::int8multirange

-- name: count_rows
SELECT count(*) FROM training.{table}
WHERE id >= lower(%(ids)s::int8multirange) AND id < upper(%(ids)s::int8multirange)
  AND id <@ %(ids)s::int8multirange AND split = 'train'

-- name: waiting_ids
SELECT coalesce(range_agg(row_ids), '{}')::text
FROM mesh.outbox WHERE model = %(model)s

-- name: create_batch
INSERT INTO mesh.batches
    (id, model, number, rows, statements, row_ids, reason, request_id, queued_at)
VALUES (%(id)s, %(model)s, %(number)s, %(rows)s, %(statements)s, %(row_ids)s, %(reason)s,
        %(request_id)s, mesh.end_of_queue(%(model)s))

-- name: count_batch_up
UPDATE mesh.models SET next_batch = next_batch + 1 WHERE name = %(model)s

-- name: wake_bridge
NOTIFY mesh_outbox

-- name: batch_accepted
UPDATE mesh.batches
SET state = 'RUNNING', posted_at = clock_timestamp(), attempts = attempts + 1, error = ''
WHERE id = %(id)s AND state = 'SEALED'

-- name: batch_deferred
UPDATE mesh.batches SET attempts = attempts + 1, error = %(error)s
WHERE id = %(id)s AND state = 'SEALED'

-- name: batch_refused
UPDATE mesh.batches
SET state = 'DEAD', attempts = attempts + 1, error = %(error)s, ended_at = clock_timestamp()
WHERE id = %(id)s AND state = 'SEALED'

-- name: batch_ended
UPDATE mesh.batches SET state = %(state)s, error = %(error)s, ended_at = clock_timestamp()
WHERE id = %(id)s AND state = 'RUNNING'

-- name: send_again
UPDATE mesh.batches
SET state = 'SEALED', retries = retries + 1, error = '', ended_at = NULL,
    queued_at = mesh.end_of_queue(%(model)s)
WHERE id = %(id)s AND model = %(model)s AND state IN ('FAILED', 'DEAD')

-- name: find_batch_state
SELECT state FROM mesh.batches WHERE id = %(id)s AND model = %(model)s

-- name: last_ended_badly
SELECT id FROM mesh.batches
WHERE model = %(model)s AND state IN ('FAILED', 'DEAD') ORDER BY number DESC LIMIT 1

-- name: forget_old
-- A stored answer names its batch, so the request is deleted together with the batch or before it.
WITH old_requests AS (
    DELETE FROM mesh.requests WHERE created_at < now() - make_interval(days => %(days)s)
), old_removals AS (
    DELETE FROM mesh.removals WHERE created_at < now() - make_interval(days => %(days)s)
)
DELETE FROM mesh.batches USING mesh.models
WHERE models.name = batches.model AND batches.number < models.next_batch - %(newest)s
  AND batches.ended_at < now() - make_interval(days => %(days)s)

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

-- name: has_table
SELECT to_regclass('training.' || quote_ident(%(model)s)) IS NOT NULL

-- name: create_model
INSERT INTO mesh.models (name) VALUES (%(model)s) ON CONFLICT DO NOTHING

-- name: installed_triggers
SELECT count(*) FROM pg_trigger
WHERE tgrelid = to_regclass('training.' || quote_ident(%(model)s))
  AND tgname IN ('mesh_after_insert', 'mesh_after_update', 'mesh_after_delete',
                 'mesh_after_truncate')

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
    SELECT label, count(DISTINCT text) AS texts, bool_or(split = 'test') AS held
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
SELECT index, label FROM staged
WHERE split = 'test'
  AND label NOT IN (SELECT label FROM staged WHERE split = 'train')
  AND label NOT IN (SELECT label FROM training.{table} WHERE split = 'train')
ORDER BY index LIMIT 1

-- name: insert_staged
WITH added AS (
    INSERT INTO training.{table} (text, label, split, source)
    SELECT text, label, split, %(source)s FROM staged ORDER BY index
    RETURNING id, split
)
SELECT count(*) FILTER (WHERE split = 'train'),
       count(*) FILTER (WHERE split = 'test'),
       range_agg(int8range(id, id, '[]'))::text
FROM added

-- name: count_labels
SELECT label,
       count(*) FILTER (WHERE split = 'train'),
       count(*) FILTER (WHERE split = 'test')
FROM training.{table} GROUP BY label ORDER BY label COLLATE "C"

-- name: last_batch
SELECT id FROM mesh.batches WHERE model = %(model)s ORDER BY number DESC LIMIT 1

-- name: find_batches
-- A batch is unresolved when Airflow refused it, or when it failed and the model has no later batch:
-- the training of a later batch reads its rows too.
SELECT id, model, rows, reason, state, sealed_at, posted_at, ended_at, retries, error
FROM mesh.batches
WHERE (%(model)s = '' OR model = %(model)s)
  AND (NOT %(unresolved)s OR state = 'DEAD' OR state = 'FAILED' AND NOT EXISTS (
      SELECT FROM mesh.batches AS later
      WHERE later.model = batches.model AND later.number > batches.number
  ))
ORDER BY CASE WHEN %(model)s = '' THEN sealed_at END DESC, number DESC LIMIT %(limit)s

-- name: find_batch
SELECT id, model, rows, reason, state, sealed_at, posted_at, ended_at, retries, error
FROM mesh.batches WHERE id = %(id)s

-- name: has_training_jobs
SELECT to_regclass('mesh.training_jobs') IS NOT NULL

-- name: find_jobs
SELECT request_id, id, coalesce(version, '') FROM mesh.training_jobs
WHERE request_id = ANY(%(ids)s)
