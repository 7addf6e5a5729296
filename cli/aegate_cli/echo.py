"""`aegate echo`: does a DICOM peer answer?"""

from __future__ import annotations

import time
from typing import Annotated

import typer

from aegate_cli.peer_options import Called, Calling, Folder, Timeout


def echo(  # noqa: PLR0913 - a command has the options that people need
    where: Annotated[
        str, typer.Argument(metavar="HOST|AE", help="Host or address; or an AE's name with --in.")
    ],
    port: Annotated[int | None, typer.Argument(metavar="[PORT]", help="The peer's DICOM port.")] = None,
    calling: Calling = "AEGATE",
    called: Called = None,
    folder: Folder = None,
    timeout_s: Timeout = 10.0,
) -> None:
    """Send a C-ECHO: exit code 0 when it is answered with success, 1 when not, 2 when the call itself is wrong.

    Example: [bold]aegate echo 10.1.2.3 104 --calling AEGATE --called PACS[/bold]

    Example: [bold]aegate echo pacs --in examples/hospital[/bold]
    """
    from aegate_core.dicom.without_pixels import leave_pixel_libraries_out

    leave_pixel_libraries_out()
    from aegate_cli.peer_options import parse_title, resolve_peer
    from aegate_core.errors import PeerError
    from aegate_scu import send

    host, number, called_title = resolve_peer(where, port, called, folder)
    remote = send.Remote(
        host, number, called_title, parse_title(calling, "--calling"), timeout_s, timeout_s, timeout_s
    )
    started = time.monotonic()
    try:
        status = send.echo(remote)
    except PeerError as error:
        typer.echo(f"aegate: {error.message}", err=True)
        raise typer.Exit(1) from error
    took_ms = (time.monotonic() - started) * 1000
    typer.echo(f"{called_title} at {host}:{number} answered 0x{status:04X} in {took_ms:.0f} ms")
    raise typer.Exit(0 if status == 0 else 1)
