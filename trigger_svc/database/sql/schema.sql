-- Tables and functions of the trigger service. The service runs this idempotent script at every
-- start, while rows come in: nothing here locks mesh.outbox or a training table that exists.
CREATE SCHEMA IF NOT EXISTS mesh;
CREATE SCHEMA IF NOT EXISTS training;

-- One row for each model with a training table. Where a seal_… column is null, the setting of the
-- service holds.
CREATE TABLE IF NOT EXISTS mesh.models (
    name           text PRIMARY KEY CHECK (name ~ '^[a-z][a-z0-9_]{0,39}$'),
    seal_rows      integer CHECK (seal_rows > 0),
    seal_quiet_ms  integer CHECK (seal_quiet_ms >= 0),
    seal_age_ms    integer CHECK (seal_age_ms > 0),
    next_batch     integer NOT NULL DEFAULT 1,
    -- Whether the service has seen the registered model in MLflow.
    registered     boolean NOT NULL DEFAULT false,
    created_at     timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS mesh.batches (
    id          text PRIMARY KEY,
    model       text NOT NULL REFERENCES mesh.models,
    number      integer NOT NULL,
    rows        integer NOT NULL,
    -- The number of outbox entries that the batch took, and the ids of the rows that they named.
    statements  integer NOT NULL DEFAULT 0,
    row_ids     int8multirange NOT NULL DEFAULT '{}',
    reason      text NOT NULL CHECK (reason IN ('COUNT', 'QUIET', 'AGE', 'MANUAL', 'IMPORT')),
    state       text NOT NULL DEFAULT 'SEALED'
                CHECK (state IN ('SEALED', 'RUNNING', 'SUCCEEDED', 'FAILED', 'DEAD')),
    sealed_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- When the batch joined the queue for Airflow: when it was sealed, or last sent again.
    queued_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    posted_at   timestamptz,
    ended_at    timestamptz,
    attempts    integer NOT NULL DEFAULT 0,
    retries     integer NOT NULL DEFAULT 0,
    error       text NOT NULL DEFAULT '',
    request_id  text UNIQUE,
    UNIQUE (model, number)
);
CREATE INDEX IF NOT EXISTS batches_open
    ON mesh.batches (model, number) WHERE state IN ('SEALED', 'RUNNING');
CREATE UNIQUE INDEX IF NOT EXISTS batches_one_running_a_model
    ON mesh.batches (model) WHERE state = 'RUNNING';

-- The bridge at work has the highest epoch. A bridge with a lower epoch may not write any more.
CREATE TABLE IF NOT EXISTS mesh.bridge (
    single  boolean PRIMARY KEY DEFAULT true CHECK (single),
    epoch   bigint NOT NULL DEFAULT 0
);
INSERT INTO mesh.bridge DEFAULT VALUES ON CONFLICT DO NOTHING;

-- One row for each statement that changed training rows, until a batch takes it. The table has no
-- key, index or constraint: each would slow every INSERT down, and could make one fail.
CREATE TABLE IF NOT EXISTS mesh.outbox (
    model       text NOT NULL,
    op          text NOT NULL,
    row_count   bigint NOT NULL,
    row_ids     int8multirange NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- In releases without mesh.removals, taken entries stayed in the outbox.
DO $$
BEGIN
    IF EXISTS (
        SELECT FROM pg_attribute
        WHERE attrelid = 'mesh.outbox'::regclass AND attname = 'taken_at' AND NOT attisdropped
    ) THEN
        DELETE FROM mesh.outbox WHERE taken_at IS NOT NULL;
        ALTER TABLE mesh.outbox
            DROP COLUMN id, DROP COLUMN taken_at, DROP COLUMN batch_id;
        ALTER TABLE mesh.batches
            ADD COLUMN statements integer NOT NULL DEFAULT 0,
            ADD COLUMN row_ids int8multirange NOT NULL DEFAULT '{}',
            ADD COLUMN queued_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            ADD COLUMN retries integer NOT NULL DEFAULT 0;
    END IF;
END
$$;

-- The time at which a batch joins its model's queue: now, but later than the times of the batches
-- that wait already, even when the clock was set back since they came.
CREATE OR REPLACE FUNCTION mesh.end_of_queue(name text) RETURNS timestamptz
LANGUAGE sql VOLATILE AS $$
    SELECT greatest(clock_timestamp(), max(queued_at) + interval '1 microsecond')
    FROM mesh.batches WHERE model = name AND state = 'SEALED'
$$;

-- One row for each statement that deleted training rows. Deleted rows start no training.
CREATE TABLE IF NOT EXISTS mesh.removals (
    model       text NOT NULL,
    op          text NOT NULL,
    row_count   bigint NOT NULL,
    row_ids     int8multirange NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- The answers that the service has given, by request id.
CREATE TABLE IF NOT EXISTS mesh.requests (
    id          text PRIMARY KEY,
    method      text NOT NULL,
    model       text NOT NULL,
    answer      jsonb,
    created_at  timestamptz NOT NULL DEFAULT now()
);

-- Records training rows that were added or changed. Rows of the test split start no training: they
-- are not counted, and a statement that changed only such rows leaves no entry.
--
-- A failure in this function is a warning, never an error of the user's statement: a lost entry
-- only delays the next training, which reads every row of the table anyway. Every INSERT takes as
-- much longer as this function takes, so it is one statement and calls no other function of ours.
-- It runs with its owner's rights, whatever search_path the writer has. Setting search_path here
-- would make each INSERT take a twentieth longer, so everything is named with its schema instead.
CREATE OR REPLACE FUNCTION mesh.after_write() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF TG_OP OPERATOR(pg_catalog.=) 'INSERT' THEN
        -- The ids of all rows are recorded, since together they form one range; only rows of the
        -- train split are counted.
        INSERT INTO mesh.outbox (model, op, row_count, row_ids)
        SELECT TG_ARGV[0], TG_OP,
               pg_catalog.count(*) FILTER (WHERE split OPERATOR(pg_catalog.=) 'train'),
               pg_catalog.range_agg(pg_catalog.int8range(id, id, '[]'))
        FROM new_rows
        HAVING pg_catalog.count(*) FILTER (WHERE split OPERATOR(pg_catalog.=) 'train')
               OPERATOR(pg_catalog.>) 0;
    ELSE
        -- A row whose id was changed counts as new: it finds no old row, so the old columns are
        -- null.
        INSERT INTO mesh.outbox (model, op, row_count, row_ids)
        SELECT TG_ARGV[0], TG_OP, pg_catalog.count(*),
               pg_catalog.range_agg(pg_catalog.int8range(new_rows.id, new_rows.id, '[]'))
        FROM new_rows LEFT JOIN old_rows ON old_rows.id OPERATOR(pg_catalog.=) new_rows.id
        WHERE new_rows.split OPERATOR(pg_catalog.=) 'train'
          AND (old_rows.text OPERATOR(pg_catalog.=) new_rows.text
               AND old_rows.label OPERATOR(pg_catalog.=) new_rows.label
               AND old_rows.split OPERATOR(pg_catalog.=) new_rows.split) IS NOT TRUE
        HAVING pg_catalog.count(*) OPERATOR(pg_catalog.>) 0;
    END IF;
    -- Wakes the bridge only when it sleeps. While the bridge is awake it holds this lock and looks
    -- for rows by itself. A NOTIFY at every commit would make all writers queue for one global lock.
    IF FOUND AND pg_catalog.pg_try_advisory_xact_lock_shared(
        pg_catalog.hashtext('champion-mesh'), pg_catalog.hashtext('bridge awake')
    ) THEN
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
    SELECT count(*), range_agg(int8range(id, id, '[]')) INTO counted, ids FROM old_rows;
    IF counted > 0 THEN
        INSERT INTO mesh.removals (model, op, row_count, row_ids)
        VALUES (TG_ARGV[0], TG_OP, counted, ids);
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
    VALUES (TG_ARGV[0], TG_OP, 0, '{}');
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'mesh: the truncation is not recorded: %', SQLERRM;
    RETURN NULL;
END
$$;
