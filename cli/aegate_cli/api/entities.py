"""Application Entities of the API by what people call them, and as manifests."""

from __future__ import annotations

from typing import Any

from aegate_cli.api.client import API
from aegate_cli.api.errors import APIError
from aegate_cli.api.names import MOST_LISTED, named

API_VERSION = "aegate.dev/v1alpha1"


def find_entity(api: API, text: str) -> dict[str, Any]:
    """Return the one AE that is meant: by name, namespace/name or title. Raises APIError for none and for several."""
    wanted = named(text)
    namespace, _, name = wanted.get("eq", "").partition("/")
    where = (
        {"namespace": {"eq": namespace}, "name": {"eq": name}}
        if name
        else {"name": {"eq": wanted["matches"].removeprefix("*/")}}
    )
    page = api.pages("entities", MOST_LISTED, search=None, where=where)
    if len(page.nodes) == 1:
        return page.nodes[0]
    if page.nodes:
        names = ", ".join(f"{node['namespace']}/{node['name']}" for node in page.nodes)
        raise APIError(f"several Application Entities have this name: write one of {names}")
    raise APIError(
        "there is no such Application Entity, or none that your token may see: `aegate ae list` shows them"
    )


def manifest_of(node: dict[str, Any]) -> dict[str, Any]:
    """Return an AE as a manifest that `aegate ae apply` and a cluster take."""
    metadata: dict[str, Any] = {"name": node["name"], "namespace": node["namespace"]}
    if node["labels"]:
        metadata["labels"] = node["labels"]
    metadata["resourceVersion"] = node["version"]
    return {
        "apiVersion": API_VERSION,
        "kind": "ApplicationEntity",
        "metadata": metadata,
        "spec": node["spec"],
    }
