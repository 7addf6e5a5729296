"""A database that writes down every statement, to tell whether two questions were asked alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aegate_core.database import Database


class RecordingDatabase(Database):
    """Another hand on an open database; what is asked through it is written down, without its values."""

    def __init__(self, db: Database) -> None:
        super().__init__(db._context, db.url)
        self.statements: list[str] = []

    async def fetch(self, sql: str, *arguments: object) -> list[dict[str, Any]]:
        self.statements.append(sql)
        return await super().fetch(sql, *arguments)

    async def fetch_tuples(self, sql: str, *arguments: object) -> Sequence[Sequence[Any]]:
        self.statements.append(sql)
        return await super().fetch_tuples(sql, *arguments)

    async def execute(self, sql: str, *arguments: object) -> int:
        self.statements.append(sql)
        return await super().execute(sql, *arguments)

    async def execute_many(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        self.statements.append(sql)
        await super().execute_many(sql, rows)

    def take(self) -> list[str]:
        """Return what was asked since it was last taken, without the clock's question."""
        without = ("clock_timestamp", "INSERT INTO audit_event")  # once a minute for who reads patient data
        taken = [s for s in self.statements if not any(word in s for word in without)]
        self.statements = []
        return taken
