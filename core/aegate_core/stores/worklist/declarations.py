"""What Tortoise's models cannot say about the worklist: indexes by code points, of words, of keys.

Run after the migrations, each time: every statement is safe to repeat.
"""

from __future__ import annotations

from aegate_core.database.declared import words

_BOTH = (
    'CREATE INDEX IF NOT EXISTS worklist_by_start ON worklist_item (scheduled_start COLLATE "C", id)',
    'CREATE INDEX IF NOT EXISTS worklist_by_name ON worklist_item (sort_name COLLATE "C", id)',
    "CREATE INDEX IF NOT EXISTS worklist_of_partition ON worklist_item "
    '(partition, scheduled_start COLLATE "C", id)',
    'CREATE INDEX IF NOT EXISTS worklist_by_study ON worklist_item (study_instance_uid COLLATE "C")',
    "CREATE INDEX IF NOT EXISTS worklist_by_accession ON worklist_item (accession_number)",
    "CREATE INDEX IF NOT EXISTS worklist_by_patient ON worklist_item (patient_id)",
    "CREATE UNIQUE INDEX IF NOT EXISTS worklist_asked_once ON worklist_item (created_by, idempotency_key) "
    "WHERE idempotency_key IS NOT NULL",
)
_POSTGRES = (
    "CREATE EXTENSION IF NOT EXISTS pg_trgm",
    "CREATE INDEX IF NOT EXISTS worklist_search ON worklist_item USING gin (search_text gin_trgm_ops)",
)


def statements(dialect: str) -> tuple[str, ...]:
    """Return the statements for ``sqlite`` or ``postgres``, in order."""
    return _BOTH + (_POSTGRES if dialect == "postgres" else words("worklist_item", "worklist_words"))
