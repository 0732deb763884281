-- The control plane that leads: one row, which it renews every second. Another one takes the row when
-- it has not been renewed for the time of the lease.
CREATE SCHEMA IF NOT EXISTS mesh;

CREATE TABLE IF NOT EXISTS mesh.leader (
    one_row     boolean PRIMARY KEY DEFAULT true CHECK (one_row),
    -- Id of the process.
    holder      text NOT NULL,
    -- Host and port at which it listens.
    address     text NOT NULL,
    -- Counts the leaders.
    epoch       bigint NOT NULL,
    renewed_at  timestamptz NOT NULL
);
