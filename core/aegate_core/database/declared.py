"""Triggers of PostgreSQL as stores declare them at each migration: made only where they are not there already.

The surprise: ``CREATE OR REPLACE TRIGGER`` waits for all who write to its table and locks out those who come, even
where it changes nothing; within the transaction of a migration that ends in deadlocks with workers.
"""

from __future__ import annotations

import hashlib


def trigger(name: str, event: str, table: str, then: str) -> str:
    """Return what makes a trigger unless just this one is there: its comment is a digest of how it was made.

    ``event``: such as ``AFTER INSERT``; ``then``: from ``FOR EACH`` on.
    """
    statement = f"CREATE OR REPLACE TRIGGER {name} {event} ON {table} {then}"
    digest = hashlib.sha256(statement.encode()).hexdigest()[:16]
    return (
        "DO $$ BEGIN IF NOT EXISTS (SELECT 1 FROM pg_trigger t JOIN pg_description d ON d.objoid = t.oid "
        f"AND d.classoid = 'pg_trigger'::regclass WHERE t.tgname = '{name}' AND t.tgrelid = '{table}'::regclass "
        f"AND d.description = '{digest}') THEN {statement}; COMMENT ON TRIGGER {name} ON {table} IS '{digest}'; "
        "END IF; END $$"
    )
