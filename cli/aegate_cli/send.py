"""`aegate send`: files and folders to a DICOM peer, with the peer's status of every instance."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aegate_cli.peer_options import Called, Calling, Folder, Timeout

if TYPE_CHECKING:
    from aegate_scu.send import Outcome


def send(  # noqa: PLR0913 - a command has the options that people need
    where: Annotated[
        str, typer.Argument(metavar="HOST:PORT|AE", help="Where to send; or an AE's name with --in.")
    ],
    paths: Annotated[list[Path], typer.Argument(metavar="PATH…", help="DICOM files, or folders of them.")],
    calling: Calling = "AEGATE",
    called: Called = None,
    folder: Folder = None,
    timeout_s: Timeout = 120.0,
    output_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a file, for programs.")
    ] = False,
) -> None:
    """Send objects as they are, in their own transfer syntax, and print the peer's status of each.

    A file that is not DICOM is named and the rest goes on. Exit codes: 0 all stored; 1 at least one is not; 2 the
    call itself is wrong.

    Example: [bold]aegate send 127.0.0.1:11112 --calling CT_ER --called AEGATE ./study[/bold]

    Example: [bold]aegate send pacs image.dcm --in examples/hospital[/bold]
    """
    from aegate_core.dicom.without_pixels import leave_pixel_libraries_out

    leave_pixel_libraries_out()
    from aegate_cli.peer_options import parse_title, resolve_peer
    from aegate_core.errors import InvalidInput, PeerError
    from aegate_scu.send import Remote, send_files

    host, number, called_title = resolve_peer(where, None, called, folder)
    missing = [path for path in paths if not path.exists()]
    if missing:
        raise InvalidInput(f"PATH must be a file or a folder, got nothing at {missing[0]}: check the path")
    files = list(files_of(paths))
    if not files:
        raise InvalidInput(f"PATH must hold files to send, got an empty folder {paths[0]}: give another")
    remote = Remote(
        host, number, called_title, parse_title(calling, "--calling"),
        min(timeout_s, 30.0), min(timeout_s, 30.0), timeout_s,
    )  # fmt: skip
    seen: list[Outcome] = []
    try:
        for outcome in _with_progress(send_files(files, remote), len(files)):
            seen.append(outcome)
            typer.echo(_as_json(outcome) if output_json else _as_line(outcome), err=False)
    except PeerError as error:
        typer.echo(f"aegate: {error.message}", err=True)
    stored = sum(outcome.is_stored for outcome in seen)
    typer.echo(f"{stored} of {len(files)} stored by {called_title} at {host}:{number}", err=True)
    raise typer.Exit(0 if stored == len(files) else 1)


def files_of(paths: Iterable[Path]) -> Iterator[Path]:
    """Yield the files, and those below the folders in the order of their names; no hidden ones, no DICOMDIR."""
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        for entry in sorted(path.rglob("*")):
            hidden = any(part.startswith(".") for part in entry.relative_to(path).parts)
            if entry.is_file() and not hidden and entry.name != "DICOMDIR":
                yield entry


def _with_progress(outcomes: Iterator[Outcome], total: int) -> Iterator[Outcome]:
    """Show a bar on standard error while it lasts, when that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    with Progress(
        TextColumn("sending"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as progress:
        task = progress.add_task("sending", total=total)
        for outcome in outcomes:
            yield outcome
            progress.advance(task)


def _as_line(outcome: Outcome) -> str:
    status = f"0x{outcome.status:04X}" if outcome.status is not None else "------"
    return f"{status} {outcome.path}" + (f": {outcome.problem}" if outcome.problem else "")


def _as_json(outcome: Outcome) -> str:
    return json.dumps(
        {
            "path": str(outcome.path),
            "sopInstanceUID": outcome.sop_instance_uid,
            "status": outcome.status,
            "stored": outcome.is_stored,
            "problem": outcome.problem,
        }
    )
