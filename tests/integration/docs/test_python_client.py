"""The Python example that asks and changes, run as its reader runs it."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from tests.integration.api.serving import Served
from tests.integration.docs.hospital import hospital
from tests.integration.docs.pages import ROOT

EXAMPLE = ROOT / "examples" / "api" / "hold_and_tell.py"


async def run(served: Served, token: str, *words: str) -> tuple[int | None, list[str]]:
    """Return how it ended, and the lines that it wrote, to whichever stream."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        EXAMPLE,
        served.http,
        *words,
        env={**os.environ, "AEGATE_TOKEN": token},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await child.communicate()
    return child.returncode, out.decode().splitlines()


async def test_it_holds_what_waits_tells_what_is_refused_and_lets_go(
    database_url: str, tmp_path: Path
) -> None:
    async with hospital(database_url, tmp_path) as (served, ann):
        code, lines = await run(served, ann, "default/pacs", "x" * 257)
        assert (code, lines[-1]) == (
            0,
            "refused: INVALID_VALUE: reason: may have 256 characters and no NUL: shorten it",
        )
        code, lines = await run(served, ann, "default/pacs", "the archive is being moved")
        assert (code, lines[-1]) == (0, "3 changed, now HELD; 0 left as they were")
        code, lines = await run(served, ann, "default/pacs", "moved", "--resume")
        assert (code, lines) == (
            0,
            [
                "Study of 1 images: held by ann: the archive is being moved",
                "Study of 3 images: held by ann: the archive is being moved",
                "Image of 1 images: held by ann: the archive is being moved",
                "3 changed, now SCHEDULED; 0 left as they were",
            ],
        )
        code, lines = await run(served, served.api.editor, "default/pacs", "no")
        assert code == 1
        assert lines[0].startswith("FORBIDDEN: ")
