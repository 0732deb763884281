"""Time limits of transactions that need more than the defaults of service_kit.database."""

from service_kit.database import Timeouts

# Statements that may read every row of a training table, which may have tens of millions.
WHOLE_TABLE = Timeouts(statement_ms=600_000)
# An import is one COPY and one INSERT of up to TRIGGER_IMPORT_MAX_BYTES. A second import of the
# same model, or with the same request id, waits for locks until the first one ends.
IMPORT = Timeouts(statement_ms=3_600_000, lock_ms=60_000)
# The bridge's session: when a bridge is stopped in the middle of a transaction, the next one waits
# for the lock on its epoch until PostgreSQL ends that transaction after 20 s; see check_lead.
BRIDGE_SESSION = Timeouts(statement_ms=40_000, lock_ms=30_000)
