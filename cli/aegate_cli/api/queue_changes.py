"""What `aegate queue hold`, `resume`, `retry`, `bump` and `cancel` share: their options, and how they are carried out.

A filter changes what it found when it was looked at, or nothing: how many is asked first, and given as expected.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from aegate_cli.output import Output

Which = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="ITEM|STUDY…",
        help="q17; or all items of a study: s4, accession number, UID, AE/accession number.",
    ),
]
To = Annotated[str | None, typer.Option("--to", metavar="AE", help="Items to this AE.")]
From = Annotated[str | None, typer.Option("--from", metavar="AE", help="Items of what this AE sent.")]
State = Annotated[
    list[str] | None,
    typer.Option("--state", metavar="STATE", help="Items in this state, such as failed; repeat for several."),
]
Search = Annotated[
    str | None,
    typer.Option(
        "--search", metavar="WORDS", help="Items that these words find, as `queue list` does; - reads them."
    ),
]
Destination = Annotated[
    str | None, typer.Option("--destination", metavar="AE", help="The AE itself instead of single items.")
]
Reason = Annotated[
    str | None, typer.Option(metavar="TEXT", help="For the audit, and for who comes after you.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be changed, change nothing.")]
Expect = Annotated[
    int | None,
    typer.Option("--expect", min=0, metavar="N", help="Change them only if a filter finds just so many."),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask whether so many may be changed.")]
NoWait = Annotated[
    bool, typer.Option("--no-wait", help="More than 500 go on in the background: do not wait for their end.")
]

DONE = {"hold": "held", "resume": "resumed", "retry": "retried", "bump": "bumped", "cancel": "canceled"}

_BECAUSE = {
    "SCHEDULED": "it waits for its turn",
    "IN_PROGRESS": "it is being sent",
    "RETRY": "it waits for its next try",
    "HELD": "it is held",
    "FAILED": "it was given up",
    "COMPLETED": "it was delivered",
    "WARNING": "it was delivered, with warnings",
    "CANCELED": "it was canceled",
    "NOT_FOUND": "there is no such item, or none that your token may see",
    "IMAGES_REMOVED": "retention removed images that it has not sent",
}
"""Why an item was left, in words."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One such command as it was typed."""

    verb: str
    which: list[str] | None
    to: str | None
    source: str | None
    state: list[str] | None
    search: str | None
    destination: str | None
    reason: str | None
    dry_run: bool
    expect: int | None
    yes: bool
    no_wait: bool

    def carry_out(
        self, server: str | None, token_file: Path | None, ca: Path | None, data: Path | None, output: Output
    ) -> None:
        """Change it and say what came of it; exit code 1 where some were left as they were. Raises AegateError."""
        from aegate_cli.api.place import open_api
        from aegate_cli.api.queue_selection import Filter, is_counted, selection_of
        from aegate_cli.api.words import words_of
        from aegate_core.errors import InvalidInput

        search = words_of([] if self.search is None else [self.search])
        wanted = Filter(self.to, self.source, self.state or (), search)
        if self.destination is not None and (self.which or not wanted.is_empty or self.dry_run):
            raise InvalidInput(
                "--destination stands alone, as it is the AE itself: leave items, filters and --dry-run out"
            )
        api = open_api(server, token_file, ca, data)
        as_json = output is Output.JSON
        if self.destination is not None:
            self._change_destination(api, as_json=as_json)
            return
        selection = selection_of(api, self.which or [], wanted)
        if self.expect is None and is_counted(selection) and not _finds(api, selection):
            typer.echo("no queue items found: nothing changed", err=True)
            return
        raise typer.Exit(self._change(api, selection, as_json=as_json))

    def _change_destination(self, api: Any, *, as_json: bool) -> None:
        from aegate_cli.api.names import find_destination
        from aegate_cli.api.outcomes import change
        from aegate_cli.api.shown import print_json

        found = find_destination(api, str(self.destination))
        done = change(api, f"{self.verb}_destination", id=found["id"], reason=self.reason)
        if as_json:
            print_json({"destination": done["destination"], "changed": done["changed"]})
        elif done["changed"]:
            typer.echo(f"{found['ae']} {DONE[self.verb]}")
        else:
            typer.echo(f"{found['ae']} was so already: nothing changed")

    def _change(self, api: Any, selection: dict[str, object], *, as_json: bool) -> int:
        from aegate_cli.api.outcomes import change
        from aegate_cli.api.waiting import wait_for

        guard: dict[str, object] = {"dryRun": self.dry_run, "expectedCount": self._expected(api, selection)}
        done = change(api, f"{self.verb}_items", selection=selection, guard=guard, **self._reason())
        if done["__typename"] != "OperationStarted":
            return tell_changed(done, DONE[self.verb], as_json=as_json)
        operation = done["operation"]
        if self.no_wait:
            return _tell_begun(operation, as_json=as_json)
        return tell_operation(wait_for(api, str(operation["id"])), as_json=as_json)

    def _reason(self) -> dict[str, object]:
        return {} if self.verb == "bump" else {"reason": self.reason}

    def _expected(self, api: Any, selection: dict[str, object]) -> int | None:
        """Return how many a filter may change: what it finds now, once somebody has agreed. Raises InvalidInput.

        Canceling is asked for also where items are named: they are not sent then.
        """
        from aegate_cli.api.outcomes import change
        from aegate_cli.api.queue_selection import is_counted
        from aegate_core.errors import InvalidInput

        needs_asking = is_counted(selection) or (self.verb == "cancel" and not self.yes)
        if self.expect is not None or self.dry_run or not needs_asking:
            return self.expect
        looked = change(
            api, f"{self.verb}_items", selection=selection, guard={"dryRun": True}, **self._reason()
        )
        if looked["__typename"] == "OperationStarted":
            matched = int(looked["operation"]["total"])
            change(api, "cancel_operation", id=looked["operation"]["id"])  # counted is enough
        else:
            matched = int(looked["matched"])
        if self.yes:
            return matched
        found = "the filter finds" if is_counted(selection) else "what was named is"
        if not sys.stdin.isatty():
            raise InvalidInput(
                f"{found} {matched} items and nobody can be asked: give --expect {matched} to change just "
                "those, or --yes"
            )
        typer.confirm(f"{matched} items are found. {self.verb.capitalize()} them?", abort=True, err=True)
        return matched


def _finds(api: Any, selection: Mapping[str, object]) -> bool:
    """Whether a filter finds anything now."""
    asked = {"search": selection.get("search"), "where": selection["where"]}
    return bool(api.pages("queue_items", 1, orderBy="NEWEST", **asked).nodes)


def because(code: str) -> str:
    """Return why an item was left, as a code and in words where there are some.

    >>> because("COMPLETED"), because("CONFLICT")
    ('COMPLETED, it was delivered', 'CONFLICT')
    """
    return f"{code}, {_BECAUSE[code]}" if code in _BECAUSE else code


def tell_changed(done: Mapping[str, Any], word: str, *, as_json: bool) -> int:
    """Say what was changed; return the exit code."""
    from aegate_cli.api.names import short
    from aegate_cli.api.shown import print_json

    if as_json:
        print_json({name: value for name, value in done.items() if name != "__typename"})
    else:
        would = "would be " if done["dryRun"] else ""
        parts = [f"{done['changedCount']} {would}{word}"]
        if done["askedCount"]:
            parts.append(f"{done['askedCount']} being sent: between two images")
        if done["leftCount"]:
            parts.append(f"{done['leftCount']} left as they were")
        typer.echo(f"{done['matched']} found: {', '.join(parts)}")
        for left in done["left"]:
            typer.echo(f"{short(left['id'])} left: {because(left['because'])}", err=True)
    return 1 if done["leftCount"] else 0


def _tell_begun(operation: Mapping[str, Any], *, as_json: bool) -> int:
    from aegate_cli.api.names import short
    from aegate_cli.api.shown import print_json

    if as_json:
        print_json({"operation": operation})
    else:
        name = short(str(operation["id"]))
        typer.echo(f"{operation['total']} found: begun as {name}; `aegate queue wait {name}` follows it")
    return 0


def tell_operation(operation: Mapping[str, Any], *, as_json: bool) -> int:
    """Say how an operation ended; return the exit code."""
    from aegate_cli.api.names import short
    from aegate_cli.api.shown import print_json

    if as_json:
        print_json({"operation": operation})
    else:
        why = f" ({operation['errorCode']})" if operation["errorCode"] else ""
        would = "would be " if operation["dryRun"] else ""
        typer.echo(
            f"{short(str(operation['id']))} {operation['state']}{why}: {operation['total']} found, "
            f"{operation['changedCount']} {would}changed, {operation['askedCount']} being sent, "
            f"{operation['leftCount']} left"
        )
        for left in operation["results"]["nodes"]:
            typer.echo(f"{short(left['targetId'])} left: {because(left['because'])}", err=True)
    is_whole = operation["state"] == "COMPLETED" and not operation["leftCount"]
    return 0 if is_whole else 1
