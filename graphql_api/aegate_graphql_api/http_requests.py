"""From an HTTP request to the parts of one operation, or to the refusal that says what is expected instead."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import orjson
from starlette.requests import ClientDisconnect, Request

from aegate_graphql_api.limits import MAX_BODY_BYTES, MAX_CHARACTERS, MAX_VALUES
from aegate_graphql_api.policy import Policy

MOST_DROPPED_BYTES = 16 * MAX_BODY_BYTES
"""Of a body that is too large: to end its connection at once would lose the answer that says so."""
MOST_COMMAS = MAX_CHARACTERS + MAX_VALUES
"""In a body: a document may be full of them, and one stands between two values. To count them takes a hundredth of the
time that a body of 1 MiB takes to be parsed, during which nobody else is answered."""


class Refusal(Exception):
    """The HTTP request is not one that becomes an operation."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        details: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.message = message
        self.details = details or {}
        self.headers = headers or {}


def refuse_foreign_pages(request: Request, policy: Policy) -> None:
    """Raise Refusal for what a browser sends for a page of another origin that is not allowed to ask.

    A token in a header is nothing that a browser adds by itself; the session of a proxy in front of us may be.
    """
    site = request.headers.get("sec-fetch-site", "none")
    if site not in ("none", "same-origin") and request.headers.get("origin") not in policy.origins:
        raise Refusal(
            403,
            "CROSS_ORIGIN",
            "pages of this origin may not ask: serve them from our own, or have AEGATE_ORIGINS name theirs",
        )


async def read_body(request: Request, limit_s: float) -> bytes:
    """Return the body, at most MAX_BODY_BYTES of it whatever its header says. Raises Refusal."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise Refusal(
            415,
            "BAD_REQUEST",
            "the body must be application/json, got another type: send the header Content-Type",
        )
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise Refusal(
            415,
            "BAD_REQUEST",
            "the body must not be compressed: send it without the header Content-Encoding",
            headers={"Accept-Encoding": "identity"},
        )
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > MAX_BODY_BYTES:
        raise _too_large(int(length))
    body = bytearray()
    try:
        async with asyncio.timeout(limit_s):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise _too_large(len(body))
    except ClientDisconnect:
        raise Refusal(400, "BAD_REQUEST", "the body ended early") from None
    except TimeoutError:
        raise Refusal(
            408,
            "TOO_SLOW",
            f"the body may take {limit_s:g} s, took longer: send less at a time",
            details={"limit": limit_s, "used": limit_s},
            headers={"Connection": "close"},
        ) from None
    return bytes(body)


def _too_large(used: int) -> Refusal:
    return Refusal(
        413,
        "TOO_LARGE",
        f"the body may have {MAX_BODY_BYTES} bytes, got more: send less",
        details={"limit": MAX_BODY_BYTES, "used": used},
        headers={"Connection": "close"} if used > MOST_DROPPED_BYTES else {},
    )


def parsed_body(body: bytes) -> object:
    """Return the JSON value of a body. Raises Refusal; for far too many values before they are made into any."""
    if body.count(b",") > MOST_COMMAS:
        raise Refusal(
            400,
            "TOO_COMPLEX",
            f"an operation may have {MAX_VALUES} values in variables, got more: ask in several requests",
            details={"limit": MAX_VALUES, "used": MAX_VALUES + 1, "of": "values in variables"},
        )
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        raise _bad("the body is not JSON: send an object with query and variables") from None


def checked_operation(operation: object) -> dict[str, Any]:
    """Return the operation's parts: ``query`` or ``documentId``. Raises Refusal for what is no GraphQL request."""
    if not isinstance(operation, dict):
        raise _bad("the body must be one object with query, a text, got another: send batches singly")
    named = operation.get("documentId")
    if named is None and (not isinstance(operation.get("query"), str) or not operation["query"]):
        raise _bad("the body must be one object with query, a text, got another: send batches singly")
    if not isinstance(named, str | None):
        raise _bad("documentId must be a text such as sha256:…: correct it or send query")
    if not isinstance(operation.get("variables"), dict | None):
        raise _bad("variables must be an object: leave them out or correct them")
    if not isinstance(operation.get("operationName"), str | None):
        raise _bad("operationName must be a text: leave it out or correct it")
    return operation


def _bad(message: str) -> Refusal:
    return Refusal(400, "BAD_REQUEST", message)
