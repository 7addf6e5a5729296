"""What can go wrong between this command and an API, each with its exit code.

    APIError                 1  refused: no such thing, not as it was, done by somebody else
    ├── APIUnreachable       3  it does not answer, or has no time now: the same again may succeed
    └── APIForbidden         4  no token, one that is not valid, or one without the permission

2 stays what it is for every command: what was given cannot be used. Messages carry no value of a patient.
"""

from __future__ import annotations

from collections.abc import Mapping

from aegate_core.errors import AegateError, InvalidInput


class APIError(AegateError):
    """The API refused."""

    code = "API_REFUSED"
    exit_code = 1


class APIUnreachable(APIError):
    """The API does not answer, or not now."""

    code = "API_UNREACHABLE"
    exit_code = 3

    def __init__(self, message: str, *, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        """How long it said that it wants to be left alone."""


class APIForbidden(APIError):
    """The token does not let its holder do that, or is none."""

    code = "API_FORBIDDEN"
    exit_code = 4


_KINDS: Mapping[str, type[AegateError]] = {
    "UNAUTHENTICATED": APIForbidden,
    "FORBIDDEN": APIForbidden,
    "UNAVAILABLE": APIUnreachable,
    "RATE_LIMITED": APIUnreachable,
    "TOO_MANY_AT_ONCE": APIUnreachable,
    "TIME_LIMIT": APIUnreachable,
    "INTERNAL": APIUnreachable,
    "INVALID_VALUE": InvalidInput,
    "BAD_SEARCH": InvalidInput,
    "BAD_FILTER": InvalidInput,
}

_NEXT_STEPS: Mapping[str, str] = {
    "UNAUTHENTICATED": "give a valid one with --token-file, AEGATE_TOKEN or AEGATE_TOKEN_FILE",
    "FORBIDDEN": "ask for a token that has it: `aegate token create NAME --permission P`",
    "INVALID_QUERY": "this command and the API are of different releases: `aegate version` here and there",
    "DOCUMENT_NOT_TRUSTED": "lay down the documents of this command: docs/operations/on-call.md says how",
}


def error_of(code: str, message: str, *, retry_after_s: float = 0.0) -> AegateError:
    """Return what the API said under ``code`` as one of our errors, with the next step where it names none."""
    step = _NEXT_STEPS.get(code)
    kind = _KINDS.get(code, APIError)
    if kind is APIUnreachable:
        return APIUnreachable(message, retry_after_s=retry_after_s)
    return kind(f"{message}; {step}" if step else message)
