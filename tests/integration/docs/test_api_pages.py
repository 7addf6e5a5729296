"""Every operation of docs/api does what its page says, over HTTP, on both databases."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.docs.hospital import hospital
from tests.integration.docs.pages import ROOT, Names, Step, steps

PAGES = {path.stem: path for path in sorted((ROOT / "docs" / "api").glob("*.md")) if list(steps(path))}


async def ask(
    client: httpx.AsyncClient, url: str, step: Step, variables: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the body of the answer; of a subscription its first message."""
    body = {"query": step.operation, "variables": variables}
    if not re.search(r"^subscription\b", step.operation, re.MULTILINE):
        answer: dict[str, Any] = (await client.post(url, json=body)).json()
        return answer
    async with client.stream("POST", url, json=body, headers={"Accept": "text/event-stream"}) as stream:
        async for line in stream.aiter_lines():
            if line.startswith("data: "):
                return dict(json.loads(line.removeprefix("data: ")))
    raise AssertionError("the stream ended without a message")


@pytest.mark.parametrize("page", PAGES)
async def test_operations_of_a_page_answer_as_it_says(page: str, database_url: str, tmp_path: Path) -> None:
    names = Names()
    async with hospital(database_url, tmp_path) as (served, token):
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(headers=headers, timeout=60) as client:
            for step in steps(PAGES[page]):
                came = await ask(client, served.http, step, names.in_this_run(step.variables))
                came.pop("extensions", None)
                assert step.answer is not None, f"{page}: say what this answers:\n{step.operation}"
                assert names.differences(step.answer, came) == [], step.operation


def test_there_are_pages_for_the_tasks() -> None:
    assert PAGES.keys() >= {
        "README",
        "find-a-study",
        "why-is-it-not-there",
        "queue",
        "destinations",
        "send",
        "application-entities",
        "dashboard",
        "audit",
        "live",
    }
