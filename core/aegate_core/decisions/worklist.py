"""Whether what is said of a worklist item fits, is enough for a Modality Worklist (PS3.4 K.6), and how it is found."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from aegate_core.dicom.text import name_text, search_text
from aegate_core.dicom.values import VR, fault_of
from aegate_core.dicom.worklist import ATTRIBUTES, Attribute, Code, Values

MOST_VALUES = 20
"""Of an attribute that may have several. By feel."""

SEXES = ("M", "F", "O")
PREGNANCY = range(1, 5)

Fault = tuple[str, str]
"""Name of an attribute, of a code's part with a dot behind it, and what is expected of it."""


def judged(given: Mapping[str, object]) -> tuple[Values, list[Fault]]:
    """Return what was given as it is kept, None and blanks as nothing, and what is wrong with it."""
    values: Values = {}
    faults: list[Fault] = []
    for name, value in given.items():
        attribute = ATTRIBUTES[name]
        values[name], wrong = _judged(attribute, value)
        faults += [(f"{name}{place}", said) for place, said in wrong]
    return values, faults


def incomplete(values: Mapping[str, object]) -> list[Fault]:
    """Return what a worklist could not do without and is not there."""
    found = [
        (a.name, "is needed: give it") for a in ATTRIBUTES.values() if a.needed and not values.get(a.name)
    ]
    for name, codes in DESCRIBED:
        if not values.get(name) and not values.get(codes):
            found.append((name, "is needed, in words or as codes: give one of them"))
    return found


DESCRIBED = (
    ("scheduled_procedure_step_description", "scheduled_protocol_code_sequence"),
    ("requested_procedure_description", "requested_procedure_code_sequence"),
)
"""What is said in words, or as codes (type 1C)."""


def _judged(attribute: Attribute, value: object) -> tuple[object, list[Fault]]:
    if value is None:
        return attribute.empty, []
    if attribute.many:
        assert isinstance(value, Sequence), "of many values there is a list"
        if len(value) > MOST_VALUES:
            return attribute.empty, [("", f"may have {MOST_VALUES} values, has {len(value)}: leave some out")]
        parts = [_one(attribute, one) for one in value]
        wrong = [(place, said) for _, found in parts for place, said in found]
        kept = dict.fromkeys(part for part, _ in parts if part)
        return tuple(kept), wrong
    return _one(attribute, value)


def _one(attribute: Attribute, value: object) -> tuple[object, list[Fault]]:
    if isinstance(value, Code):
        return _code(value)
    if isinstance(value, int):
        return value, [] if value in PREGNANCY else [("", "must be 1, 2, 3 or 4")]
    text = _joined(attribute.vr, str(value))
    if not text:
        return "", []
    if attribute.name == "patient_name" and not name_text(*text.split("=")):
        return text, [("", "must be a name such as Doe^John, has separators alone: give one")]
    if attribute.name == "patient_sex" and text not in SEXES:
        return text, [("", "must be M, F or O")]
    said = fault_of(attribute.vr, text)
    return text, [("", said)] if said else []


def _joined(vr: VR, text: str) -> str:
    """Return a name or description with blanks as those of received objects have them, so that a filter finds both."""
    if vr not in (VR.PN, VR.LO):
        return text.strip(" ")
    return " ".join(part for part in re.split("[ \u3000]+", text) if part)


_OF_CODES = (
    ("code_value", VR.SH),
    ("coding_scheme_designator", VR.SH),
    ("code_meaning", VR.LO),
    ("coding_scheme_version", VR.SH),
)


def _code(code: Code) -> tuple[Code, list[Fault]]:
    faults: list[Fault] = []
    kept = {}
    for name, vr in _OF_CODES:
        kept[name] = text = str(getattr(code, name)).strip(" ")
        said = (
            fault_of(vr, text) if text else None if name == "coding_scheme_version" else "is needed: give it"
        )
        if said:
            faults.append((f".{name}", said))
    return Code(**kept), faults


LONGEST_SORT_NAME = 128
"""Characters of a name by which rows are sorted: an index of PostgreSQL takes 2,700 bytes."""


def derived(values: Mapping[str, object]) -> Values:
    """Return what is made of an item's values to find and sort it by."""

    def text(name: str) -> str:
        return str(values[name])

    def texts(name: str) -> list[str]:
        found = values[name]
        assert isinstance(found, tuple), "of many values there is a tuple"
        return [str(one) for one in found]

    name = name_text(*text("patient_name").split("="))
    said = search_text(
        *(text(n) for n in _SEARCHED),
        *texts("scheduled_station_ae_title"),
        *texts("scheduled_station_name"),
    )
    time = text("scheduled_procedure_step_start_time")
    start = text("scheduled_procedure_step_start_date") + time[:6].ljust(6, "0") + time[6:]
    return {
        "scheduled_start": start,
        "name_text": name,
        "performer_text": name_text(*text("scheduled_performing_physician_name").split("=")),
        "sort_name": name[:LONGEST_SORT_NAME],
        "search_text": said,
    }


_SEARCHED = (
    *(
        "patient_id",
        "patient_name",
        "accession_number",
        "scheduled_procedure_step_id",
        "requested_procedure_id",
    ),
    *("scheduled_procedure_step_description", "requested_procedure_description", "modality"),
    *("scheduled_procedure_step_location", "scheduled_performing_physician_name", "requesting_physician"),
    *("referring_physician_name", "admission_id"),
)
