"""Global ids, and the interface of whatever has one."""

from __future__ import annotations

import strawberry

from aegate_graphql_api.errors import RequestRefused
from aegate_graphql_api.global_ids import decode_id, encode_id
from aegate_graphql_api.permissions import ANYONE


@strawberry.interface(description="Whatever has a global id.", directives=[ANYONE])
class Node:
    """Whatever has a global id."""

    id: strawberry.ID = strawberry.field(
        description="Its id in this API, such as U3R1ZHk6MQ: opaque, stays the same, take it from an answer."
    )


def global_id(kind: str, key: object) -> strawberry.ID:
    """Return the id of ``kind`` with ``key``: opaque to callers."""
    return strawberry.ID(encode_id(kind, key))


def parse_id(text: str) -> tuple[str, str]:
    """Return kind and key. Raises RequestRefused NOT_FOUND for what is not one of our ids."""
    found = decode_id(text)
    if found is None:
        raise no_such_id()
    return found


def key_of(text: str, kind: str) -> str:
    """Return the key of an id that must be of ``kind``. Raises RequestRefused NOT_FOUND."""
    found, key = parse_id(text)
    if found != kind:
        raise RequestRefused(
            "NOT_FOUND", f"the id must be of {kind}, got another kind: take it from a {kind}"
        )
    return key


def number_of(text: str, kind: str) -> int:
    """Return the numeric key of an id of ``kind``. Raises RequestRefused NOT_FOUND."""
    key = key_of(text, kind)
    if not key.isascii() or not key.isdecimal() or len(key) > 18:
        raise no_such_id()
    return int(key)


def no_such_id() -> RequestRefused:
    """Return the error for an id that nothing has."""
    return RequestRefused("NOT_FOUND", "there is nothing with this id: take ids from answers of this API")
