"""How soon what one replica of the API has changed is read on another, while the operator keeps what both read."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from aegate_core.dicom.identifiers import ResourceKey
from aegate_graphql_api.tokens import create_token
from tests.cluster.lab.lab import Lab
from tests.integration.api.test_process import api_process
from tests.integration.waiting import eventually

_FIND = """query($namespace: String!, $name: String!) {
  applicationEntities(first: 1, where: {namespace: {eq: $namespace}, name: {eq: $name}}) { nodes { id comment } } }"""
_EDIT = """mutation($id: ID!, $comment: String!) {
  updateApplicationEntity(input: {id: $id, spec: {comment: $comment}, takeOver: true}) {
    __typename ... on Problem { code message } } }"""


@contextmanager
def two_replicas(lab: Lab, folder: Path, database_url: str) -> Iterator[tuple[httpx.Client, httpx.Client]]:
    """Run two processes of the API on the cluster, and yield clients that may change AEs."""
    folder.mkdir()
    token = create_token(folder / "tokens.json", "proof", ["AE_EDITOR"])
    environ = {"AEGATE_RESOURCES": "cluster", "KUBECONFIG": str(lab.kubeconfig)}
    with (
        api_process(folder, database_url, "one", **environ) as (one, _),
        api_process(folder, database_url, "two", **environ) as (two, _),
    ):
        for client in (one, two):
            client.headers["Authorization"] = f"Bearer {token}"
        yield one, two


def seen_after_s(writes: httpx.Client, reads: httpx.Client, key: ResourceKey, comment: str) -> float:
    """Change an AE through one replica; return the seconds from its answer until the other one shows the change."""
    [entity] = _entities(writes, key)
    changed = _ask(writes, _EDIT, id=entity["id"], comment=comment)["updateApplicationEntity"]
    assert changed["__typename"] == "ApplicationEntityChanged", changed
    answered = time.monotonic()
    eventually(lambda: _entities(reads, key)[0]["comment"] == comment, deadline_s=60)
    return time.monotonic() - answered


def _entities(client: httpx.Client, key: ResourceKey) -> list[dict[str, Any]]:
    page = _ask(client, _FIND, namespace=key.namespace, name=key.name)["applicationEntities"]
    nodes: list[dict[str, Any]] = page["nodes"]
    return nodes


def _ask(client: httpx.Client, query: str, **variables: str) -> dict[str, Any]:
    answer = client.post("/graphql", json={"query": query, "variables": variables}).json()
    assert "errors" not in answer, answer["errors"]
    data: dict[str, Any] = answer["data"]
    return data
