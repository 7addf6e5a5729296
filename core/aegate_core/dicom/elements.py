"""Read single elements out of a header in DICOM JSON: by keyword, as the texts that a route or a search
compares.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from pydicom.datadict import tag_for_keyword


@lru_cache(maxsize=4096)
def tag_of(keyword: str) -> str | None:
    """Return the eight hex digits of a keyword of PS3.6, as DICOM JSON writes them; None for an unknown
    keyword.
    """
    tag = tag_for_keyword(keyword)
    return None if tag is None else f"{tag:08X}"


def texts_of_entry(entry: object) -> tuple[str, ...]:
    """Return the values of one JSON element as texts, without blanks around them; a sequence has none.

    A person's name yields each of its component groups.
    """
    if not isinstance(entry, Mapping) or entry.get("vr") == "SQ":
        return ()
    values = entry.get("Value")
    if not isinstance(values, list):
        return ()
    texts: list[str] = []
    for value in values:
        if isinstance(value, Mapping):
            texts.extend(str(part) for part in value.values())
        elif value is not None:
            texts.append(str(value).strip())
    return tuple(text for text in texts if text)


def texts(header: Mapping[str, object], keyword: str) -> tuple[str, ...]:
    """Return the values of the element ``keyword`` in ``header``; none when it is absent, empty or unknown."""
    tag = tag_of(keyword)
    return () if tag is None else texts_of_entry(header.get(tag))


def has_element(header: Mapping[str, object], keyword: str) -> bool:
    """Say whether ``header`` has the element with a value; a sequence counts when it has an item."""
    tag = tag_of(keyword)
    entry = None if tag is None else header.get(tag)
    return isinstance(entry, Mapping) and bool(entry.get("Value"))
