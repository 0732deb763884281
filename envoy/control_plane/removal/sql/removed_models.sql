-- Models that RemoveModel ends or has ended. While a removal is not `done`, the control plane goes on
-- with it; afterwards a replica that comes back with one of the sources drops it.
CREATE SCHEMA IF NOT EXISTS mesh;

CREATE TABLE IF NOT EXISTS mesh.removed_models (
    model         text PRIMARY KEY,
    -- When MLflow created the model, milliseconds since 1970; 0: MLflow did not have it any more.
    created_at    bigint NOT NULL,
    versions      text[] NOT NULL,
    sources       text[] NOT NULL,
    with_rows     boolean NOT NULL,
    request_id    text NOT NULL,
    rows_removed  boolean NOT NULL DEFAULT false,
    done          boolean NOT NULL DEFAULT false,
    removed_at    timestamptz NOT NULL DEFAULT now()
);
