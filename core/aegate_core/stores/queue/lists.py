"""A batch of rows as one SQL argument, alike on SQLite and PostgreSQL.

So a batch is one statement with a constant text, and there is no limit on the number of arguments.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence


def rows(argument: str, dialect: str) -> str:
    """Return a FROM item ``j`` over an array of objects in ``argument``, such as ``$1``.

    Columns are ``j.value ->> 'name'``, cast by the reader.
    """
    return (
        f"json_each({argument}) AS j"
        if dialect == "sqlite"
        else f"json_array_elements({argument}::text::json) AS j"
    )


def as_rows(values: Sequence[Mapping[str, object]]) -> str:
    """Return the argument for `rows`."""
    return json.dumps(list(values), separators=(",", ":"))
