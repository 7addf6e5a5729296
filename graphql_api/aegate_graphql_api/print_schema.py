"""``python -m aegate_graphql_api.print_schema > graphql_api/schema.graphql``: the contract, as a test compares it."""

from __future__ import annotations

from aegate_graphql_api.schema.root import schema


def schema_text() -> str:
    """Return the SDL with one newline at its end."""
    return schema.as_str().rstrip("\n") + "\n"


if __name__ == "__main__":
    print(schema_text(), end="")
