"""`aegate sink`: a plain DICOM receiver that writes what it gets into a folder."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated

import typer

from aegate_core.stopping import StopRequest


def sink(  # noqa: PLR0913 - a command has the options that people need
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Where to write what comes, one file an object.")
    ],
    port: Annotated[
        int, typer.Option("--port", "-p", min=0, max=65535, help="0 takes any free one.")
    ] = 11113,
    listen: Annotated[str, typer.Option(metavar="ADDR", help="Address to listen on.")] = "127.0.0.1",
    title: Annotated[str, typer.Option(metavar="AET", help="Its AE title.")] = "SINK",
    calling: Annotated[
        list[str] | None, typer.Option(metavar="AET", help="Who may call; everybody when not given.")
    ] = None,
    delay_ms: Annotated[int, typer.Option(min=0, max=60_000, help="Before each C-STORE is answered.")] = 0,
    refuse_nth: Annotated[
        int | None,
        typer.Option(min=1, help="Answer this C-STORE, counted from 1, with 0xA900: to see what happens."),
    ] = None,
) -> None:
    """Receive like somebody else's PACS: everything, as it comes, into DIR. Until Ctrl-C.

    Example: [bold]aegate sink ./received --port 11113 --title PACS[/bold]
    """
    from aegate_core.dicom.without_pixels import leave_pixel_libraries_out

    leave_pixel_libraries_out()
    from aegate_cli.peer_options import parse_title
    from aegate_scp.sink import Sink, SinkOptions

    options = SinkOptions(
        folder=folder,
        host=listen,
        port=port,
        title=parse_title(title, "--title").value,
        calling_titles=tuple(parse_title(t, "--calling").value for t in calling or ()),
        delay_ms=delay_ms,
        statuses={refuse_nth: 0xA900} if refuse_nth else {},
    )
    stop = StopRequest()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.make())
    with Sink(options) as receiver:
        typer.echo(
            f"{options.title} receives on {listen}:{receiver.port} into {folder}; Ctrl-C stops it", err=True
        )
        shown = 0
        while not stop.wait(0.2):
            received = receiver.received
            for one in received[shown:]:
                typer.echo(f"{one.sop_instance_uid} from {one.calling_title}")
            shown = len(received)
