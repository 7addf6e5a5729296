"""`aegate retention`: remove what may go by age, or say what would."""

from __future__ import annotations

import asyncio
import json
import os
from typing import TYPE_CHECKING, Annotated

import typer

from aegate_cli.data_options import Data, DatabaseURL
from aegate_cli.output import Output

if TYPE_CHECKING:
    from aegate_core.services.retention import Removed, Report
    from aegate_core.settings import DataFolder


def retention(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing, say what would go.")] = False,
    data: Data = None,
    database: DatabaseURL = None,
    output: Annotated[
        Output, typer.Option("--output", "-o", help="For people, or one JSON object.")
    ] = Output.TEXT,
) -> None:
    """Remove images and finished queue items that are older than their patient partition keeps them.

    The workers of `aegate up` do the same once an hour. Without spec.retention.images.days every image is kept;
    what a queue item, a hold, a close or a conflict still wants stays whatever its age. What is known of removed
    images stays: they are found as before. An interrupted run is finished by the next one.

    Example: [bold]aegate retention --dry-run[/bold]

    Example: [bold]aegate retention --data /srv/aegate --output json[/bold]
    """
    from aegate_core.dicom.without_pixels import leave_pixel_libraries_out

    leave_pixel_libraries_out()
    from aegate_cli.data_folder import existing_database, open_data_folder
    from aegate_core.database import ensure_schema

    os.nice(10)  # those who send and wait come first
    folder = open_data_folder(data)
    url = existing_database(folder, database)
    asyncio.run(ensure_schema(url))
    report = asyncio.run(_run(url, folder, dry_run))
    typer.echo(_as_json(report, dry_run) if output is Output.JSON else _as_text(report, dry_run))


async def _run(url: str, folder: DataFolder, dry_run: bool) -> Report:
    from aegate_core.database import open_database
    from aegate_core.services.retention import retain

    async with open_database(url) as db:
        return await retain(db, folder, now=await db.time(), dry_run=dry_run)


def _as_text(report: Report, dry_run: bool) -> str:
    from aegate_core.decisions.retention import KEPT_BECAUSE

    verb = "would be removed" if dry_run else "removed"
    lines = []
    for partition, removed in sorted(report.partitions.items()):
        lines.append(
            f"{partition}: {removed.studies} studies with {removed.images} images of {removed.size_bytes} bytes and "
            f"{removed.deliveries} finished queue items {verb}"
        )
        lines += [f"  kept: {n} studies  {k}  {KEPT_BECAUSE[k]}" for k, n in sorted(removed.kept.items())]
    for partition in report.audit_days:
        lines.append(f"{partition}: {AUDIT_STAYS}")
    if report.left_over:
        lines.append(f"{report.left_over} files that an interrupted run had left {verb}")
    return "\n".join(lines or ["nothing is older than it is kept"])


AUDIT_STAYS = (
    "retention.audit.days is set, and nothing is removed by it: audit_event is append-only by a trigger; export the "
    "old rows and let the owner of the database delete them without it"
)


def _as_json(report: Report, dry_run: bool) -> str:
    return json.dumps(
        {
            "dryRun": dry_run,
            "partitions": {key: _values(removed) for key, removed in sorted(report.partitions.items())},
            "leftOver": report.left_over,
            "auditKept": list(report.audit_days),
        },
        indent=2,
    )


def _values(removed: Removed) -> dict[str, object]:
    return {
        "studies": removed.studies,
        "images": removed.images,
        "bytes": removed.size_bytes,
        "queueItems": removed.deliveries,
        "kept": {keep.value: n for keep, n in sorted(removed.kept.items())},
    }
