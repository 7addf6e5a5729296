"""GraphQL errors as callers see them: a stable code, and never more than they may know.

Errors of our own tree carry their message: it holds no patient data. Everything else is masked: the caller gets a
correlation id, the log the id and the error's class. Texts of graphql-core repeat values of the request: those are cut.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from typing import Any

from graphql import GraphQLError, GraphQLSyntaxError

from aegate_core.errors import AegateError, InvalidInput, NotFound, StorageError, TimeLimitReached
from aegate_core.events import REQUEST_FAILED, Log

log = Log("api")

CODES: Mapping[str, str] = {
    "UNAUTHENTICATED": "no token, or one that is not valid",
    "FORBIDDEN": "the token does not hold the permission that is named",
    "BAD_REQUEST": "the HTTP request is no GraphQL request",
    "TOO_LARGE": "the body is larger than 1 MiB, or the headers than 32 KiB",
    "SYNTAX_ERROR": "the document does not parse",
    "INVALID_QUERY": "the document does not fit the schema, or its variables do not",
    "TOO_COMPLEX": "the document or its variables are too long, deep, wide or costly; `of` says what is limited",
    "TOO_SLOW": "the body of the request took too long to come",
    "TIME_LIMIT": "the operation took longer than it may and was stopped",
    "RATE_LIMITED": "the caller asks for more than its share a second; Retry-After says when to come again",
    "TOO_MANY_AT_ONCE": "the caller has too many operations running at the same time",
    "CROSS_ORIGIN": "a browser asks for a page of another origin, which is not allowed to",
    "DOCUMENT_NOT_FOUND": "no trusted document has this id",
    "DOCUMENT_NOT_TRUSTED": "the server runs trusted documents alone, and this is none",
    "INTROSPECTION_OFF": "the server does not tell its schema",
    "BAD_CURSOR": "the cursor is not one of ours",
    "CURSOR_OF_ANOTHER_LIST": "the cursor was given for another list, filter or order",
    "CURSOR_EXPIRED": "what followed the cursor is not kept any more: read anew, then follow",
    "BAD_SEARCH": "the search text cannot be used",
    "BAD_FILTER": "the filter is too deep, too wide or holds a value that cannot be",
    "INVALID_VALUE": "an argument is outside of its limits",
    "NOT_FOUND": "there is no such thing",
    "TOO_MANY_STREAMS": "the server, the caller or the connection has as many streams as it may: come back later",
    "SERVER_STOPPING": "the server is being stopped: open the stream again after retryAfterMs",
    "UNAVAILABLE": "the database or the identity provider does not answer now: try again",
    "INTERNAL": "a fault of ours; its correlation id is in our log",
}
"""Every code that may stand in ``extensions.code``, and what it means."""


_OF_OURS: tuple[tuple[type[AegateError], str], ...] = (
    (StorageError, "UNAVAILABLE"),
    (NotFound, "NOT_FOUND"),
    (InvalidInput, "INVALID_VALUE"),
)


class RequestRefused(GraphQLError):
    """An error for the caller with one of CODES; the message carries no value of the request."""

    def __init__(self, code: str, message: str, **details: object) -> None:
        if code not in CODES:
            raise ValueError(f"unknown error code {code}: add it to CODES")
        super().__init__(message, extensions={"code": code, **details})


def present(error: GraphQLError) -> dict[str, Any]:
    """Return ``error`` as it goes to the caller; logs it when it is a fault of ours."""
    original = error.original_error
    if isinstance(error, RequestRefused) or isinstance(original, RequestRefused):
        refused = error if isinstance(error, RequestRefused) else original
        assert isinstance(refused, RequestRefused)
        return _formatted(error, refused.message, refused.extensions or {})
    if isinstance(original, TimeLimitReached):
        return _formatted(error, original.message, time_limit_details(original))
    for kind, code in _OF_OURS:
        if isinstance(original, kind):
            return _formatted(error, original.message, {"code": code})
    # While it runs an error has a path; without one, but with nodes, it comes from coercing what the caller gave.
    # Arguments are coerced while it runs, too.
    coercing = isinstance(original, GraphQLError) and _PLACE.match(original.message)
    if original is not None and not coercing and (error.path is not None or not error.nodes):
        return _formatted(error, *_masked(original))
    if isinstance(error, GraphQLSyntaxError):
        return _formatted(error, "the document does not parse at this place", {"code": "SYNTAX_ERROR"})
    return _formatted(error, _without_values(error.message), {"code": "INVALID_QUERY"})


def time_limit_details(error: TimeLimitReached) -> dict[str, object]:
    """Return the extensions of an operation that took too long; seconds."""
    return {"code": "TIME_LIMIT", "limit": error.limit_s, "used": error.used_s}


def without_hint(message: str) -> str:
    """Return ``message`` without names of the schema that were not in the request."""
    return _HINT.sub("", message)


def problem_body(code: str, message: str, details: Mapping[str, object] | None = None) -> dict[str, Any]:
    """Return the body of an answer to a request that never became an operation."""
    return {"data": None, "errors": [{"message": message, "extensions": {"code": code, **(details or {})}}]}


def fault_body(fault: Exception) -> dict[str, Any]:
    """Return the body of an answer to a request that met a fault of ours outside of any field; logs it."""
    message, extensions = _masked(fault)
    return {"data": None, "errors": [{"message": message, "extensions": extensions}]}


def _masked(original: BaseException) -> tuple[str, dict[str, object]]:
    correlation = secrets.token_hex(8)
    log(REQUEST_FAILED, correlation=correlation, error=type(original).__name__)
    return (
        f"internal error: tell your administrator the correlation id {correlation}",
        {"code": "INTERNAL", "correlationId": correlation},
    )


def _formatted(error: GraphQLError, message: str, extensions: Mapping[str, Any]) -> dict[str, Any]:
    shown: dict[str, Any] = {"message": message, "extensions": dict(extensions)}
    if error.locations:
        shown["locations"] = [{"line": at.line, "column": at.column} for at in error.locations]
    if error.path:
        shown["path"] = list(error.path)
    return shown


_WITHOUT_VALUES = re.compile(
    r"Cannot query field |Unknown (argument|type|fragment|directive|operation) |Fragment |Fragments |Fields '|"
    r"Field '\w+' (of |argument |is not defined|must |is required)|Variable '\$\w+' (is |of type|of required type)|"
    r"Argument '@?[\w.]+\(\w+:\)' of type |"
    r"There can be only one |Directive |This anonymous operation|Maximum introspection depth|Cannot spread |Operation |"
    r"Too many validation errors|Validation aborted|Variable values are nested too deeply"
)
"""How texts of graphql-core begin that hold names of the document and the schema alone."""

_HINT = re.compile(r";? Did you mean [^?]*\?")

_PLACE = re.compile(r"(Variable '\$\w+'|Argument '\w+') has invalid (?:default )?value(?: at [^:]*)?: ")
_EXPECTED = (
    (r"(Int|Float|String|Boolean|ID) cannot represent", "a value of type {} is expected, got another"),
    (r"Value cannot represent an? (\w+):", "a value of type {} is expected, got another"),
    (r"Value '.*' does not exist in '(\w+)' enum", "a name of the enum {} is expected, got another"),
    (r"Enum '(\w+)' cannot represent", "a name of the enum {} is expected, got another"),
    (r"Expected value of type '(\w+)' to include required field '(\w+)'", "{} needs the field {}, got none"),
    (
        r"Expected value of type '(\w+)' not to include unknown field '\w+'\.( Did you mean [^?]*\?) Found",
        "{} has no field of this name.{}",
    ),
    (r"Expected value of type '(\w+)' not to include unknown field", "{} has no field of this name"),
    (r"Expected (?:a )?value of non-null type '([\w\[\]!]+)'", "a value of type {} is expected, got none"),
    (
        r"Expected variable '\$\w+' provided to (?:non-null )?type '([\w\[\]!]+)'",
        "a value of type {} is expected, got none",
    ),
    (r"Expected value of type '([\w\[\]!]+)'", "a value of type {} is expected, got another"),
)
"""What graphql-core's texts on values say of the schema, and how it is told without the value."""


def _without_values(message: str) -> str:
    """Return what can be told of ``message``: what is not known to be free of the request's values is cut."""
    if _WITHOUT_VALUES.match(message):
        return message
    place = _PLACE.match(message)
    rest = message[place.end() :] if place else message
    where = f"{place.group(1)}: " if place else ""
    for pattern, told in _EXPECTED:
        if match := re.match(pattern, rest, re.DOTALL):
            return f"{where}{told.format(*match.groups())}; see the schema"
    return f"{where}a value does not fit: give one of the type that the schema asks for"
