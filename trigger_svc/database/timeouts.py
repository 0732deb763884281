"""Time limits of transactions that need other ones than the defaults of service_kit.database."""

from service_kit.database import Timeouts

# What callers ask about one model. A table that another session has locked is told soon, so that
# callers who wait for it do not hold the connections.
CALLER = Timeouts(statement_ms=30_000, lock_ms=1_000)
# Statements that may read every row of a training table, which may have a hundred million. They
# end earlier when their caller leaves.
WHOLE_TABLE = Timeouts(statement_ms=600_000, lock_ms=1_000)
# An import is one COPY and one INSERT of up to TRIGGER_IMPORT_MAX_BYTES.
IMPORT = Timeouts(statement_ms=3_600_000, lock_ms=10_000)
# The bridge passes over a model whose table is locked and goes on with the others.
SEALING = Timeouts(statement_ms=10_000, lock_ms=250)
# The bridge's look at one training table, for rows that are in no batch.
LOOK = Timeouts(statement_ms=3_000, lock_ms=250)
# The bridge's session: when a bridge is stopped in the middle of a transaction, the next one waits
# for the lock on its epoch until PostgreSQL ends that transaction after 20 s; see check_lead.
BRIDGE_SESSION = Timeouts(statement_ms=40_000, lock_ms=30_000)
