"""A header that somebody types, keyword by keyword, as DICOM JSON (PS3.18 F.2): for asking what would become of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from pydicom.datadict import dictionary_VR, keyword_dict, tag_for_keyword

from aegate_core.dicom.json_model import JSON, PERSON_NAME_GROUPS
from aegate_core.errors import InvalidValue

MOST_ATTRIBUTES = 100
MOST_VALUES = 100
LONGEST_VALUE = 1_024

_WITHOUT_TEXT = frozenset(
    ("SQ", "OB", "OD", "OF", "OL", "OV", "OW", "UN", "OB or OW", "US or OW", "US or SS or OW")
)


@dataclass(frozen=True, slots=True)
class SampleAttribute:
    """One element: its keyword of PS3.6, and its values as texts; none: it is there, and empty."""

    keyword: str
    values: Sequence[str]


def sample_header(attributes: Sequence[SampleAttribute]) -> JSON:
    """Return the header. Raises InvalidValue naming the attribute by its number; no message holds what was typed."""
    if len(attributes) > MOST_ATTRIBUTES:
        raise InvalidValue(
            f"a header may have {MOST_ATTRIBUTES} attributes, got {len(attributes)}: leave some out"
        )
    header: JSON = {}
    for number, attribute in enumerate(attributes, start=1):
        place = f"attribute {number}"
        tag = tag_for_keyword(attribute.keyword)
        if tag is None:
            raise InvalidValue(
                f"{place} must be named by a keyword of PS3.6, got another word{_nearest(attribute.keyword)}"
            )
        vr = dictionary_VR(tag)
        if vr in _WITHOUT_TEXT:
            raise InvalidValue(
                f"{place} must have values that are texts, {attribute.keyword} has none ({vr}): leave it out"
            )
        key = f"{tag:08X}"
        if key in header:
            raise InvalidValue(f"{place} is there before: give all values of {attribute.keyword} in one")
        header[key] = _entry(vr, attribute.values, place)
    return header


def _entry(vr: str, values: Sequence[str], place: str) -> JSON:
    if len(values) > MOST_VALUES or any(len(v) > LONGEST_VALUE or "\0" in v for v in values):
        raise InvalidValue(
            f"{place} may have {MOST_VALUES} values of {LONGEST_VALUE} characters without NUL: shorten it"
        )
    kept: list[object] = [_name(v) if vr == "PN" else v.strip(" ") for v in values if v.strip(" ")]
    return {"vr": vr, "Value": kept} if kept else {"vr": vr}


def _name(text: str) -> dict[str, str]:
    groups = zip(PERSON_NAME_GROUPS, text.split("="), strict=False)
    return {group: part.strip(" ") for group, part in groups if part.strip(" ")}


def _nearest(keyword: str) -> str:
    found = get_close_matches(keyword[:64], keyword_dict, n=2)
    return f": did you mean {' or '.join(found)}?" if found else ": look it up in PS3.6"
