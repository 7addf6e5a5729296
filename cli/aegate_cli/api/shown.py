"""How answers look: aligned columns for people, JSON for programs, never a control character of a DICOM header."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import typer

from aegate_cli.api.client import Page

_STYLES = {
    "FAILED": "red",
    "HELD": "yellow",
    "RETRY": "yellow",
    "IN_PROGRESS": "cyan",
    "COMPLETED": "green",
    "WARNING": "yellow",
    "False": "red",
}


def print_json(value: object) -> None:
    """Print one JSON document; for a terminal in ASCII, as it would obey some of the other characters."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=sys.stdout.isatty()))


def print_table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows in columns; where no terminal reads it, each row is one line whatever its length."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold", no_wrap=not console.is_terminal)
    for row in rows:
        cells = [printable(value) for value in row]
        table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in cells))
    width = None if console.is_terminal else 10_000
    Console(highlight=False, width=width).print(table)


def print_more(page: Page, what: str, *, is_limited: bool = True) -> None:
    """Say on standard error that there is more than was shown, or nothing."""
    if page.has_more and is_limited:
        of = f" of {page.total}" if page.total else ""
        typer.echo(
            f"{len(page.nodes)}{of} {what} shown, there are more: narrow it, or raise --limit (1000 at most)",
            err=True,
        )
    elif not page.nodes:
        typer.echo(f"no {what} found", err=True)


def printable(value: object) -> str:
    """Return a value as text on one line; what a terminal would obey is shown as ?.

    >>> printable("Miller^Ann\\x1b[2J"), printable(None), printable(["CT", "SR"]), printable(True)
    ('Miller^Ann?[2J', '', 'CT,SR', 'yes')
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ",".join(printable(item) for item in value)
    return "".join(c if c.isprintable() else "?" for c in str(value))


def moment(value: object) -> str:
    """Return a time of the API in this machine's time zone, to the second; empty for none.

    >>> moment(None)
    ''
    """
    if not value:
        return ""
    return datetime.fromisoformat(str(value)).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def why(node: Mapping[str, Any]) -> str:
    """Return in one sentence why an item is where it is."""
    found = node.get("whyNotMoving")
    return str(found["text"]) if found else ""
