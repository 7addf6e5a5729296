"""What became of an instance, in words for people: the peer's C-STORE status, or what kept it from giving one.

The meaning of a status is the Standard's (PS3.4 B.2.3 for storage, PS3.7 Annex C for the general ones); what happens
next is what `retry` decides on it.
"""

from __future__ import annotations

from collections.abc import Mapping

from aegate_core.decisions.moving import OUR_FAULTS
from aegate_core.decisions.retry import POISON_BREAKS, SUSPECT_TRIES, Verdict, judge_status

_MEANINGS: Mapping[int, str] = {
    0x0000: "stored",
    0x0105: "no such attribute (PS3.7 C.4.2)",
    0x0106: "an attribute's value is not valid (PS3.7 C.5.2)",
    0x0107: "stored, and some attributes were not taken (PS3.7 C.4.1)",
    0x0110: "processing failed at the receiver, it says no more than that (PS3.7 C.5.21)",
    0x0111: "the receiver has this image already (PS3.7 C.5.6)",
    0x0112: "no such instance at the receiver (PS3.7 C.5.14)",
    0x0115: "an argument's value is not valid (PS3.7 C.5.11)",
    0x0116: "stored, though an attribute's value is out of range (PS3.7 C.4.3)",
    0x0117: "the image's UID breaks the rules (PS3.7 C.5.12)",
    0x0118: "the receiver knows no such kind of image (PS3.7 C.5.16)",
    0x0119: "the receiver has this UID as another kind of image (PS3.7 C.5.7)",
    0x0120: "an attribute that the receiver needs is missing (PS3.7 C.5.13)",
    0x0121: "an attribute that the receiver needs has no value (PS3.7 C.5.13)",
    0x0122: "the receiver does not store this kind of image, its SOP class is not supported (PS3.7 C.5.20)",
    0x0123: "the receiver knows no such action (PS3.7 C.5.15)",
    0x0124: "we are not authorised at the receiver (PS3.7 C.5.22)",
    0x0210: "the receiver thinks that it was sent twice at once, duplicate invocation (PS3.7 C.5.9)",
    0x0211: "the receiver does not know the operation (PS3.7 C.5.23)",
    0x0212: "an argument is of the wrong type for the receiver (PS3.7 C.5.10)",
    0x0213: "the receiver has not the means just now, resource limitation (PS3.7 C.5.24)",
    0xB000: "stored, and the receiver changed data elements in it, coercion (PS3.4 B.2.3)",
    0xB006: "stored, and the receiver left elements out (PS3.4 B.2.3)",
    0xB007: "stored, though the data set does not match its SOP class (PS3.4 B.2.3)",
    0xFE00: "the receiver says that it was cancelled (PS3.7 C.2)",
}

_RANGES: tuple[tuple[int, int, str], ...] = (
    (0xA700, 0xA7FF, "the receiver is out of resources, such as a full disk (PS3.4 B.2.3)"),
    (0xA800, 0xA8FF, "the receiver does not store this kind of image (PS3.4 B.2.3, of earlier editions)"),
    (0xA900, 0xA9FF, "the data set does not match its SOP class (PS3.4 B.2.3)"),
    (0xB000, 0xBFFF, "stored, with a warning of the receiver's own (PS3.4 B.2.3)"),
    (0xC000, 0xCFFF, "the receiver cannot understand the image (PS3.4 B.2.3)"),
)

_NEXT: Mapping[Verdict, str] = {
    Verdict.STORED: "",
    Verdict.WARNING: "",
    Verdict.REFUSED: "sending it again gets the same answer, so it is given up alone; mend the cause, then retry it",
    Verdict.SUSPECT: f"it is tried {SUSPECT_TRIES} times in all, then given up alone",
    Verdict.TROUBLE: "it costs no try, and goes again when the receiver is well",
    Verdict.REJECTED: "it costs no try; let the receiver's administrator allow our title, then it goes by itself",
}

_CODES: Mapping[str, str] = {
    "NO_CONTEXT": "the receiver accepts neither this kind of image nor a transfer syntax that we can send it in; it is "
    "given up alone",
    "TRANSCODING_FAILED": "it cannot be converted into what the receiver accepts: its pixel data cannot be decoded; it "
    "is given up alone",
    "TOO_LARGE": "to convert it would take more memory than a worker may use; it is given up alone",
    "POISON": f"the association broke on it {POISON_BREAKS} times while other images passed; it is given up alone",
    "ASSOCIATION_BROKE": "the association broke while it was being sent; it is sent again",
    "NO_STATUS": "the receiver's answer had no status: that is no success, and it is sent again",
}


def explain_outcome(status: int | None, error_code: str | None) -> str | None:
    """Return what became of an instance, and what comes of that, in one sentence; None where nothing came yet."""
    if error_code is not None and not error_code.startswith("STATUS_"):
        return _explain_code(error_code)
    return None if status is None else explain_status(status)


def explain_status(status: int) -> str:
    """Return what a C-STORE status means, and what comes of it."""
    found = (text for low, high, text in _RANGES if low <= status <= high)
    meaning = _MEANINGS.get(status) or next(found, "a failure that the Standard does not name")
    then = _NEXT[judge_status(status)]
    return f"{meaning}; {then}" if then else meaning


def _explain_code(code: str) -> str:
    if code in OUR_FAULTS:
        what, mend = OUR_FAULTS[code]
        return f"{what}; {mend}, and it goes by itself"
    return _CODES.get(code, "it could not be sent; the code says why, and the history tells more")
