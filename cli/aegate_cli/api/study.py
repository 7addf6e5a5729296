"""`aegate study`: find studies, and send them somewhere by hand."""

from __future__ import annotations

import shlex
import uuid
from enum import StrEnum
from typing import Annotated, Any

import typer

from aegate_cli.api.place import CA, Data, Limit, Server, Shown, TokenFile
from aegate_cli.output import Output

study_app = typer.Typer(no_args_is_help=True, help="Studies: find them, send them. Through the API.")

COLUMNS = (
    "study",
    "accession",
    "date",
    "modalities",
    "patient",
    "patient id",
    "images",
    "from",
    "last image",
    "description",
)


class Order(StrEnum):
    """In which order studies are listed."""

    NEWEST = "newest"
    OLDEST = "oldest"
    STUDY_DATE = "study-date"


_ORDERS = {
    Order.NEWEST: "NEWEST_ARRIVAL",
    Order.OLDEST: "OLDEST_ARRIVAL",
    Order.STUDY_DATE: "NEWEST_STUDY_DATE",
}


@study_app.command("find")
def find(  # noqa: PLR0913 - a command has the options that people need
    search: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="WORDS…",
            help="Name, accession number, description…; field:value asks one field; - reads them.",
        ),
    ] = None,
    source: Annotated[str | None, typer.Option("--from", metavar="AE", help="Sent by this AE.")] = None,
    modality: Annotated[str | None, typer.Option(metavar="M", help="Has this modality, such as CT.")] = None,
    order: Annotated[Order, typer.Option(help="Newest: the last image came last.")] = Order.NEWEST,
    limit: Limit = 20,
    output: Shown = Output.TEXT,
    server: Server = None,
    token_file: TokenFile = None,
    ca: CA = None,
    data: Data = None,
) -> None:
    """Find studies, those with the newest images first. All words must be found, in any case, as parts of words.

    The first column is what other commands take for the study. What you see of patients is in the audit.

    Example: [bold]aegate study find miller ann[/bold]

    Example: [bold]aegate study find accession:A4711[/bold]

    Example: [bold]aegate study find --from ct1 --modality CT --limit 5[/bold]
    """
    from aegate_cli.api.names import named
    from aegate_cli.api.place import open_api
    from aegate_cli.api.shown import print_json, print_more, print_table
    from aegate_cli.api.words import words_of

    where: dict[str, object] = {}
    if source is not None:
        where["sourceAe"] = named(source)
    if modality is not None:
        where["modality"] = {"eq": modality.upper()}
    api = open_api(server, token_file, ca, data)
    page = api.pages(
        "studies", limit, search=words_of(search or []), where=where or None, orderBy=_ORDERS[order]
    )
    if output is Output.JSON:
        print_json(page.nodes)
    else:
        print_table(COLUMNS, (_row(node) for node in page.nodes))
    print_more(page, "studies")


def _row(node: dict[str, Any]) -> tuple[object, ...]:
    from aegate_cli.api.names import short
    from aegate_cli.api.shown import moment

    patient = node["patient"]
    return (
        short(node["id"]),
        node["accessionNumber"],
        node["studyDate"],
        node["modalities"],
        patient["name"],
        patient["patientId"],
        node["instanceCount"],
        node["sourceAe"],
        moment(node["lastArrivalAt"]),
        node["description"],
    )


@study_app.command("send")
def send(  # noqa: PLR0913 - a command has the options that people need
    studies: Annotated[
        list[str],
        typer.Argument(
            metavar="STUDY…", help="s4 of `study find`, accession number, UID, or AE/accession number."
        ),
    ],
    to: Annotated[list[str], typer.Option("--to", metavar="AE", help="Where to; repeat for several.")],
    priority: Annotated[int, typer.Option(min=0, max=100, metavar="P", help="The highest goes first.")] = 50,
    key: Annotated[
        str | None,
        typer.Option(
            metavar="KEY",
            help="Sent once with the same key, however often you ask. (default: another each time)",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be sent, send nothing.")] = False,
    output: Shown = Output.TEXT,
    server: Server = None,
    token_file: TokenFile = None,
    ca: CA = None,
    data: Data = None,
) -> None:
    """Put studies into the queue for an AE, as they are, beside what the routes do.

    Example: [bold]aegate study send A4711 --to pacs[/bold]

    Example: [bold]aegate study send s4 ct1/A4711 --to workstation --priority 90 --dry-run[/bold]
    """
    from aegate_cli.api.names import find_destination, find_study, short
    from aegate_cli.api.place import open_api
    from aegate_cli.api.queue_changes import tell_operation
    from aegate_cli.api.shown import print_json
    from aegate_cli.api.waiting import wait_for

    api = open_api(server, token_file, ca, data)
    destinations = [find_destination(api, name) for name in to]
    wanted = {
        "studyIds": [find_study(api, text)["id"] for text in studies],
        "destinationIds": [destination["id"] for destination in destinations],
        "idempotencyKey": key or str(uuid.uuid4()),
        "priority": priority,
        "dryRun": dry_run,
    }
    sent = _sent(api, wanted)
    if sent["__typename"] == "OperationStarted":
        ended = wait_for(api, str(sent["operation"]["id"]))
        raise typer.Exit(tell_operation(ended, as_json=output is Output.JSON))
    if output is Output.JSON:
        print_json({"dryRun": sent["dryRun"], "count": sent["count"], "items": sent["items"]})
        return
    would = "would be " if dry_run else ""
    typer.echo(f"{sent['count']} queue items {would}made, to {', '.join(d['ae'] for d in destinations)}")
    for item in sent["items"]:
        typer.echo(f"{short(item['id'])}\t{item['state']}\t{item['destinationAe']}")


def _sent(api: Any, wanted: dict[str, Any]) -> dict[str, Any]:
    """Return what the API answered. Raises AegateError, with the key where nobody knows whether it was done."""
    from aegate_cli.api.errors import APIUnreachable
    from aegate_cli.api.outcomes import change

    try:
        return change(api, "send_studies", input=wanted)
    except APIUnreachable as error:
        if wanted["dryRun"]:
            raise
        again = shlex.quote(wanted["idempotencyKey"])
        raise APIUnreachable(
            f"{error.message}; it may have been done: repeat with --key {again}, which sends it once"
        ) from error
