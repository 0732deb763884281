-- The training table of one model and its triggers. This script is idempotent.
CREATE TABLE IF NOT EXISTS training.{table} (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    text        text NOT NULL,
    label       text NOT NULL,
    split       text NOT NULL DEFAULT 'train' CHECK (split IN ('train', 'test')),
    source      text NOT NULL DEFAULT 'sql',
    created_at  timestamptz NOT NULL DEFAULT now()
);

CREATE OR REPLACE TRIGGER mesh_after_insert AFTER INSERT ON training.{table}
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION mesh.after_write({model});

CREATE OR REPLACE TRIGGER mesh_after_update AFTER UPDATE ON training.{table}
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION mesh.after_write({model});

CREATE OR REPLACE TRIGGER mesh_after_delete AFTER DELETE ON training.{table}
    REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION mesh.after_delete({model});

CREATE OR REPLACE TRIGGER mesh_after_truncate AFTER TRUNCATE ON training.{table}
    FOR EACH STATEMENT EXECUTE FUNCTION mesh.after_truncate({model});
