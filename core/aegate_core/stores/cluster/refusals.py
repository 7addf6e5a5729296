"""What an answer of the API server means, as an error of our tree."""

from __future__ import annotations

from collections.abc import Mapping

from aegate_core.errors import (
    Cause,
    ClusterConflict,
    ClusterError,
    ClusterExpired,
    ClusterInvalid,
    ClusterNotFound,
    ClusterRefused,
    ClusterUnavailable,
)

_BY_STATUS: Mapping[int, type[ClusterError]] = {
    400: ClusterInvalid,
    401: ClusterRefused,
    403: ClusterRefused,
    404: ClusterNotFound,
    409: ClusterConflict,
    410: ClusterExpired,
    413: ClusterInvalid,
    415: ClusterInvalid,
    422: ClusterInvalid,
    429: ClusterUnavailable,
}
LONGEST_MESSAGE = 1024
"""Of the API server's own words that are handed on; a denial may quote a whole object."""


def refusal(what: str, status: int, body: object) -> ClusterError:
    """Return the error for an answer ``status`` to ``what``; ``body`` is the metav1.Status, or anything."""
    said = body if isinstance(body, Mapping) else {}
    reason = str(said.get("reason") or "")
    message = str(said.get("message") or f"HTTP {status}")[:LONGEST_MESSAGE]
    kind = ClusterUnavailable if status >= 500 else _BY_STATUS.get(status, ClusterError)
    return kind(f"{what}: {message}", status=status, reason=reason, causes=_causes(said.get("details")))


def _causes(details: object) -> tuple[Cause, ...]:
    listed = details.get("causes") if isinstance(details, Mapping) else None
    return tuple(
        Cause(*(str(cause.get(name) or "")[:LONGEST_MESSAGE] for name in ("reason", "field", "message")))
        for cause in (listed if isinstance(listed, list) else [])
        if isinstance(cause, Mapping)
    )
