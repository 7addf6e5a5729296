"""Ask one API over HTTP or HTTPS: a document by its name, its data back, or an error in words.

The surprise: no redirect is followed and no proxy of the environment used. A token goes to the address that was named,
and nowhere else.
"""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any
from urllib.parse import urlsplit

from aegate_cli.api.errors import APIUnreachable, error_of

TIMEOUT_S = 60.0
"""Longer than the API lets an operation run by default (20 s): its own answer says more than our timeout."""

LONGEST_PAGE = 100
LARGEST_ANSWER_BYTES = 64 * 1024 * 1024


@cache
def document(name: str) -> str:
    """Return the operation of that name."""
    return (
        resources.files("aegate_cli.api").joinpath("documents", f"{name}.graphql").read_text(encoding="utf-8")
    )


@dataclass(frozen=True, slots=True)
class Page:
    """Rows of a list, and how many more there are."""

    nodes: list[dict[str, Any]]
    has_more: bool
    total: str = ""
    """How many there are in all: a number, or one with a + where counting stopped."""


@dataclass(frozen=True, slots=True)
class API:
    """One API and a token for it."""

    url: str
    token: str = field(repr=False)
    tls: ssl.SSLContext | None = None
    advice: str = "check --server, or AEGATE_SERVER"
    """What to do when nobody answers there."""
    source: str | None = None
    """The address of this machine to ask from; None: any."""

    def ask(self, name: str, **variables: object) -> dict[str, Any]:
        """Return the data of the document ``name``. Raises AegateError with what the API said, or why nothing."""
        body = json.dumps({"query": document(name), "variables": variables}).encode()
        status, answer = self._post(body)
        errors = answer.get("errors")
        if errors:
            first = errors[0] if isinstance(errors, list) and isinstance(errors[0], Mapping) else {}
            extensions = first.get("extensions") or {}
            pause_s = extensions.get("retryAfterSeconds")
            raise error_of(
                str(extensions.get("code", "INTERNAL")),
                str(first.get("message", "an error without a text")),
                retry_after_s=pause_s if isinstance(pause_s, int | float) else 0.0,
            )
        data = answer.get("data")
        if not isinstance(data, dict):
            raise self._strange(f"status {status} without data")
        return data

    def pages(self, name: str, limit: int, **variables: object) -> Page:
        """Return the first ``limit`` rows of a list, asked for page by page."""
        nodes: list[dict[str, Any]] = []
        total, after = "", None
        while True:
            first = min(LONGEST_PAGE, limit - len(nodes))
            found = self.ask(name, first=first, after=after, count=after is None, **variables)["found"]
            nodes += found["nodes"]
            if after is None and (counted := found.get("totalCount")):
                total = f"{counted['value']:,}" + ("" if counted["precision"] == "EXACT" else "+")
            after = found["pageInfo"]["endCursor"]
            has_more = bool(found["pageInfo"]["hasNextPage"])
            if len(nodes) >= limit or not has_more:
                return Page(nodes, has_more, total)

    def _post(self, body: bytes) -> tuple[int, Mapping[str, Any]]:
        """Send one request, never a second time: it may have been a change."""
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.token}"}
        with closing(self._connection()) as connection:
            try:
                connection.request("POST", urlsplit(self.url).path, body, headers)
                response = connection.getresponse()
                text = response.read(LARGEST_ANSWER_BYTES)
            except ssl.SSLError as error:
                raise self._untrusted(error) from error
            except (OSError, http.client.HTTPException) as error:
                raise self._silent(error) from error
        answer: object = None
        with suppress(ValueError):
            answer = json.loads(text)
        if not isinstance(answer, Mapping):
            raise self._strange(f"status {response.status} with something else")
        return response.status, answer

    def _connection(self) -> http.client.HTTPConnection:
        parts = urlsplit(self.url)
        host = parts.hostname or ""
        source = None if self.source is None else (self.source, 0)
        if parts.scheme == "https":
            context = self.tls or ssl.create_default_context()
            return http.client.HTTPSConnection(
                host, parts.port, timeout=TIMEOUT_S, source_address=source, context=context
            )
        return http.client.HTTPConnection(host, parts.port, timeout=TIMEOUT_S, source_address=source)

    def _silent(self, error: Exception) -> APIUnreachable:
        why = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
        return APIUnreachable(f"expected an API at {self.url}, got no answer ({why}): {self.advice}")

    def _untrusted(self, error: ssl.SSLError) -> APIUnreachable:
        why = getattr(error, "verify_message", "") or error.reason or "no TLS"
        return APIUnreachable(
            f"expected a certificate for {self.url} that can be trusted, got another ({why}): "
            "give its authority with --ca or AEGATE_SERVER_CA, and the name that the certificate has in --server"
        )

    def _strange(self, got: str) -> APIUnreachable:
        return APIUnreachable(
            f"expected an answer of the aegate API at {self.url}, got {got}: check the address"
        )
