-- Tables of the trigger service. The service runs this idempotent script and outbox_triggers.sql at
-- every start, while rows come in: nothing here locks mesh.outbox or a training table that exists.
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
    created_at     timestamptz NOT NULL DEFAULT now(),
    -- The search for rows that came past the triggers: ids below looked_to were looked at, ids in
    -- covered (above it) came through the triggers, unbatched_rows were found and are in no batch.
    looked_to      bigint,
    covered        int8multirange NOT NULL DEFAULT '{}',
    unbatched_rows bigint NOT NULL DEFAULT 0
);

-- Models that were removed: the batches of a new model of the same name go on counting.
CREATE TABLE IF NOT EXISTS mesh.forgotten_models (
    name        text PRIMARY KEY,
    next_batch  integer NOT NULL
);

-- Why the rows of a model do not get on, one row for each kind of trouble that lasts.
CREATE TABLE IF NOT EXISTS mesh.troubles (
    model    text NOT NULL,
    kind     text NOT NULL,
    message  text NOT NULL,
    since    timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (model, kind)
);

CREATE TABLE IF NOT EXISTS mesh.batches (
    id          text PRIMARY KEY,
    -- Goes along to Airflow. A run of the same id with another key is not this batch's: the
    -- database was restored, or the model was removed and made anew. Batches of earlier releases
    -- and their runs have none.
    key         text NOT NULL DEFAULT '',
    model       text NOT NULL REFERENCES mesh.models,
    number      integer NOT NULL,
    rows        integer NOT NULL,
    -- The number of outbox entries that the batch took, and ranges that the ids of their rows lie
    -- in. The ranges only bound a search: rows of other batches may lie between.
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
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- The table's identity, which a renamed table keeps.
    table_id    oid
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

-- Columns that later releases added. Each ALTER TABLE runs once: it waits for every transaction
-- that has the table open.
DO $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM pg_attribute WHERE attrelid = 'mesh.outbox'::regclass AND attname = 'table_id'
    ) THEN
        ALTER TABLE mesh.outbox ADD COLUMN table_id oid;
        ALTER TABLE mesh.batches ADD COLUMN key text NOT NULL DEFAULT '';
        ALTER TABLE mesh.models
            ADD COLUMN looked_to bigint,
            ADD COLUMN covered int8multirange NOT NULL DEFAULT '{}',
            ADD COLUMN unbatched_rows bigint NOT NULL DEFAULT 0;
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
