"""Follow an Operation to its end, with a bar where that is a terminal.

The surprise: an API that does not answer for a while changes nothing about the operation, so that is waited for, too.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import typer

from aegate_cli.api.client import API
from aegate_cli.api.errors import APIError, APIUnreachable
from aegate_cli.api.names import short

POLL_S = 0.5
PATIENCE_S = 60.0
"""How long an API may be away before its operation is left to itself: longer than it takes to be started again."""

ENDED = ("COMPLETED", "CANCELED", "FAILED")


def wait_for(api: API, operation_id: str, *, patience_s: float = PATIENCE_S) -> dict[str, Any]:
    """Return the operation at its end.

    Raises APIError for one that is not there, and APIUnreachable once the API has been away for ``patience_s`` or wants
    to be left alone for longer. Ctrl-C leaves the operation alone.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    goes_on = f"it goes on by itself; `aegate queue wait {short(operation_id)}` follows it"
    following = _Following(api, operation_id, patience_s)
    try:
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task("", total=None)
            while True:
                operation = following.ask()
                bar.update(
                    task,
                    description=operation["action"],
                    completed=operation["processed"],
                    total=operation["total"],
                )
                if operation["state"] in ENDED:
                    return operation
                time.sleep(POLL_S)
    except APIUnreachable as error:
        raise APIUnreachable(f"{error.message}; {goes_on}") from error
    except KeyboardInterrupt:
        typer.echo(f"aegate: {goes_on}", err=True)
        raise typer.Exit(1) from None


@dataclass(slots=True)
class _Following:
    """Asks for one operation, over an API that is away for a while."""

    api: API
    operation_id: str
    patience_s: float
    answered_at: float = field(default_factory=time.monotonic)

    def ask(self) -> dict[str, Any]:
        """Return the operation as it is now."""
        while True:
            try:
                operation: dict[str, Any] | None = self.api.ask("operation", id=self.operation_id)[
                    "operation"
                ]
            except APIUnreachable as error:
                pause_s = max(POLL_S, error.retry_after_s)
                if time.monotonic() + pause_s > self.answered_at + self.patience_s:
                    raise
                time.sleep(pause_s)
                continue
            if operation is None:
                raise APIError("there is no such operation: it may have been forgotten, or is another's")
            self.answered_at = time.monotonic()
            return operation
