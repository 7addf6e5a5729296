"""`aegate fsck`: is every acknowledged image there, unchanged, known, and on its way?"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from aegate_cli.data_options import Data, DatabaseURL
from aegate_cli.output import Output
from aegate_cli.progress import progress

if TYPE_CHECKING:
    from aegate_core.services.fsck import Finding, Summary
    from aegate_core.settings import DataFolder

SOUND, DAMAGED = 0, 1
SETTLED_AFTER = timedelta(hours=1)
"""By feel: an indexer writes a row a second after its blob, and longer where the database is away in between."""
PASSES = 3
"""Mending may bring up what was hidden behind it: a study is counted from its series. Checked again so often."""


def fsck(  # noqa: PLR0913 - a command has the options that people need
    data: Data = None,
    database: DatabaseURL = None,
    mend: Annotated[
        bool, typer.Option("--repair", help="Mend what loses nothing; `aegate up` must be stopped.")
    ] = False,
    digests: Annotated[
        bool, typer.Option("--digests/--no-digests", help="Read every image, or compare sizes only.")
    ] = True,
    settled: Annotated[
        int | None,
        typer.Option(
            "--settled",
            min=0,
            help="Leave a blob without a row alone for so many minutes. [default: 60 with PostgreSQL, else 0]",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Output, typer.Option("--output", "-o", help="For people, or one JSON object.")
    ] = Output.TEXT,
) -> None:
    """Check that files and rows agree: every image is there with its digest, every counter is right.

    Changes nothing, and may run beside `aegate up`. With --repair it says each thing that it mends; what it
    cannot explain becomes a quarantined object. Images waiting to be indexed are no damage. With PostgreSQL
    indexers may run on other machines, whose spools are not seen here: a blob that was put within the hour and
    has no row yet is looked at by the next check.

    Exit codes: 0 all is sound, or was mended; 1 something is wrong; 2 it could not be checked.

    Example: [bold]aegate fsck[/bold]

    Example: [bold]aegate fsck --data /srv/aegate --repair[/bold]
    """
    from aegate_core.dicom.without_pixels import leave_pixel_libraries_out

    leave_pixel_libraries_out()
    from aegate_cli.data_folder import existing_database, hold_data_folder, open_data_folder
    from aegate_core.database import ensure_schema

    os.nice(10)  # those who send and wait come first
    folder = open_data_folder(data)
    url = existing_database(folder, database)
    asyncio.run(ensure_schema(url))
    judge = Judge(url, folder, _settled_after(url, settled))
    if mend:
        with hold_data_folder(folder.root):
            left, mended, summary = asyncio.run(_check_and_mend(judge, digests))
    else:
        left, summary = asyncio.run(_check(judge, digests))
        mended = []
    typer.echo(_as_json(left, mended, summary) if output is Output.JSON else _as_text(left, mended, summary))
    raise typer.Exit(DAMAGED if left else SOUND)


@dataclass(frozen=True, slots=True)
class Judge:
    """What is checked, and how long a blob without a row is left alone."""

    url: str
    folder: DataFolder
    settled_after: timedelta


def _settled_after(url: str, minutes: int | None) -> timedelta:
    """Return what was given; else an hour, and nothing where everybody who writes has the spool that is here."""
    if minutes is None:
        return timedelta(0) if url.startswith("sqlite://") else SETTLED_AFTER
    return timedelta(minutes=minutes)


async def _check(judge: Judge, digests: bool) -> tuple[list[Finding], Summary]:
    from aegate_core.database import open_database
    from aegate_core.services.fsck import Look, Summary, check

    summary = Summary()
    async with open_database(judge.url) as db:
        with progress() as show:
            checking = check(
                db,
                judge.folder,
                summary,
                look=Look(digests, judge.settled_after),
                report=lambda seen: show("checking", seen.done_bytes, seen.total_bytes),
            )
            found = [f async for f in checking]
    return found, summary


async def _check_and_mend(judge: Judge, digests: bool) -> tuple[list[Finding], list[Finding], Summary]:
    """Return what is left, what was mended, and what was looked at in the last check."""
    from aegate_core.database import open_database
    from aegate_core.services.fsck import repair
    from aegate_core.services.ownership import must_be_ours
    from aegate_core.stores.blobs import open_blobs

    async with open_database(judge.url) as db:
        await must_be_ours(db, open_blobs(judge.folder))
    mended: list[Finding] = []
    left, summary = await _check(judge, digests)
    for _ in range(PASSES):
        mending = [finding for finding in left if finding.is_repairable]
        if not mending:
            break
        async with open_database(judge.url) as db:
            mended += [f for f in mending if await repair(db, judge.folder, f, now=await db.time())]
        left, summary = await _check(judge, digests=False)
    return left, mended, summary


def _as_text(left: Sequence[Finding], mended: Sequence[Finding], summary: Summary) -> str:
    from aegate_core.services.fsck import REPAIRS

    lines = [f"mended  {f.kind.value}  {f.subject}: {f.message}: {REPAIRS[f.kind]}" for f in mended]
    for finding in left:
        step = f" (--repair: {REPAIRS[finding.kind]})" if finding.is_repairable else ""
        lines.append(f"WRONG   {finding.kind.value}  {finding.subject}: {finding.message}{step}")
    lines.append(
        f"{summary.arrivals} images of {summary.size_bytes} bytes and {summary.blobs} blobs looked at; "
        f"{summary.spooled} wait to be indexed; {summary.unsettled} put lately and without a row yet; "
        f"{summary.left_over} left-overs for the next sweep; "
        f"{summary.to_delete} files for `aegate retention` to delete; "
        f"{len(mended)} mended, {len(left)} wrong"
    )
    return "\n".join(lines)


def _as_json(left: Sequence[Finding], mended: Sequence[Finding], summary: Summary) -> str:
    def of(findings: Sequence[Finding]) -> list[dict[str, object]]:
        return [
            {"kind": f.kind.value, "subject": f.subject, "message": f.message, "repairable": f.is_repairable}
            for f in findings
        ]

    return json.dumps({"wrong": of(left), "mended": of(mended), "summary": asdict(summary)}, indent=2)
