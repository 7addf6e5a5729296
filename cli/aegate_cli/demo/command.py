"""`aegate demo`: what `make demo` runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def demo(
    hospital: Annotated[
        Path | None,
        typer.Argument(metavar="[DIR]", help="The example hospital. (default: examples/hospital)"),
    ] = None,
    stay: Annotated[
        bool | None, typer.Option("--stay/--exit", help="Stay up at the end. (default: on a terminal)")
    ] = None,
) -> None:
    """A small hospital on this machine: a CT and an ultrasound send, aegate routes, a PACS and a workstation receive.

    At the end every instance at the far ends is compared with what was sent: exit code 0 when all is there, 1 when
    something is missing, with its name. On a terminal it stays up for you to try things.

    Example: [bold]aegate demo[/bold]
    """
    from aegate_cli.demo.play import DemoOptions, play

    raise typer.Exit(play(DemoOptions(hospital, sys.stdout.isatty() if stay is None else stay)))
