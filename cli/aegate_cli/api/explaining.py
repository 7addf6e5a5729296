"""`aegate queue explain`: one item or one study, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import typer

from aegate_cli.api.client import API
from aegate_cli.api.errors import APIError
from aegate_cli.api.names import short
from aegate_cli.api.shown import moment, print_json, printable

MOST_ITEMS = 20


def explain_item(api: API, item_id: str, *, as_json: bool) -> None:
    """Print all that is known of an item. Raises APIError for one that is not there."""
    item: dict[str, Any] | None = api.ask("queue_item", id=item_id)["queueItem"]
    if item is None:
        raise APIError(
            "there is no such queue item, or none that your token may see: `aegate queue list` shows them"
        )
    if as_json:
        print_json(item)
        return
    for line in (
        *_about(item),
        *_line(item),
        *_destination(item["destination"]),
        *_images(item),
        *_history(item),
    ):
        typer.echo(printable(line))


def _about(item: Mapping[str, Any]) -> Iterator[str]:
    study = item["study"] or {}
    yield f"{short(item['id'])} {item['state']}: {item['level']} from {item['sourceAe']} to {item['destinationAe']}"
    accession = printable(study.get("accessionNumber")) or "without accession number"
    yield f"study     {accession}, {study.get('studyInstanceUid', '')}"
    failed = f", {item['instancesFailed']} failed" if item["instancesFailed"] else ""
    yield f"images    {item['instancesDone']} of {item['instancesTotal']} done{failed}; tried {item['attempts']} times"
    yield f"asked by  {item['requestedBy']} at {moment(item['createdAt'])}, priority {item['priority']}" + (
        f", bumped {moment(item['bumpedAt'])}" if item["bumpedAt"] else ""
    )


def _line(item: Mapping[str, Any]) -> Iterator[str]:
    why = item["whyNotMoving"]
    if why:
        until = f" (until {moment(why['until'])})" if why["until"] else ""
        yield f"why       {why['text']}{until}"
        yield f"next      {why['nextStep']}"
    elif item["finishedAt"]:
        yield f"why       it is finished since {moment(item['finishedAt'])}, and lost nothing"
    if item["position"]:
        start = f", begins about {moment(item['estimatedStart'])}" if item["estimatedStart"] else ""
        yield f"place     {item['position']} in the line of its destination{start}"
    if item["errorCode"]:
        yield f"error     {item['errorCode']}: {item['errorMessage'] or ''}"


def _destination(destination: Mapping[str, Any] | None) -> Iterator[str]:
    if destination is None:
        return
    said = [
        f"connection {destination['breaker']}",
        f"{len(destination['slots'])} of {destination['maxConnections']} in use",
    ]
    if destination["heldAt"]:
        said.append(
            f"held by {destination['heldBy']} since {moment(destination['heldAt'])}: {destination['holdReason'] or ''}"
        )
    if destination["nextProbeAt"]:
        said.append(f"tried again {moment(destination['nextProbeAt'])}")
    waiting = ", ".join(
        f"{count['count']} {count['state']}" for count in destination["waiting"] if count["count"]
    )
    yield f"to        {destination['ae']}: {', '.join(said)}; {waiting or 'nothing'} in its line"
    if destination["lastError"]:
        yield f"          its last error: {destination['lastError']}"


def _images(item: Mapping[str, Any]) -> Iterator[str]:
    for node in item["instances"]["nodes"]:
        yield f"image     {node['sopInstanceUid']}: {node['statusHex'] or 'no status'}, {node['explanation'] or ''}"


def _history(item: Mapping[str, Any]) -> Iterator[str]:
    for event in item["history"]["nodes"]:
        said = f" {event['code'] or ''} {event['message'] or ''}".rstrip()
        yield f"{moment(event['at'])}  {event['fromState'] or ''} → {event['toState']} by {event['actor']}{said}"


def explain_study(api: API, study: Mapping[str, object], *, as_json: bool) -> None:
    """Print where a study went, and what each route makes of it. Raises APIError for one that is not there."""
    found = api.ask("study_explained", id=study["id"])
    where = {
        "studyInstanceUid": {"eq": study["studyInstanceUid"]},
        "partition": {"eq": study["partition"]},
    }
    page = api.pages("queue_items", MOST_ITEMS, search=None, where=where, orderBy="NEWEST")
    if found["study"] is None:
        raise APIError("the study is gone meanwhile")
    if as_json:
        print_json({**found, "queueItems": page.nodes})
        return
    lines = [*_study(found["study"]), *map(_item, page.nodes), *_routes(found["explainRoute"]["sources"])]
    if not page.nodes:
        lines.insert(1, "it is in no queue: below is why, route by route")
    for line in lines:
        typer.echo(printable(line))


def _study(study: Mapping[str, Any]) -> Iterator[str]:
    modalities = printable(study["modalities"])
    last = moment(study["lastArrivalAt"])
    yield f"{short(study['id'])}: {study['instanceCount']} images, {modalities}, the last came {last}"
    for unit in study["closeUnits"]:
        why = unit["whyNotMoving"]
        closed = f"{unit['outcome']} at {moment(unit['closedAt'])}" if unit["closedAt"] else "not closed yet"
        yield f"from      {unit['sourceAe']}: {closed}" + (
            f"; {why['text']} {why['nextStep']}" if why else ""
        )


def _item(item: Mapping[str, Any]) -> str:
    why = item["whyNotMoving"]
    done = f"{item['instancesDone']}/{item['instancesTotal']}"
    said = f": {why['text']}" if why else ""
    return f"queue     {short(item['id'])} to {item['destinationAe']} {item['state']} {done}{said}"


def _routes(sources: list[dict[str, Any]]) -> Iterator[str]:
    for source in sources:
        for verdict in source["verdicts"]:
            fits = "fits" if verdict["matches"] else "does not fit"
            to = f" → {', '.join(verdict['to'])}" if verdict["matches"] else ""
            yield f"route     {verdict['route']} {fits} what {source['sourceAe']} sent{to}: {verdict['reason']}"
        if not source["verdicts"]:
            yield f"route     there is none that could take what {source['sourceAe']} sent"
