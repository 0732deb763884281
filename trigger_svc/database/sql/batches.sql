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
       next.id, next.rows, next.reason, next.state, next.key, next.retries,
       extract(epoch FROM clock_timestamp() - next.posted_at)
FROM mesh.models
LEFT JOIN (
    SELECT model, sum(row_count)::bigint AS rows,
           min(created_at) AS oldest, max(created_at) AS newest
    FROM mesh.outbox GROUP BY model
) AS waiting ON waiting.model = models.name
LEFT JOIN LATERAL (
    SELECT id, rows, reason, state, key, retries, posted_at FROM mesh.batches
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
SELECT next_batch, unbatched_rows FROM mesh.models WHERE name = %(model)s FOR UPDATE

-- name: has_open_batch
SELECT EXISTS (
    SELECT FROM mesh.batches WHERE model = %(model)s AND state IN ('SEALED', 'RUNNING')
)

-- name: take
-- The first 10,000 entries are kept as they are, and the rest as the one range that holds them all:
-- so no number of entries needs much memory.
WITH taken AS (
    DELETE FROM mesh.outbox WHERE model = %(model)s RETURNING row_count, row_ids
), numbered AS (
    SELECT row_count, row_ids, row_number() OVER () AS number FROM taken
), merged AS (
    SELECT count(*) AS statements, coalesce(sum(row_count), 0)::bigint AS rows,
           range_agg(row_ids) FILTER (WHERE number <= 10000) AS first,
           int8range(min(lower(row_ids)) FILTER (WHERE number > 10000),
                     max(upper(row_ids)) FILTER (WHERE number > 10000)) AS rest,
           count(*) > 10000 AS has_rest
    FROM numbered
)
SELECT statements, rows,
       (coalesce(first, '{}') + CASE WHEN has_rest THEN int8multirange(rest) ELSE '{}' END)::text
FROM merged

-- name: take_without_batch
-- The ids of the rows of one statement are those of no other statement.
DELETE FROM mesh.outbox WHERE model = %(model)s AND row_ids = %(ids)s::int8multirange

-- name: count_rows
-- Looks each range up by itself, so that the rows between two far ranges are not read.
SELECT coalesce(sum(counted.rows), 0)::bigint
FROM unnest(%(ids)s::int8multirange) AS ids,
LATERAL (
    SELECT count(*) AS rows FROM training.{table}
    WHERE id >= lower(ids) AND id < upper(ids) AND split = 'train'
) AS counted

-- name: waiting_ids
SELECT waiting.rows, waiting.ids::text, models.unbatched_rows
FROM mesh.models, LATERAL (
    SELECT coalesce(sum(row_count), 0)::bigint AS rows,
           CASE WHEN count(*) = 0 THEN '{}'::int8multirange
           ELSE int8multirange(int8range(min(lower(row_ids)), max(upper(row_ids)))) END AS ids
    FROM mesh.outbox WHERE model = %(model)s
) AS waiting
WHERE models.name = %(model)s

-- name: create_batch
INSERT INTO mesh.batches
    (id, key, model, number, rows, statements, row_ids, reason, request_id, queued_at)
VALUES (%(id)s, gen_random_uuid(), %(model)s, %(number)s, %(rows)s, %(statements)s, %(row_ids)s,
        %(reason)s, %(request_id)s, mesh.end_of_queue(%(model)s))

-- name: count_batch_up
UPDATE mesh.models
SET next_batch = next_batch + 1, unbatched_rows = 0
WHERE name = %(model)s

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

-- name: last_batch
SELECT id FROM mesh.batches WHERE model = %(model)s ORDER BY number DESC LIMIT 1

-- name: find_batches
-- A batch is unresolved when Airflow refused it, or when it failed and the model has no later batch:
-- the training of a later batch reads its rows too. A page begins after the batch that was sealed
-- at `sealed_at` and has the number `number`. `may` has the models that the caller may see.
SELECT id, model, rows, reason, state, sealed_at, posted_at, ended_at, retries, error, key, number
FROM mesh.batches
WHERE (%(model)s = '' OR model = %(model)s) AND model LIKE ANY (%(may)s)
  AND (NOT %(unresolved)s OR state = 'DEAD' OR state = 'FAILED' AND NOT EXISTS (
      SELECT FROM mesh.batches AS later
      WHERE later.model = batches.model AND later.number > batches.number
  ))
  AND (%(number)s::integer IS NULL OR CASE WHEN %(model)s = ''
       THEN (sealed_at, number, model) < (%(sealed_at)s, %(number)s, %(after)s)
       ELSE number < %(number)s END)
ORDER BY CASE WHEN %(model)s = '' THEN sealed_at END DESC, number DESC, model DESC LIMIT %(limit)s

-- name: find_batch
SELECT id, model, rows, reason, state, sealed_at, posted_at, ended_at, retries, error, key, number
FROM mesh.batches WHERE id = %(id)s

-- name: has_training_jobs
SELECT to_regclass('mesh.training_jobs') IS NOT NULL

-- name: find_jobs
SELECT request_id, id, coalesce(version, ''), state, error FROM mesh.training_jobs
WHERE request_id = ANY(%(ids)s)

-- name: follow_renamed
-- Rows that came before their table was renamed go to the model whose table it is now.
UPDATE mesh.outbox SET model = pg_class.relname
FROM pg_class
WHERE outbox.model = %(model)s AND pg_class.oid = outbox.table_id
  AND pg_class.relname <> outbox.model AND pg_class.relnamespace = 'training'::regnamespace

-- name: cover
-- Notes that the rows with these ids came through the triggers. Where nobody can look at the table
-- for long, the ranges become one, so that they do not grow without a limit.
UPDATE mesh.models
SET covered = %(ids)s::int8multirange + CASE
    WHEN (SELECT count(*) FROM unnest(covered)) <= 20000 THEN covered
    ELSE int8multirange(range_merge(covered)) END
WHERE name = %(model)s

-- name: has_rows
SELECT EXISTS (
    SELECT FROM unnest(%(ids)s::int8multirange) AS ids
    WHERE EXISTS (
        SELECT FROM training.{table} WHERE id >= lower(ids) AND id < upper(ids) AND split = 'train'
    )
)

-- name: span
SELECT coalesce(sum(upper(ids)::numeric - lower(ids)), 0) FROM unnest(%(ids)s::int8multirange) AS ids

-- name: copy_batch
INSERT INTO mesh.batches
    (id, key, model, number, rows, statements, row_ids, reason, sealed_at, queued_at)
SELECT %(new_id)s, gen_random_uuid(), model, %(number)s, rows, statements, row_ids, reason,
       sealed_at, queued_at
FROM mesh.batches WHERE id = %(id)s AND state = 'SEALED'

-- name: skip_numbers
UPDATE mesh.models SET next_batch = %(number)s + 1 WHERE name = %(model)s

-- name: batch_replaced
UPDATE mesh.batches SET state = 'FAILED', error = %(error)s, ended_at = clock_timestamp()
WHERE id = %(id)s AND state = 'SEALED'
