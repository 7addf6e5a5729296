"""Whoever waits for what a device says gets an answer whatever happens, and never the text of a fault."""

from __future__ import annotations

import pytest

from aegate_core.errors import DatabaseUnavailable, InvalidInput
from aegate_scu.verifying import in_any_case


async def answers() -> dict[str, object]:
    return {"echoMs": 1, "error": None}


async def fails(error: Exception) -> dict[str, object]:
    raise error


async def test_what_was_found_out_is_the_answer() -> None:
    assert await in_any_case("default/pacs", answers()) == {"echoMs": 1, "error": None}


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (InvalidInput("no such file"), "INVALID_INPUT: no such file"),
        (DatabaseUnavailable("it is away"), "DATABASE_UNAVAILABLE: it is away"),
    ],
)
async def test_what_stands_in_the_way_is_the_answer(error: Exception, said: str) -> None:
    assert await in_any_case("default/pacs", fails(error)) == {"error": said}


async def test_a_fault_of_ours_is_the_answer_and_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    answer = await in_any_case("default/pacs", fails(ValueError("what a library quotes")))
    assert answer == {
        "error": "INTERNAL: the worker failed to ask it: look for verification.failed in its log"
    }
    (fields,) = [record.__dict__["event_fields"] for record in caplog.records]
    assert fields["destination"] == "default/pacs"
    assert fields["error"].startswith("ValueError at test_verifying.py:")
