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
