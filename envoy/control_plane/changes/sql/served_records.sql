-- The latest signed record of each tag: a copy of what is in MLflow, so that an older record that
-- somebody puts back there while the control plane is stopped is known to be older.
CREATE SCHEMA IF NOT EXISTS mesh;

CREATE TABLE IF NOT EXISTS mesh.served_records (
    model       text NOT NULL,
    -- When MLflow created the registered model, milliseconds since 1970.
    created_at  bigint NOT NULL,
    tag         text NOT NULL,
    -- Of two records of one tag the later one has more.
    sequence    bigint NOT NULL,
    content     text NOT NULL,
    kept_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (model, created_at, tag)
);
