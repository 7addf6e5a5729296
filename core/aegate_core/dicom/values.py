"""What a value that a person enters must be to stand in a data set, by its value representation (PS3.5 6.2).

Stricter than what is taken from devices: what they send has happened, what is entered can still be put right.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import date
from enum import StrEnum

from aegate_core.dicom.ae_title import AETitle
from aegate_core.errors import InvalidValue


class VR(StrEnum):
    """Value representations that are entered by hand. US is a number, SQ a list of codes."""

    AE = "AE"
    CS = "CS"
    DA = "DA"
    DS = "DS"
    LO = "LO"
    LT = "LT"
    PN = "PN"
    SH = "SH"
    SQ = "SQ"
    TM = "TM"
    UI = "UI"
    US = "US"


LONGEST = {VR.SH: 16, VR.LO: 64, VR.LT: 10_240}
LONGEST_GROUP = 64
"""Of a person's name, which has up to three groups: alphabetic, ideographic, phonetic (PS3.5 6.2.1)."""

_FORMS = {
    VR.CS: (r"[A-Z0-9_ ]{1,16}", "must be 1 to 16 of A-Z, 0-9, _ and blanks (CS)"),
    VR.DS: (
        r"(?=.{1,16}\Z)[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?",
        "must be a decimal number of at most 16 characters (DS), such as 72.5",
    ),
    VR.TM: (
        r"([01][0-9]|2[0-3])([0-5][0-9](([0-5][0-9]|60)(\.[0-9]{1,6})?)?)?",
        "must be a time as HHMMSS (TM), such as 143000; what is not known may be left out at its end",
    ),
    VR.UI: (
        r"(?=.{1,64}\Z)(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))*",
        "must be at most 64 digits and dots, no part with a leading zero (UI), such as 1.2.826.0.1",
    ),
}
_LINES = frozenset("\t\n\f\r")


def fault_of(vr: VR, value: str) -> str | None:
    """Return what is wrong with a text as a value of ``vr``, without the text itself; None: nothing is.

    >>> fault_of(VR.DA, "20260230")
    'must be a date as YYYYMMDD (DA), such as 20260131'
    """
    if vr in _FORMS:
        form, said = _FORMS[vr]
        return None if re.fullmatch(form, value) else said
    if vr is VR.DA:
        return None if _is_date(value) else "must be a date as YYYYMMDD (DA), such as 20260131"
    if vr is VR.AE:
        return _title_fault(value)
    if vr is VR.PN:
        return _name_fault(value)
    return _text_fault(vr, value)


def _is_date(value: str) -> bool:
    if not re.fullmatch(r"[0-9]{8}", value):
        return False
    try:
        date(int(value[:4]), int(value[4:6]), int(value[6:]))
    except ValueError:
        return False
    return True


def _title_fault(value: str) -> str | None:
    try:
        AETitle(value)
    except InvalidValue as error:
        return error.message.removeprefix("AE title ")
    return None


def _name_fault(value: str) -> str | None:
    groups = value.split("=")
    if len(groups) > 3:
        return (
            "may have three groups with = between them (PN), as written in letters, ideographs and as spoken"
        )
    if any(len(group) > LONGEST_GROUP or group.count("^") > 4 for group in groups):
        return f"may have {LONGEST_GROUP} characters and five parts with ^ between them (PN), as Family^Given"
    return _unfit(value)


def _text_fault(vr: VR, value: str) -> str | None:
    if len(value) > LONGEST[vr]:
        return f"may have {LONGEST[vr]} characters ({vr}), has {len(value)}: shorten it"
    return _unfit("".join(c for c in value if c not in _LINES and c != "\\") if vr is VR.LT else value)


def _unfit(value: str) -> str | None:
    if "\\" in value or any(unicodedata.category(c) in ("Cc", "Cs") for c in value):
        return "may hold no backslash and no control characters (PS3.5 6.2): leave them out"
    return None
