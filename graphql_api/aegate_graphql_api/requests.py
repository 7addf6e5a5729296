"""What makes a JSON value one GraphQL operation, over whatever transport it came."""

from __future__ import annotations

from typing import Any


class Refusal(Exception):
    """The request is not one that becomes an operation."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.message = message


def checked_operation(operation: object) -> dict[str, Any]:
    """Return the operation's parts. Raises Refusal for what is no GraphQL request."""
    if (
        not isinstance(operation, dict)
        or not isinstance(operation.get("query"), str)
        or not operation["query"]
    ):
        raise Refusal(
            400,
            "BAD_REQUEST",
            "the body must be one object with query, a text, got another: send batches singly",
        )
    if not isinstance(operation.get("variables"), dict | None):
        raise Refusal(400, "BAD_REQUEST", "variables must be an object: leave them out or correct them")
    if not isinstance(operation.get("operationName"), str | None):
        raise Refusal(400, "BAD_REQUEST", "operationName must be a text: leave it out or correct it")
    return operation
