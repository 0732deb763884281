-- One row for each model; its epoch counts the promotions and demotions. MLflow's aliases have no
-- compare-and-set, so this row is locked while they are moved.
CREATE SCHEMA IF NOT EXISTS mesh;

CREATE TABLE IF NOT EXISTS mesh.promotions (
    model       text PRIMARY KEY,
    epoch       integer NOT NULL DEFAULT 0,
    champion    text NOT NULL DEFAULT '',
    previous    text NOT NULL DEFAULT '',
    changed_at  timestamptz NOT NULL DEFAULT now()
);
