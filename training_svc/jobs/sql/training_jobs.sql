-- One row for each job. A job has one request id; all its attempts share the row, which shows the
-- newest attempt. The trigger service reads id, request_id, model, state, version and error.
CREATE SCHEMA IF NOT EXISTS mesh;

CREATE SEQUENCE IF NOT EXISTS mesh.training_queue;

CREATE TABLE IF NOT EXISTS mesh.training_jobs (
    id                text PRIMARY KEY,
    request_id        text NOT NULL UNIQUE,
    model             text NOT NULL,
    state             text NOT NULL CHECK (state IN
                          ('QUEUED', 'RUNNING', 'EVALUATING', 'SUCCEEDED', 'FAILED', 'CANCELLED')),
    attempt           integer NOT NULL DEFAULT 1,
    params            jsonb NOT NULL DEFAULT '{}',
    promotion         text NOT NULL DEFAULT 'AUTO' CHECK (promotion IN ('AUTO', 'CHALLENGER_ONLY')),
    device            text NOT NULL DEFAULT '',
    progress          jsonb,
    run_id            text NOT NULL DEFAULT '',
    version           text NOT NULL DEFAULT '',
    metrics           jsonb NOT NULL DEFAULT '{}',
    decision          jsonb,
    rows              jsonb,
    error             text NOT NULL DEFAULT '',
    cancel_requested  boolean NOT NULL DEFAULT false,
    created_at        timestamptz NOT NULL DEFAULT now(),
    -- When the newest attempt joined the queue.
    queued_at         timestamptz NOT NULL DEFAULT now(),
    started_at        timestamptz,
    ended_at          timestamptz,
    updated_at        timestamptz NOT NULL DEFAULT now()
);

ALTER TABLE mesh.training_jobs
    ADD COLUMN IF NOT EXISTS serve boolean NOT NULL DEFAULT false,
    -- Another attempt would fail in the same way.
    ADD COLUMN IF NOT EXISTS lasting_error boolean NOT NULL DEFAULT false,
    -- The decision is being carried out, so the job can no longer be cancelled.
    ADD COLUMN IF NOT EXISTS committed boolean NOT NULL DEFAULT false,
    -- Place in the queue. A number, because a clock may be set back.
    ADD COLUMN IF NOT EXISTS place bigint NOT NULL DEFAULT nextval('mesh.training_queue'),
    -- The service that works on the job, and when it last said so.
    ADD COLUMN IF NOT EXISTS worker text NOT NULL DEFAULT '',
    ADD COLUMN IF NOT EXISTS worker_seen_at timestamptz NOT NULL DEFAULT now();

CREATE INDEX IF NOT EXISTS training_jobs_waiting ON mesh.training_jobs (queued_at)
    WHERE state IN ('QUEUED', 'RUNNING', 'EVALUATING');

CREATE INDEX IF NOT EXISTS training_jobs_of_model ON mesh.training_jobs (model, created_at DESC);
