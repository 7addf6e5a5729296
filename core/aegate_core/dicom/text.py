"""Search text: made once when a row is written, and by the same function for the query."""

from __future__ import annotations

import unicodedata


def search_text(*parts: str | None) -> str:
    """Return the parts as one line to search in: case-folded, accents folded, ``^``, ``=`` and ``\\`` as blanks.

    >>> search_text("Müller^Jörg", None, "CT-1")
    'muller jorg ct-1'
    """
    joined = " ".join(p for p in parts if p)
    decomposed = unicodedata.normalize("NFKD", joined.casefold())
    plain = "".join(" " if c in "^=\\" else c for c in decomposed if not unicodedata.combining(c))
    return " ".join(plain.split())
