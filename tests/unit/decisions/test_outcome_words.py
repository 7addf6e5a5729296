"""Every status a peer may answer is told in words that agree with what becomes of the instance."""

from __future__ import annotations

import pytest

from aegate_core.decisions.moving import OUR_FAULTS
from aegate_core.decisions.outcome_words import explain_outcome, explain_status
from aegate_core.decisions.retry import Verdict, judge_status


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (0x0000, "stored"),
        (0x0111, "the receiver has this image already (PS3.7 C.5.6)"),
        (0x0122, "given up alone"),
        (0x0124, "we are not authorised"),
        (0xA700, "out of resources"),
        (0xA7FE, "out of resources"),
        (0xA900, "does not match its SOP class"),
        (0xA9FF, "does not match its SOP class"),
        (0xB000, "coercion"),
        (0xB006, "left elements out"),
        (0xB007, "stored, though the data set does not match its SOP class"),
        (0xB123, "a warning of the receiver's own"),
        (0xC000, "cannot understand"),
        (0xC123, "cannot understand"),
        (0xD00D, "a failure that the Standard does not name"),
    ],
)
def test_a_status_is_told_by_the_standards_meaning(status: int, told: str) -> None:
    assert told in explain_status(status)


def test_what_is_said_to_come_next_is_what_is_decided() -> None:
    said = {
        Verdict.REFUSED: "given up alone; mend",
        Verdict.SUSPECT: "3 times in all",
        Verdict.TROUBLE: "costs no try",
    }
    said[Verdict.REJECTED] = "allow our title"
    for status in range(0x10000):
        verdict = judge_status(status)
        text = explain_status(status)
        if verdict in (Verdict.STORED, Verdict.WARNING):
            assert ";" not in text
        else:
            assert said[verdict] in text, hex(status)
            assert not text.startswith("stored"), hex(status)


def test_without_a_status_the_code_is_told() -> None:
    assert explain_outcome(None, None) is None
    assert explain_outcome(0xA700, "STATUS_A700") == explain_status(0xA700)
    assert "accepts neither" in (explain_outcome(None, "NO_CONTEXT") or "")
    assert "broke on it 3 times" in (explain_outcome(None, "POISON") or "")
    assert "the code says why" in (explain_outcome(None, "UNHEARD_OF") or "")
    for code, (what, _) in OUR_FAULTS.items():
        assert (explain_outcome(0x0000, code) or "").startswith(what)
