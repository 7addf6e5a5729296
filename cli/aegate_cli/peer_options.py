"""Whom `aegate echo` and `aegate send` call: host and port, or the name of an AE in a folder of resources."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aegate_cli.ports import parse_endpoint
from aegate_core.dicom.ae_title import AETitle
from aegate_core.errors import InvalidInput, InvalidValue, NotFound
from aegate_core.resources.values import ApplicationEntity

Calling = Annotated[str, typer.Option(metavar="AET", help="Our title: what the peer is told who calls.")]
Called = Annotated[
    str | None,
    typer.Option(metavar="AET", help="The peer's title. (default: ANY-SCP, or the AE's own title)"),
]
Folder = Annotated[
    Path | None, typer.Option("--in", metavar="DIR", help="Folder of resources, for an AE by its name.")
]
Timeout = Annotated[
    float, typer.Option("--timeout", min=1, max=3600, metavar="S", help="Seconds for each answer.")
]


def resolve_peer(
    where: str, port: int | None, called: str | None, folder: Path | None
) -> tuple[str, int, AETitle]:
    """Return host, port and called title. Raises InvalidInput or NotFound, saying what to type."""
    if port is not None:
        if not 1 <= port <= 65535:
            raise InvalidInput(f"PORT must be 1 to 65535, got {port}: DICOM's own are 104 and 11112")
        return where, port, parse_title(called or "ANY-SCP", "--called")
    if folder is None and ":" in where:
        endpoint = parse_endpoint(where, "the peer")
        return endpoint.host, endpoint.port, parse_title(called or "ANY-SCP", "--called")
    if folder is None:
        raise InvalidInput(
            f"expected HOST:PORT, or the name of an AE with --in DIR, got only {where!r}: "
            "write it as 127.0.0.1:11112, or as pacs --in examples/hospital"
        )
    ae = _find(where, folder)
    return ae.node, ae.port, parse_title(called or ae.title.value, "--called")


def parse_title(text: str, option: str) -> AETitle:
    """Return the title. Raises InvalidInput naming the option."""
    try:
        return AETitle(text)
    except InvalidValue as error:
        raise InvalidInput(f"{option}: {error.message}") from error


def _find(name: str, folder: Path) -> ApplicationEntity:
    from aegate_core.resources.validation import validate_manifests

    entities = [r for r in validate_manifests([str(folder)]).resources if isinstance(r, ApplicationEntity)]
    found = [ae for ae in entities if name in (ae.key.name, str(ae.key), ae.title.value)]
    if len(found) == 1:
        return found[0]
    known = ", ".join(sorted(ae.key.name for ae in entities)) or "none"
    raise NotFound(
        f"expected the name of one AE in {folder}, got {name!r} ({len(found)} fit): there are {known}"
    )
