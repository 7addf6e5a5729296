"""Partial indexes of the queue, the same SQL on SQLite and PostgreSQL; run after the migrations, safe to repeat.

Only live states and failures are indexed: ten million finished rows slow neither the claim nor the dashboard.
"""

from __future__ import annotations

from aegate_core.stores.queue import rollup

INDEXES: tuple[str, ...] = (
    "CREATE INDEX IF NOT EXISTS delivery_ready ON delivery (destination_id, rank, id) "
    "WHERE state = 'SCHEDULED'",
    "CREATE INDEX IF NOT EXISTS delivery_retry ON delivery (available_at) WHERE state = 'RETRY'",
    "CREATE INDEX IF NOT EXISTS delivery_sending ON delivery (slot_id) WHERE state = 'IN_PROGRESS'",
    "CREATE INDEX IF NOT EXISTS delivery_live ON delivery (destination_id, state) "
    "WHERE state IN ('SCHEDULED', 'IN_PROGRESS', 'RETRY', 'HELD')",
    # Not of `rank` itself: a claim would be read from it, and walk past all that waits for other destinations.
    "CREATE INDEX IF NOT EXISTS delivery_next ON delivery ((rank + 0), id) "
    "WHERE state IN ('SCHEDULED', 'IN_PROGRESS', 'RETRY', 'HELD')",
    "CREATE INDEX IF NOT EXISTS delivery_failed ON delivery (created_at, id) WHERE state = 'FAILED'",
    "CREATE INDEX IF NOT EXISTS delivery_of_partition ON delivery (partition, created_at, id)",
    "CREATE INDEX IF NOT EXISTS delivery_instance_pending ON delivery_instance (delivery_id, id) "
    "WHERE state = 'PENDING'",
    "CREATE INDEX IF NOT EXISTS delivery_instance_digest ON delivery_instance (delivered_sha256) "
    "WHERE delivered_sha256 IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS verification_open ON verification (asked_at) WHERE taken_by IS NULL",
    'CREATE INDEX IF NOT EXISTS destination_by_ae ON destination (ae COLLATE "C", id)',
    "CREATE INDEX IF NOT EXISTS delivered_digest ON delivered (delivered_sha256) "
    "WHERE delivered_sha256 IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS operation_open ON operation (stepped_at, id) WHERE state IN ('SCHEDULED', 'RUNNING')",
)

POSTGRES_STORAGE: tuple[str, ...] = (
    "ALTER TABLE delivery SET (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.01)",
    "ALTER TABLE delivery_instance SET (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.01)",
    "ALTER TABLE slot SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.01)",
)
"""PostgreSQL only: room for updates in place, and early vacuum, for tables whose rows change state often."""

ROWS: tuple[str, ...] = ("INSERT INTO fencing (id, last_token) VALUES (1, 0) ON CONFLICT (id) DO NOTHING",)
"""Rows that must be there from the beginning."""


def statements(dialect: str) -> tuple[str, ...]:
    """Return the statements for ``sqlite`` or ``postgres``, in order."""
    return INDEXES + (POSTGRES_STORAGE if dialect == "postgres" else ()) + ROWS + rollup.statements(dialect)
