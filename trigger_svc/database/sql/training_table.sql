-- The training table of one model and its triggers. This script is idempotent.
CREATE TABLE IF NOT EXISTS training.{table} (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- The same limits as for rows that come over the API.
    text        text NOT NULL
                CONSTRAINT text_has_at_most_32768_characters CHECK (char_length(text) <= 32768),
    label       text NOT NULL
                CONSTRAINT label_has_at_most_128_characters CHECK (char_length(label) <= 128),
    split       text NOT NULL DEFAULT 'train' CHECK (split IN ('train', 'test')),
    source      text NOT NULL DEFAULT 'sql',
    created_at  timestamptz NOT NULL DEFAULT now()
);

CREATE OR REPLACE TRIGGER mesh_after_insert AFTER INSERT ON training.{table}
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION mesh.after_write();

CREATE OR REPLACE TRIGGER mesh_after_update AFTER UPDATE ON training.{table}
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION mesh.after_write();

CREATE OR REPLACE TRIGGER mesh_after_delete AFTER DELETE ON training.{table}
    REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION mesh.after_delete();

CREATE OR REPLACE TRIGGER mesh_after_truncate AFTER TRUNCATE ON training.{table}
    FOR EACH STATEMENT EXECUTE FUNCTION mesh.after_truncate();

-- The roles of the mesh; a database of your own may have none of them.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'mesh_training_tables') THEN
        -- A table that this service has made is the operator's too.
        IF EXISTS (
            SELECT FROM pg_class
            WHERE oid = 'training.{table}'::regclass AND relowner = 'mesh_trigger'::regrole
        ) THEN
            ALTER TABLE training.{table} OWNER TO mesh_training_tables;
        END IF;
        GRANT SELECT ON training.{table} TO mesh_training;
    END IF;
END
$$;
