"""What the API lets callers do and how much of it: the limits that an administrator sets, and their defaults."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aegate_core.errors import InvalidValue

_ORIGIN = re.compile(r"https?://(?:[a-z0-9.-]+|\[[0-9a-f:.]+\])(?::\d{1,5})?")


@dataclass(frozen=True, slots=True)
class Policy:
    """Limits of one API process. Each replica counts for itself."""

    operation_s: float = 20.0
    """Seconds that an operation may take; then its SQL is cancelled. By feel: people reload after that."""
    body_s: float = 10.0
    """Seconds in which the body of a request must have come."""
    rate: int = 1_000_000
    """Cost that a caller may use a second, twice as much at once; 0: any. What is refused costs by the time it took."""
    at_once: int = 50
    """Operations of one caller that may run at the same time."""
    documents: Path | None = None
    """Trusted documents: a folder of .graphql files, or a JSON file of texts by SHA-256; None: there are none."""
    only_trusted: bool = False
    """Refuse every document that is not a trusted one."""
    introspection: bool = True
    """Whether the schema is told, and names that are nearly right are mended."""
    origins: tuple[str, ...] = ()
    """Origins of web pages, other than our own, that browsers may let ask."""
    fast_lists: bool = True
    """Whether plain lists are answered past graphql-core; see plain_lists."""


def policy_from(environ: Mapping[str, str]) -> Policy:
    """Return the policy of this environment. Raises InvalidValue naming the variable."""
    documents = environ.get("AEGATE_DOCUMENTS")
    only_trusted = _switch(environ, "AEGATE_ONLY_TRUSTED", default=False)
    if only_trusted and not documents:
        raise InvalidValue(
            "AEGATE_ONLY_TRUSTED=yes needs trusted documents, got none: name their folder in AEGATE_DOCUMENTS"
        )
    return Policy(
        operation_s=_number(environ, "AEGATE_OPERATION_SECONDS", 20, 1, 3_600),
        rate=_number(environ, "AEGATE_RATE", 1_000_000, 0, 1_000_000_000),
        at_once=_number(environ, "AEGATE_AT_ONCE", 50, 1, 500),
        documents=Path(documents) if documents else None,
        only_trusted=only_trusted,
        introspection=_switch(environ, "AEGATE_INTROSPECTION", default=not only_trusted),
        origins=_origins(environ),
        fast_lists=_switch(environ, "AEGATE_FAST_LISTS", default=True),
    )


def _number(environ: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    text = environ.get(name) or str(default)
    if not text.isdecimal() or not least <= int(text) <= most:
        raise InvalidValue(f"{name} must be a whole number of {least} to {most}, got {text!r}: correct it")
    return int(text)


def _switch(environ: Mapping[str, str], name: str, *, default: bool) -> bool:
    text = environ.get(name, "")
    if text not in ("", "yes", "no"):
        raise InvalidValue(f"{name} must be yes or no, got {text!r}: set one of them or none")
    return text == "yes" if text else default


def _origins(environ: Mapping[str, str]) -> tuple[str, ...]:
    found = tuple(o.strip() for o in environ.get("AEGATE_ORIGINS", "").split(",") if o.strip())
    for origin in found:
        if not _ORIGIN.fullmatch(origin):
            raise InvalidValue(
                "AEGATE_ORIGINS must be origins such as https://viewer.example.org, with commas between, without "
                f"path and wildcard, got {origin!r}: correct it"
            )
    return found
