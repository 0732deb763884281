-- Tokens that `mesh token create` made, and those that were revoked. The control plane reads which ones
-- are revoked; a token that was never revoked is valid by its signature, whether it has a row or not.
CREATE SCHEMA IF NOT EXISTS mesh;

CREATE TABLE IF NOT EXISTS mesh.tokens (
    id          text PRIMARY KEY,
    subject     text NOT NULL,
    -- Names or patterns, separated by spaces.
    scopes      text NOT NULL,
    models      text NOT NULL,
    created_at  timestamptz NOT NULL,
    expires_at  timestamptz NOT NULL,
    revoked_at  timestamptz
);
