"""`aegate validate`: what an API server would say to these manifests, without one."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer


class Output(StrEnum):
    """How the result is printed."""

    TEXT = "text"
    JSON = "json"


def validate_command(
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATH…", help="Files, folders, or - for standard input: YAML or JSON."),
    ],
    output: Annotated[
        Output, typer.Option("--output", "-o", help="For people, or one JSON object.")
    ] = Output.TEXT,
    old: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH",
            help="The versions in force, read like PATH: what may not change (a title) is held against them, "
            "and what did not change is let pass though a newer rule refuses it. As an API server does.",
        ),
    ] = None,
) -> None:
    """Check manifests by the CRDs themselves: schema and CEL rules, as an API server evaluates them.

    Prints file:line, the field, what was expected and what came.
    When nothing is wrong with any manifest, it warns of what only all together show:
    a route to an unknown AE, a title held twice, an unknown location.
    Locations are those of a locations.csv beside the manifests; without one, all are let pass.

    Exit codes:
    0 all valid, also with warnings;
    1 something is wrong with a manifest;
    2 a path cannot be read, or the command was called wrongly.

    Example: [bold]aegate validate examples/hospital[/bold]

    Example: [bold]kubectl get ae -o yaml | aegate validate -[/bold]

    Example: [bold]kubectl get ae,iroute,ppart -o yaml | aegate validate hospital --old -[/bold]
    """
    if "-" in paths and "-" in (old or []):
        got = "expected standard input for PATH or for --old, got both: put one of them into a file"
        raise typer.BadParameter(got, param_hint="--old")
    # The CRDs' evaluator and pydicom take a while to load: not for --help, completion and the other commands.
    from aegate_core.dicom.without_pixels import leave_pixel_libraries_out

    leave_pixel_libraries_out()
    from aegate_cli.verdict import give_verdict

    raise typer.Exit(give_verdict(paths, old or [], as_json=output is Output.JSON))
