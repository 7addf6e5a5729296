"""`aegate ae delete`: first everything is judged, then somebody is asked, then one after the other goes.

The surprise: what waits in the queue for an AE is not lost with it: it is held, and goes on when the AE is made again.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import typer

from aegate_cli.api.client import API
from aegate_cli.api.entities import find_entity
from aegate_cli.api.errors import APIForbidden
from aegate_cli.api.outcomes import change
from aegate_cli.api.shown import print_json
from aegate_core.errors import AegateError, InvalidInput

WAITING = ("SCHEDULED", "IN_PROGRESS", "RETRY", "HELD")


@dataclass(frozen=True, slots=True)
class Doomed:
    """An AE that is to go."""

    key: str
    title: str
    id: str
    version: str
    waiting: str | None
    """How many queue items wait for it; None: the token may not see that."""

    def __str__(self) -> str:
        """Say what becomes of it."""
        held = "what waits in the queue for it is held"
        if self.waiting is not None:
            held = f"{self.waiting} queue items for it are held"
        return f"{self.key} (title {self.title}): its listener ends, its images stay, {held}"


@dataclass(frozen=True, slots=True)
class Deleting:
    """One run of the command."""

    api: API
    take_over: bool
    dry_run: bool
    yes: bool
    as_json: bool

    def carry_out(self, names: Sequence[str]) -> int:
        """Delete them; return the exit code. Raises AegateError, with nothing changed, for what cannot be."""
        doomed = [self._looked_up(node) for node in _each_once(self.api, names)]
        code = self._judge(doomed)
        if code:
            return code
        if not self.dry_run:
            self._agree(doomed)
        told: list[dict[str, object]] = []
        for one in doomed:
            error = None if self.dry_run else self._refusal(one, dry_run=False)
            code = code or (getattr(error, "exit_code", 1) if error else 0)
            told.append(self._tell(one, error))
        if self.as_json:
            print_json(told)
        return code

    def _looked_up(self, node: dict[str, Any]) -> Doomed:
        key = f"{node['namespace']}/{node['name']}"
        where = {"destination": {"eq": key}, "state": {"in": WAITING}}
        try:
            counted = self.api.ask("count_items", where=where)["found"]["totalCount"]
            waiting: str | None = f"{counted['value']:,}" + ("" if counted["precision"] == "EXACT" else "+")
        except APIForbidden:
            waiting = None
        return Doomed(key, str(node["title"]), str(node["id"]), str(node["version"]), waiting)

    def _judge(self, doomed: Sequence[Doomed]) -> int:
        """Say which of them cannot go; return the exit code."""
        code = 0
        for one in doomed:
            error = self._refusal(one, dry_run=True)
            if error is not None:
                code = code or getattr(error, "exit_code", 1)
                typer.echo(f"{one.key} refused: {error}", err=True)
        if code:
            typer.echo("nothing was deleted", err=True)
        return code

    def _agree(self, doomed: Sequence[Doomed]) -> None:
        """Ask. Raises InvalidInput where nobody can be asked."""
        if self.yes:
            return
        for one in doomed:
            typer.echo(str(one), err=True)
        count = f"{len(doomed)} Application Entities" if len(doomed) > 1 else "this Application Entity"
        if not sys.stdin.isatty():
            raise InvalidInput(f"to delete {count} somebody must agree and nobody can be asked: give --yes")
        typer.confirm(f"Delete {count}?", abort=True, err=True)

    def _refusal(self, one: Doomed, *, dry_run: bool) -> AegateError | None:
        wish = {"id": one.id, "version": one.version, "takeOver": self.take_over, "dryRun": dry_run}
        try:
            change(self.api, "delete_entity", input=wish)
        except AegateError as error:
            return error
        return None

    def _tell(self, one: Doomed, error: AegateError | None) -> dict[str, object]:
        done = "refused" if error else "would be deleted" if self.dry_run else "deleted"
        if error is not None:
            typer.echo(f"{one.key} refused: {error}", err=True)
        elif not self.as_json:
            typer.echo(f"{one.key} {done}" if not self.dry_run else f"{one}: {done}")
        return {"name": one.key, "done": done, "waiting": one.waiting}


def _each_once(api: API, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    found = {str(node["id"]): node for node in (find_entity(api, name) for name in names)}
    yield from found.values()
