"""`aegate backup` and `aegate restore`: images, index and what is not indexed yet, beside a running `aegate up`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aegate_cli.data_options import Data, DatabaseURL
from aegate_cli.progress import Show, progress

if TYPE_CHECKING:
    from aegate_core.services.backup import Made, Progress, Restored
    from aegate_core.settings import DataFolder

DONE, INCOMPLETE = 0, 1


def backup(
    target: Annotated[
        Path,
        typer.Argument(metavar="TARGET", readable=False, help="Empty, or the folder of an earlier backup."),
    ],
    data: Data = None,
    database: DatabaseURL = None,
) -> None:
    """Back up images, index and spool into TARGET; `aegate up` may run.

    All that was acknowledged before it began is in it. An earlier backup in TARGET is replaced at the very end, and
    only images that came since are copied (linked on the same file system). An index in PostgreSQL is dumped by its own
    pg_dump. TARGET holds patient data and is for its owner alone; tokens and YAML files are not in it.

    Exit codes: 0 done; 1 done, but images of the index were missing already (see `aegate fsck`); 2 refused.

    Example: [bold]aegate backup /mnt/backup/aegate[/bold]

    Example: [bold]aegate backup /mnt/backup/aegate --data /srv/aegate --database postgres://aegate@db/aegate[/bold]
    """
    from aegate_core.dicom.without_pixels import leave_pixel_libraries_out

    leave_pixel_libraries_out()
    from aegate_cli.data_folder import existing_database, open_data_folder
    from aegate_core.database import ensure_schema
    from aegate_core.errors import InvalidInput

    os.nice(10)  # those who send and wait come first
    folder = open_data_folder(data)
    url = existing_database(folder, database)
    target = target.absolute()
    if target.resolve().is_relative_to(folder.root.resolve()):
        raise InvalidInput(f"TARGET must lie outside of the data folder, got {target}: choose another")
    asyncio.run(ensure_schema(url))
    made = asyncio.run(_make(url, folder, target))
    typer.echo(_as_text(made, target))
    raise typer.Exit(INCOMPLETE if made.manifest.missing else DONE)


def restore(
    target: Annotated[Path, typer.Argument(metavar="TARGET", readable=False, help="The folder of a backup.")],
    data: Annotated[
        Path, typer.Option(metavar="D", readable=False, help="The new data folder: empty, or not there.")
    ],
    database: Annotated[
        str | None, typer.Option(metavar="URL", help="An empty database, for an index in PostgreSQL.")
    ] = None,
) -> None:
    """Restore a backup into an empty folder, every image compared with its digest.

    Refused, with nothing left behind: a backup that is half made, damaged or of a newer version, a folder or a database
    that is not empty, another kind of database. One that was killed is begun anew by the next one into its folder; a
    database that it had filled by then must be made anew, too. Queue items that were not finished when the backup was
    made go out once `aegate up` runs on the folder.

    Example: [bold]aegate restore /mnt/backup/aegate --data /srv/aegate[/bold]

    Example: [bold]aegate restore /mnt/backup/aegate --data /srv/aegate --database postgres://aegate@db/new[/bold]
    """
    from aegate_core.dicom.without_pixels import leave_pixel_libraries_out

    leave_pixel_libraries_out()
    root = data.absolute()
    done = asyncio.run(_restore(target.absolute(), root, database))
    typer.echo(_restored_text(done, root))
    raise typer.Exit(INCOMPLETE if done.manifest.missing else DONE)


async def _make(url: str, folder: DataFolder, target: Path) -> Made:
    from aegate_cli.data_folder import FORMAT
    from aegate_core.database import open_database
    from aegate_core.services.backup import Job, make_backup

    now = datetime.now(UTC)
    async with open_database(url) as db:
        with progress() as show:
            return await make_backup(Job(db, folder, target, FORMAT, now, _shown(show)))


async def _restore(target: Path, root: Path, database: str | None) -> Restored:
    from aegate_cli.data_folder import FORMAT
    from aegate_core.services.backup import restore_backup
    from aegate_core.settings import data_folder, database_url

    into = data_folder(os.environ, root)
    url = database_url({"AEGATE_DATABASE_URL": database}, into) if database else None
    with progress() as show:
        return await restore_backup(target, into, database=url, data_format=FORMAT, report=_shown(show))


def _shown(show: Show) -> Callable[[Progress], None]:
    return lambda seen: show(seen.what, seen.done_bytes, seen.total_bytes)


def _as_text(made: Made, target: Path) -> str:
    said = made.manifest
    lines = [
        f"{said.images} images of {said.size_bytes} bytes, {made.new_images} of them new in {target}; "
        f"{said.spooled} not indexed yet; {made.dropped} removed that are not wanted any more"
    ]
    if said.missing:
        lines.append(
            f"{len(said.missing)} images of the index were not there to be backed up: see `aegate fsck`"
        )
    return "\n".join(lines)


def _restored_text(done: Restored, root: Path) -> str:
    said = done.manifest
    return (
        f"{said.images} images of {said.size_bytes} bytes and {said.spooled} not indexed yet restored into {root}, as "
        f"of {said.made_at}; {len(said.missing)} were missing in the backup; "
        f"{done.unfinished} queue items go out once `aegate up` runs on it"
    )
