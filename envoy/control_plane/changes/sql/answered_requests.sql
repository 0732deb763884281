-- The answers of the control plane by request id, so that a repeated request gets the same one after
-- a restart. Old ones are deleted when a new one comes.
CREATE SCHEMA IF NOT EXISTS mesh;

CREATE TABLE IF NOT EXISTS mesh.answered_requests (
    kind         text NOT NULL,
    request_id   text NOT NULL,
    content      text NOT NULL,
    -- Tells the model apart from an earlier one of the same name; NULL: unknown.
    incarnation  text,
    answer       jsonb NOT NULL,
    answered_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (kind, request_id)
);

CREATE INDEX IF NOT EXISTS answered_requests_by_age
    ON mesh.answered_requests (kind, answered_at);
