"""Triggers and indexes of words as stores declare them at each migration: made only where they are not there already.

The surprise: PostgreSQL's ``CREATE OR REPLACE TRIGGER`` waits for all who write to its table and locks out those who
come, even where it changes nothing; within the transaction of a migration that ends in deadlocks with workers.
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


def words(table: str, index: str) -> tuple[str, ...]:
    """Return what makes SQLite's index of the words in the ``search_text`` of a table, and what keeps it up to date."""
    added = f"INSERT INTO {index} (rowid, search_text) VALUES (new.id, new.search_text);"
    gone = f"INSERT INTO {index} ({index}, rowid, search_text) VALUES ('delete', old.id, old.search_text);"
    made = "CREATE TRIGGER IF NOT EXISTS"
    return (
        f"CREATE VIRTUAL TABLE IF NOT EXISTS {index} USING fts5 ("
        f"search_text, content = '{table}', content_rowid = 'id', tokenize = 'trigram', detail = 'full')",
        f"{made} {index}_insert AFTER INSERT ON {table} BEGIN {added} END",
        f"{made} {index}_update AFTER UPDATE OF search_text ON {table} "
        f"WHEN old.search_text IS NOT new.search_text BEGIN {gone} {added} END",
        f"{made} {index}_delete AFTER DELETE ON {table} BEGIN {gone} END",
        # Rows that were there before: the words of none are known.
        f"INSERT INTO {index} ({index}) SELECT 'rebuild' "
        f"WHERE EXISTS (SELECT 1 FROM {table}) AND NOT EXISTS (SELECT 1 FROM {index}_docsize)",
    )
