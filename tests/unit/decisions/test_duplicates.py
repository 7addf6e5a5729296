"""What an arrival is, compared with what the index has."""

from __future__ import annotations

import pytest

from aegate_core.decisions.duplicates import ConflictKind, Content, Judgement, Outcome, came_back, judge

EXPLICIT, JPEG = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.50"
NEW = Content("a2", "aa", EXPLICIT)


@pytest.mark.parametrize(
    ("current", "elsewhere", "expected"),
    [
        (None, None, Judgement(Outcome.NEW)),
        (Content("a1", "aa", EXPLICIT), None, Judgement(Outcome.DUPLICATE, None, "a1")),
        (Content("a1", "aa", EXPLICIT), "b1", Judgement(Outcome.DUPLICATE, None, "a1")),
        (
            Content("a1", "bb", EXPLICIT),
            None,
            Judgement(Outcome.CONFLICT, ConflictKind.SAME_UID_OTHER_CONTENT, "a1"),
        ),
        (
            Content("a1", "aa", JPEG),
            None,
            Judgement(Outcome.CONFLICT, ConflictKind.SAME_UID_OTHER_CONTENT, "a1"),
        ),
        (None, "b1", Judgement(Outcome.CONFLICT, ConflictKind.SAME_UID_OTHER_STUDY, "b1")),
    ],
)
def test_arrival_is_judged(current: Content | None, elsewhere: str | None, expected: Judgement) -> None:
    assert judge(NEW, current, elsewhere) == expected


@pytest.mark.parametrize(
    ("systems", "sent_from", "expected"),
    [
        ((), (), False),
        ((), ("ct1",), False),
        ((), ("ct2",), True),
        ((), ("ct1", "ct2"), True),
        (("PACS",), (), False),
        (("PACS", "aegate"), (), True),
    ],
)
def test_own_object_is_known_when_it_comes_back(
    systems: tuple[str, ...], sent_from: tuple[str, ...], expected: bool
) -> None:
    assert came_back("ct1", systems, sent_from) is expected
