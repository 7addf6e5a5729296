"""`aegate backup` and `aegate restore`: images, index and what is not indexed yet, beside a running `aegate up`."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aegate_cli.data_options import Data, DatabaseURL

if TYPE_CHECKING:
    from aegate_core.services.backup import Made, Restored
    from aegate_core.settings import DataFolder

DONE, INCOMPLETE = 0, 1

POSTGRES = (
    "aegate backup copies an index in SQLite, got one in PostgreSQL: stop `aegate up`, or see that no retention runs, "
    "then run pg_dump first and copy the folder blobs after it; in that order every row has its image"
)


def backup(
    target: Annotated[
        Path, typer.Argument(metavar="TARGET", help="Empty, or the folder of an earlier backup.")
    ],
    data: Data = None,
    database: DatabaseURL = None,
) -> None:
    """Back up images, index and spool into TARGET; `aegate up` may run.

    All that was acknowledged before it began is in it. An earlier backup in TARGET is replaced at the very end, and
    only images that came since are copied (linked on the same file system). Holds patient data; tokens and YAML files
    are not in it.

    Exit codes: 0 done; 1 done, but images of the index were missing already (see `aegate fsck`); 2 refused.

    Example: [bold]aegate backup /mnt/backup/aegate[/bold]
    """
    from aegate_cli.data_folder import existing_database, open_data_folder
    from aegate_core.database import ensure_schema
    from aegate_core.errors import InvalidInput

    os.nice(10)  # those who send and wait come first
    folder = open_data_folder(data)
    url = existing_database(folder, database)
    if not url.startswith("sqlite://"):
        raise InvalidInput(POSTGRES)
    target = target.absolute()
    if target.resolve().is_relative_to(folder.root.resolve()):
        raise InvalidInput(f"TARGET must lie outside of the data folder, got {target}: choose another")
    asyncio.run(ensure_schema(url))
    made = asyncio.run(_make(url, folder, target))
    typer.echo(_as_text(made, target))
    raise typer.Exit(INCOMPLETE if made.manifest.missing else DONE)


def restore(
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="The folder of a backup.")],
    data: Annotated[Path, typer.Option(metavar="D", help="The new data folder: empty, or not there.")],
) -> None:
    """Restore a backup into an empty folder, every image compared with its digest.

    Refused, with nothing left behind: a backup that is half made, damaged or of a newer version, a folder that is not
    empty. Queue items that were not finished when the backup was made go out once `aegate up` runs on the folder.

    Example: [bold]aegate restore /mnt/backup/aegate --data /srv/aegate[/bold]
    """
    from aegate_cli.data_folder import FORMAT
    from aegate_core.services.backup import restore_backup

    root = data.absolute()
    done = asyncio.run(restore_backup(target.absolute(), root, data_format=FORMAT))
    typer.echo(_restored_text(done, root))
    raise typer.Exit(INCOMPLETE if done.manifest.missing else DONE)


async def _make(url: str, folder: DataFolder, target: Path) -> Made:
    from aegate_cli.data_folder import FORMAT
    from aegate_core.database import open_database
    from aegate_core.services.backup import make_backup

    async with open_database(url) as db:
        return await make_backup(db, folder, target, data_format=FORMAT, now=datetime.now(UTC))


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
