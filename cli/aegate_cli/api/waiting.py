"""Follow an Operation to its end, with a bar where that is a terminal."""

from __future__ import annotations

import time
from typing import Any

import typer

from aegate_cli.api.client import API
from aegate_cli.api.errors import APIError
from aegate_cli.api.names import short

POLL_S = 0.5
ENDED = ("COMPLETED", "CANCELED", "FAILED")


def wait_for(api: API, operation_id: str) -> dict[str, Any]:
    """Return the operation at its end. Raises APIError for one that is not there; Ctrl-C leaves it alone."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    try:
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task("", total=None)
            while True:
                operation: dict[str, Any] | None = api.ask("operation", id=operation_id)["operation"]
                if operation is None:
                    raise APIError("there is no such operation: it may have been forgotten, or is another's")
                bar.update(
                    task,
                    description=operation["action"],
                    completed=operation["processed"],
                    total=operation["total"],
                )
                if operation["state"] in ENDED:
                    return operation
                time.sleep(POLL_S)
    except KeyboardInterrupt:
        typer.echo(
            f"aegate: it goes on by itself; `aegate queue wait {short(operation_id)}` follows it", err=True
        )
        raise typer.Exit(1) from None
