"""Search text: made once when a row is written, and by the same function for the query."""

from __future__ import annotations

import unicodedata

BETWEEN_GROUPS = " = "
"""Stands between the component groups of a name (PS3.5 6.2.1.1); a search text by itself holds no ``=``."""


def search_text(*parts: str | None) -> str:
    """Return the parts as one line to search in: case-folded, accents folded, ``^``, ``=`` and ``\\`` as blanks.

    >>> search_text("Müller^Jörg", None, "CT-1")
    'muller jorg ct-1'
    """
    joined = " ".join(p for p in parts if p)
    # Folded again: what compatibility makes of a letter may be a capital, as of U+1D400, a bold A.
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", joined.casefold()).casefold())
    plain = "".join(" " if c in "^=\\" else c for c in decomposed if not unicodedata.combining(c))
    return " ".join(plain.split())


def name_text(*groups: str | None) -> str:
    """Return a person's name to search in: its groups apart, commas as blanks.

    >>> name_text("Yamada^Tarou", "山田^太郎", "")
    'yamada tarou = 山田 太郎'
    """
    folded = (search_text(group.replace(",", " ")) for group in groups if group)
    return BETWEEN_GROUPS.join(group for group in folded if group)
