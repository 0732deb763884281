-- One row for each model; its epoch counts the promotions and demotions. MLflow's aliases have no
-- compare-and-set, so this row is locked while they are moved.
CREATE SCHEMA IF NOT EXISTS mesh;

CREATE TABLE IF NOT EXISTS mesh.promotions (
    model       text PRIMARY KEY,
    epoch       integer NOT NULL DEFAULT 0,
    champion    text NOT NULL DEFAULT '',
    previous    text NOT NULL DEFAULT '',
    changed_at  timestamptz NOT NULL DEFAULT now(),
    -- When MLflow created the registered model, milliseconds since 1970; 0: not known yet. A model
    -- that was deleted there and made anew has nothing of the old one's row.
    created_at  bigint NOT NULL DEFAULT 0,
    -- Whether the fleet is to serve the Champion; NULL: it was no promotion that made it.
    serve       boolean
);

-- A table of an older release lacks these columns. ALTER TABLE would wait for running promotions, so it
-- is run only once.
DO $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM pg_attribute
        WHERE attrelid = 'mesh.promotions'::regclass AND attname = 'created_at'
    ) THEN
        ALTER TABLE mesh.promotions
            ADD COLUMN created_at bigint NOT NULL DEFAULT 0,
            ADD COLUMN serve boolean;
    END IF;
END $$;
