"""Values of filters that could never find anything: refused in words that say what was expected.

The surprise: an empty answer looks like the truth. Who asks for what goes to ``pacs`` must not hear that nothing does,
where every AE is called ``namespace/name``. What a device may have written all the same is found with ``matches``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from enum import Enum

from aegate_core.decisions.duplicates import ConflictKind
from aegate_core.resources.conditions import Status
from aegate_core.resources.values import Level
from aegate_core.stores.listing import Op
from aegate_core.stores.text_patterns import has_wildcard
from aegate_graphql_api.errors import RequestRefused

_KEY = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_UID = re.compile(r"[0-9.]{1,64}")
_TIME = re.compile(r"[0-9]+(\.[0-9]*)?")
_ERROR_CODE = re.compile(r"[A-Z][A-Z0-9_]*")
_STATUS = re.compile(r"(0[Xx])?[0-9A-Fa-f]{4}")

_EXACT = (Op.EQ, Op.IN)
_PARTS = (Op.STARTS_WITH, Op.CONTAINS)


def is_key(text: str) -> bool:
    """Whether ``text`` has the form namespace/name.

    >>> is_key("hospital/pacs"), is_key("pacs"), is_key("hospital/PACS")
    (True, False, False)
    """
    return _KEY.fullmatch(text) is not None


def check_value(column: str, op: Op, value: object, *, called: str | None = None) -> None:
    """Raise RequestRefused BAD_FILTER for a value, or one of a list, that no row of ``column`` can have.

    ``called`` is what the caller knows the column as, where that is not its own name.
    """
    fault_of = _FAULTS.get(column)
    if fault_of is None:
        return
    for text in value if isinstance(value, list) else [value]:
        if not isinstance(text, str) or isinstance(text, Enum):
            continue
        if (fault := fault_of(op, text)) is not None:
            raise RequestRefused(
                "BAD_FILTER", f"the filter cannot be used: {called or _shown(column)} {fault}"
            )


def _shown(column: str) -> str:
    """Return a column as the schema calls it.

    >>> _shown("source_ae")
    'sourceAe'
    """
    head, *rest = column.split("_")
    return head + "".join(word.capitalize() for word in rest)


def _key(op: Op, text: str) -> str | None:
    is_whole = op in _EXACT or (op is Op.MATCHES and not has_wildcard(text))
    if not is_whole or is_key(text):
        return None
    got = "a name alone: put its namespace before it" if "/" not in text else "another form: correct it"
    return f"must be namespace/name, such as hospital/pacs, got {got}, or ask with contains"


def _uid(op: Op, text: str) -> str | None:
    if op not in (*_EXACT, *_PARTS) or _UID.fullmatch(text) or (text == "" and op in _PARTS):
        return None
    return "must be digits and dots, such as 1.2.826.0.1, got other characters: leave blanks and quotes out"


def _date(op: Op, text: str) -> str | None:
    if op is Op.MATCHES or text == "":
        return None
    if not (text.isascii() and text.isdigit()) or len(text) > 8:
        return "must be digits, YYYYMMDD such as 20260131, got another form: leave signs and blanks out"
    if op in _EXACT and not _is_day(text):
        return "must be a day, YYYYMMDD such as 20260131, got digits that are none: correct them"
    return None


def _moment(op: Op, text: str) -> str | None:
    if op is Op.MATCHES or text == "" or _TIME.fullmatch(text):
        return None
    return "must be digits, such as 20260131220000 or 220000, got another form: leave signs and blanks out"


def _is_day(text: str) -> bool:
    try:
        return bool(datetime.strptime(text, "%Y%m%d")) and len(text) == 8
    except ValueError:
        return False


def _capitals(op: Op, text: str) -> str | None:
    if op not in _EXACT or text == text.upper():
        return _blanks(op, text)
    return 'is written in capitals, such as "CT", got small letters: write capitals, or ask with matches'


def _blanks(op: Op, text: str) -> str | None:
    if op not in _EXACT or text == " ".join(text.split()):
        return None
    return "is kept without blanks around it, and with one between words, got more: leave them out"


def _name(op: Op, text: str) -> str | None:
    if op not in _EXACT or "/" not in text:
        return _blanks(op, text)
    return "is the name alone, such as ct1, got a slash: namespace is a filter of its own"


def _namespace(op: Op, text: str) -> str | None:
    if op not in _EXACT or "/" not in text:
        return _blanks(op, text)
    return "is the namespace alone, such as hospital, got a slash: name is a filter of its own"


def _error_code(op: Op, text: str) -> str | None:
    if op not in _EXACT:
        return None
    if _STATUS.fullmatch(text):
        return "of a DICOM status is written STATUS_A900, got the status alone: put STATUS_ before it"
    return (
        None
        if _ERROR_CODE.fullmatch(text)
        else "is written as in an answer, such as STATUS_A900, got another form"
    )


def _requested_by(op: Op, text: str) -> str | None:
    if op not in _EXACT or text == "close" or text.startswith("person:"):
        return None
    if text.startswith("route:") and is_key(text.removeprefix("route:")):
        return None
    return "must be route:namespace/name or person:NAME, got another form: correct it, or ask with contains"


def _action(op: Op, text: str) -> str | None:
    if op not in _EXACT or re.fullmatch(r"[a-z][A-Za-z-]*", text):
        return None
    return "is a name such as holdQueueItems, got another form: take it from an answer"


def _one_of(*values: str) -> Callable[[Op, str], str | None]:
    def fault(op: Op, text: str) -> str | None:
        if op not in _EXACT or text in values:
            return None
        return f"must be one of {', '.join(values)}, got another: choose one"

    return fault


_FAULTS: Mapping[str, Callable[[Op, str], str | None]] = {
    **dict.fromkeys(("destination", "source_ae", "ae", "partition"), _key),
    **dict.fromkeys(
        ("study_instance_uid", "series_instance_uid", "sop_instance_uid", "sop_class_uid", "unit_uid"), _uid
    ),
    **dict.fromkeys(("name", "to"), _name),
    "namespace": _namespace,
    **dict.fromkeys(
        (
            "patient_name",
            "patient_id",
            "accession_number",
            "description",
            "series_number",
            "instance_number",
            "body_part",
            "station_name",
            "location_code",
            "title",
            "node",
        ),
        _blanks,
    ),
    **dict.fromkeys(("study_date", "scheduled_procedure_step_start_date"), _date),
    **dict.fromkeys(("scheduled_procedure_step_start_time", "scheduled_start"), _moment),
    "modality": _capitals,
    "error_code": _error_code,
    "requested_by": _requested_by,
    "action": _action,
    "hold_code": _one_of("PERSON", "PATIENT_MISMATCH", "NEEDS_RECONCILIATION", "DESTINATION_GONE"),
    "kind": _one_of(*(kind.value for kind in ConflictKind)),
    "ability": _one_of("Push", "Print"),
    "level": _one_of(*(level.value for level in Level)),
    "ready": _one_of(*(status.value for status in Status)),
    "outcome": _one_of("DONE", "REFUSED", "FAILED", "INTENT", "UNKNOWN"),
}
"""By the name of a store's column, which is that of the filter's field: what is wrong with a text, or None."""
