-- Which keys sign, and since when. A purpose without a row has never signed in this database: what
-- is in MLflow then comes from a release before signatures, and is signed once.
CREATE SCHEMA IF NOT EXISTS mesh;

CREATE TABLE IF NOT EXISTS mesh.signing_keys (
    -- `versions` (the training service) or `records` (the control plane).
    purpose  text NOT NULL,
    key_id   text NOT NULL,
    since    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (purpose, key_id)
);
