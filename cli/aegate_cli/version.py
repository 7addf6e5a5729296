"""`aegate version`."""

from __future__ import annotations

import platform
from importlib import metadata

import typer

SHOWN = ("pydicom", "pynetdicom", "strawberry-graphql", "tortoise-orm")


def version() -> None:
    """Print the versions of aegate and of what it stands on.

    Example: [bold]aegate version[/bold]
    """
    typer.echo(f"aegate {metadata.version('aegate-cli')} (Python {platform.python_version()})")
    for name in SHOWN:
        typer.echo(f"{name} {metadata.version(name)}")
