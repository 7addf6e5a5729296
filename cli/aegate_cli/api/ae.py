"""`aegate ae`: the Application Entities that are in force, and changes of them from the files that a cluster takes."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from aegate_cli.api.place import CA, Data, Limit, Server, Shown, TokenFile
from aegate_cli.output import Output

ae_app = typer.Typer(no_args_is_help=True, help="Application Entities: list, show, change. Through the API.")

COLUMNS = ("name", "title", "node", "port", "ability", "enabled", "location", "listener", "ready", "why")


class Form(StrEnum):
    """How a resource is printed."""

    YAML = "yaml"
    JSON = "json"


@ae_app.command("list")
def list_(  # noqa: PLR0913 - a command has the options that people need
    search: Annotated[
        list[str] | None, typer.Argument(metavar="WORDS…", help="Parts of name, title, node…")
    ] = None,
    namespace: Annotated[str | None, typer.Option(metavar="NAMESPACE", help="Of this namespace.")] = None,
    location: Annotated[str | None, typer.Option(metavar="CODE", help="At this location.")] = None,
    limit: Limit = 100,
    output: Shown = Output.TEXT,
    server: Server = None,
    token_file: TokenFile = None,
    ca: CA = None,
    data: Data = None,
) -> None:
    """List Application Entities, and why those that are not ready are not.

    Example: [bold]aegate ae list[/bold]

    Example: [bold]aegate ae list 10.1.2 --location ER[/bold]
    """
    from aegate_cli.api.place import open_api
    from aegate_cli.api.shown import print_json, print_more, print_table
    from aegate_cli.api.words import words_of

    where = {
        name: {"eq": value}
        for name, value in (("namespace", namespace), ("locationCode", location))
        if value is not None
    }
    api = open_api(server, token_file, ca, data)
    page = api.pages("entities", limit, search=words_of(search or []), where=where or None)
    if output is Output.JSON:
        print_json(page.nodes)
    else:
        print_table(COLUMNS, (_row(node) for node in page.nodes))
        if any(node["isStale"] for node in page.nodes):
            typer.echo(
                "some may be old: whoever follows the cluster or the folder has said nothing of late",
                err=True,
            )
    print_more(page, "Application Entities")


def _row(node: dict[str, Any]) -> tuple[object, ...]:
    ready = next(
        (c for c in node["conditions"] if c["type"] == "Ready"), {"status": "", "reason": "", "message": ""}
    )
    return (
        f"{node['namespace']}/{node['name']}",
        node["title"],
        node["node"],
        node["port"],
        node["ability"],
        node["enabled"],
        node["locationCode"],
        node["endpoint"],
        ready["status"],
        "" if ready["status"] == "True" else f"{ready['reason']}: {ready['message']}",
    )


@ae_app.command("get")
def get(  # noqa: PLR0913 - a command has the options that people need
    names: Annotated[list[str], typer.Argument(metavar="AE…", help="Name, namespace/name, or title.")],
    output: Annotated[
        Form, typer.Option("--output", "-o", help="YAML as `ae apply` takes it, or JSON.")
    ] = Form.YAML,
    server: Server = None,
    token_file: TokenFile = None,
    ca: CA = None,
    data: Data = None,
) -> None:
    """Print Application Entities as manifests. `ae apply` takes them back, if nobody has changed them meanwhile.

    Example: [bold]aegate ae get ct1 > ct1.yaml[/bold]

    Example: [bold]aegate ae get PACS radiology/ct1 -o json[/bold]
    """
    from aegate_cli.api.entities import find_entity, manifest_of
    from aegate_cli.api.place import open_api
    from aegate_cli.api.shown import print_json
    from aegate_core.resources.yaml_text import block

    api = open_api(server, token_file, ca, data)
    manifests = [manifest_of(find_entity(api, name)) for name in names]
    if output is Form.JSON:
        print_json(
            manifests[0] if len(manifests) == 1 else {"apiVersion": "v1", "kind": "List", "items": manifests}
        )
    else:
        typer.echo("---\n".join(block(manifest, 0) for manifest in manifests), nl=False)


@ae_app.command("apply")
def apply(  # noqa: PLR0913 - a command has the options that people need
    files: Annotated[
        list[str],
        typer.Option(
            "--filename", "-f", metavar="PATH", help="Files, folders, or - for standard input; repeat."
        ),
    ],
    take_over: Annotated[
        bool,
        typer.Option(
            "--take-over", help="Also fields of a manager that does not watch over them, as kubectl."
        ),
    ] = False,
    prune: Annotated[
        bool,
        typer.Option(
            "--prune", help="Take away what stands in the spec and not in the file. (default: it stays)"
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Have the API judge it, change nothing.")
    ] = False,
    output: Shown = Output.TEXT,
    server: Server = None,
    token_file: TokenFile = None,
    ca: CA = None,
    data: Data = None,
) -> None:
    """Create or change Application Entities, routes and partitions from the YAML that a cluster takes.

    Checked as by `aegate validate` first: what is wrong changes nothing. Then each is put in force for itself,
    partitions first and routes last; one that is refused does not stop the others, and makes the exit code 1. Where
    the file names metadata.resourceVersion (`ae get` does), one that somebody changed since is refused.

    Example: [bold]aegate ae apply -f ct1.yaml --dry-run[/bold]

    Example: [bold]aegate ae get ct1 | sed 's/port: 104/port: 11112/' | aegate ae apply -f -[/bold]
    """
    from aegate_cli.api.applying import Applying, tell
    from aegate_cli.api.place import open_api

    applying = Applying(open_api(server, token_file, ca, data), take_over, prune, dry_run)
    raise typer.Exit(tell(applying.apply(files), as_json=output is Output.JSON))


@ae_app.command("delete")
def delete(  # noqa: PLR0913 - a command has the options that people need
    names: Annotated[list[str], typer.Argument(metavar="AE…", help="Name, namespace/name, or title.")],
    take_over: Annotated[
        bool,
        typer.Option(
            "--take-over", help="Also one with fields of a manager that does not watch over them, as kubectl."
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be deleted, delete nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    output: Shown = Output.TEXT,
    server: Server = None,
    token_file: TokenFile = None,
    ca: CA = None,
    data: Data = None,
) -> None:
    """Delete Application Entities: their listeners end; images stay, and what waits for them in the queue is held.

    If one of several cannot be deleted, as git owns it, say, none is. Made again, an AE takes up its queue.

    Example: [bold]aegate ae delete ct1 --dry-run[/bold]

    Example: [bold]aegate ae delete radiology/ct1 OLD_CT --yes[/bold]
    """
    from aegate_cli.api.deleting import Deleting
    from aegate_cli.api.place import open_api

    api = open_api(server, token_file, ca, data)
    deleting = Deleting(api, take_over, dry_run, yes, as_json=output is Output.JSON)
    raise typer.Exit(deleting.carry_out(names))
