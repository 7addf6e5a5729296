"""What tests must know of an SQLite file that others have open."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path


def nobody_writes(database: Path) -> bool:
    """Whether no process was stopped within a transaction: its lock would stay with it."""
    with closing(sqlite3.connect(database, timeout=0)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return False
        connection.rollback()
        return True
