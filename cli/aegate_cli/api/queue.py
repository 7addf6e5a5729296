"""`aegate queue`: what waits, why, and everything that moves it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from aegate_cli.api.place import CA, Data, Limit, Server, Shown, TokenFile
from aegate_cli.api.queue_changes import (
    Asked,
    Destination,
    DryRun,
    Expect,
    From,
    NoWait,
    Reason,
    Search,
    State,
    To,
    Which,
    Yes,
)
from aegate_cli.output import Output

queue_app = typer.Typer(no_args_is_help=True, help="The image queue: look, explain, move. Through the API.")

COLUMNS = ("item", "state", "from", "to", "accession", "modalities", "done", "failed", "tries", "made", "why")
ORDERS = ("newest", "oldest", "next", "last-finished")


@queue_app.command("list")
def list_(  # noqa: PLR0913 - a command has the options that people need
    search: Annotated[
        list[str] | None, typer.Argument(metavar="WORDS…", help="As in `aegate study find`.")
    ] = None,
    to: To = None,
    source: From = None,
    state: State = None,
    everything: Annotated[bool, typer.Option("--all", help="Also what is done: sent or canceled.")] = False,
    order: Annotated[str, typer.Option(metavar="ORDER", help=f"{', '.join(ORDERS)}.")] = "newest",
    limit: Limit = 50,
    output: Shown = Output.TEXT,
    server: Server = None,
    token_file: TokenFile = None,
    ca: CA = None,
    data: Data = None,
) -> None:
    """List what waits, is being sent, is held or has failed; --all also what is done. The first column names the item.

    Example: [bold]aegate queue list[/bold]

    Example: [bold]aegate queue list --to pacs --state failed --state held[/bold]

    Example: [bold]aegate queue list --order next --to pacs[/bold]
    """
    from aegate_cli.api.place import open_api
    from aegate_cli.api.queue_selection import UNFINISHED, Filter
    from aegate_cli.api.shown import print_json, print_more, print_table
    from aegate_cli.api.words import words_of
    from aegate_core.errors import InvalidInput

    if order not in ORDERS:
        raise InvalidInput(f"--order must be one of {', '.join(ORDERS)}, got another: correct it")
    is_any = everything or order == "last-finished"
    wanted = Filter(to, source, state or (() if is_any else UNFINISHED))
    api = open_api(server, token_file, ca, data)
    page = api.pages(
        "queue_items",
        limit,
        search=words_of(search or []),
        where=wanted.where(api),
        orderBy=order.upper().replace("-", "_"),
    )
    if output is Output.JSON:
        print_json(page.nodes)
    else:
        print_table(COLUMNS, (_row(node) for node in page.nodes))
    print_more(page, "queue items")


def _row(node: dict[str, Any]) -> tuple[object, ...]:
    from aegate_cli.api.names import short
    from aegate_cli.api.shown import moment, why

    study = node["study"] or {}
    return (
        short(node["id"]),
        node["state"],
        node["sourceAe"],
        node["destinationAe"],
        study.get("accessionNumber"),
        study.get("modalities"),
        f"{node['instancesDone']}/{node['instancesTotal']}",
        node["instancesFailed"] or "",
        node["attempts"],
        moment(node["createdAt"]),
        why(node),
    )


@queue_app.command("explain")
def explain(  # noqa: PLR0913 - a command has the options that people need
    which: Annotated[
        str, typer.Argument(metavar="ITEM|STUDY", help="q17, s4, an accession number or a UID.")
    ],
    output: Shown = Output.TEXT,
    server: Server = None,
    token_file: TokenFile = None,
    ca: CA = None,
    data: Data = None,
) -> None:
    """Say why an item does not move and what happens next; of a study, where it went, and what each route made of it.

    Example: [bold]aegate queue explain q17[/bold]

    Example: [bold]aegate queue explain A4711[/bold]
    """
    from aegate_cli.api.explaining import explain_item, explain_study
    from aegate_cli.api.names import find_items, find_study
    from aegate_cli.api.place import open_api

    api = open_api(server, token_file, ca, data)
    item = find_items(api, [which]).get(which)
    if item is not None:
        explain_item(api, item, as_json=output is Output.JSON)
    else:
        explain_study(api, find_study(api, which), as_json=output is Output.JSON)


@queue_app.command("hold")
def hold(  # noqa: PLR0913 - a command has the options that people need
    which: Which = None,
    to: To = None,
    source: From = None,
    state: State = None,
    search: Search = None,
    destination: Destination = None,
    reason: Reason = None,
    dry_run: DryRun = False,
    expect: Expect = None,
    yes: Yes = False,
    no_wait: NoWait = False,
    output: Shown = Output.TEXT,
    server: Server = None,
    token_file: TokenFile = None,
    ca: CA = None,
    data: Data = None,
) -> None:
    """Hold items until somebody resumes them; or, with --destination, all that goes to an AE, now and later.

    Example: [bold]aegate queue hold q17 q18 --reason "wrong patient"[/bold]

    Example: [bold]aegate queue hold --destination pacs --reason "maintenance until 6"[/bold]
    """
    asked = Asked(
        "hold", which, to, source, state, search, destination, reason, dry_run, expect, yes, no_wait
    )
    asked.carry_out(server, token_file, ca, data, output)


@queue_app.command("resume")
def resume(  # noqa: PLR0913 - a command has the options that people need
    which: Which = None,
    to: To = None,
    source: From = None,
    state: State = None,
    search: Search = None,
    destination: Destination = None,
    reason: Reason = None,
    dry_run: DryRun = False,
    expect: Expect = None,
    yes: Yes = False,
    no_wait: NoWait = False,
    output: Shown = Output.TEXT,
    server: Server = None,
    token_file: TokenFile = None,
    ca: CA = None,
    data: Data = None,
) -> None:
    """Let held items go on; or, with --destination, an AE that was held.

    Example: [bold]aegate queue resume A4711[/bold]

    Example: [bold]aegate queue resume --destination pacs[/bold]
    """
    asked = Asked(
        "resume", which, to, source, state, search, destination, reason, dry_run, expect, yes, no_wait
    )
    asked.carry_out(server, token_file, ca, data, output)


@queue_app.command("retry")
def retry(  # noqa: PLR0913 - a command has the options that people need
    which: Which = None,
    to: To = None,
    source: From = None,
    state: State = None,
    search: Search = None,
    destination: Destination = None,
    reason: Reason = None,
    dry_run: DryRun = False,
    expect: Expect = None,
    yes: Yes = False,
    no_wait: NoWait = False,
    output: Shown = Output.TEXT,
    server: Server = None,
    token_file: TokenFile = None,
    ca: CA = None,
    data: Data = None,
) -> None:
    """Try again now: items that failed or wait for their next try; with --destination, an AE that did not answer.

    Example: [bold]aegate queue retry --to pacs --state failed[/bold]

    Example: [bold]aegate queue retry --destination pacs[/bold]
    """
    asked = Asked(
        "retry", which, to, source, state, search, destination, reason, dry_run, expect, yes, no_wait
    )
    asked.carry_out(server, token_file, ca, data, output)


@queue_app.command("bump")
def bump(  # noqa: PLR0913 - a command has the options that people need
    which: Which = None,
    to: To = None,
    source: From = None,
    state: State = None,
    search: Search = None,
    dry_run: DryRun = False,
    expect: Expect = None,
    yes: Yes = False,
    no_wait: NoWait = False,
    output: Shown = Output.TEXT,
    server: Server = None,
    token_file: TokenFile = None,
    ca: CA = None,
    data: Data = None,
) -> None:
    """Send these next: before everything else that waits for their destination. Who is bumped last goes first.

    Example: [bold]aegate queue bump q17[/bold]

    Example: [bold]aegate queue bump ct1/A4711 --to pacs[/bold]
    """
    asked = Asked("bump", which, to, source, state, search, None, None, dry_run, expect, yes, no_wait)
    asked.carry_out(server, token_file, ca, data, output)


@queue_app.command("cancel")
def cancel(  # noqa: PLR0913 - a command has the options that people need
    which: Which = None,
    to: To = None,
    source: From = None,
    state: State = None,
    search: Search = None,
    reason: Reason = None,
    dry_run: DryRun = False,
    expect: Expect = None,
    yes: Yes = False,
    no_wait: NoWait = False,
    output: Shown = Output.TEXT,
    server: Server = None,
    token_file: TokenFile = None,
    ca: CA = None,
    data: Data = None,
) -> None:
    """Give items up: what was acknowledged stays delivered, the rest is not sent. `queue retry` takes it up again.

    It is asked first, also of single items.

    Example: [bold]aegate queue cancel q17 --reason "wrong patient"[/bold]

    Example: [bold]aegate queue cancel --to old-pacs --state failed --dry-run[/bold]
    """
    asked = Asked("cancel", which, to, source, state, search, None, reason, dry_run, expect, yes, no_wait)
    asked.carry_out(server, token_file, ca, data, output)


@queue_app.command("wait")
def wait(  # noqa: PLR0913 - a command has the options that people need
    operation: Annotated[
        str, typer.Argument(metavar="OPERATION", help="o2, as the command said that began it.")
    ],
    output: Shown = Output.TEXT,
    server: Server = None,
    token_file: TokenFile = None,
    ca: CA = None,
    data: Data = None,
) -> None:
    """Follow a change of many items to its end.

    Example: [bold]aegate queue wait o2[/bold]
    """
    from aegate_cli.api.names import id_of
    from aegate_cli.api.place import open_api
    from aegate_cli.api.queue_changes import tell_operation
    from aegate_cli.api.waiting import wait_for
    from aegate_core.errors import InvalidInput

    found = id_of(operation, "Operation")
    if found is None:
        raise InvalidInput("OPERATION must be one such as o2, got another: the command that began it said it")
    api = open_api(server, token_file, ca, data)
    raise typer.Exit(tell_operation(wait_for(api, found), as_json=output is Output.JSON))
