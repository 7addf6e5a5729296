"""Resources changed by GraphQL in real pods: under the API's own account, with the rights that the chart gives it."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.cluster.release.hospital import Hospital, ask
from tests.integration.waiting import eventually

KINDS = (
    (
        "ApplicationEntity",
        "applicationEntity",
        '{title: "EDITED", node: "10.1.2.3", port: 104}',
        "{port: 105}",
    ),
    ("ImageRoute", "imageRoute", '{to: ["pacs"]}', '{comment: "of the API"}'),
    ("PatientPartition", "patientPartition", '{issuerOfPatientID: "EDITED"}', '{displayName: "of the API"}'),
)


def change(client: httpx.Client, kind: str, field: str, verb: str, arguments: str) -> str:
    """Change a resource; return its id."""
    answer = f"__typename ... on Problem {{ code message }} ... on {kind}Changed {{ {field} {{ id }} }}"
    data: dict[str, Any] = ask(client, f"mutation {{ {verb}{kind}(input: {{{arguments}}}) {{ {answer} }} }}")
    [result] = data.values()
    assert result["__typename"] == f"{kind}Changed", result
    return str(result[field]["id"])


@pytest.mark.parametrize(("kind", "field", "spec", "edit"), KINDS, ids=[kind for kind, *_ in KINDS])
def test_resource_is_made_edited_and_removed_by_graphql(
    example: Hospital, kind: str, field: str, spec: str, edit: str
) -> None:
    with example.api() as client:
        named = f'namespace: "{example.namespace}", name: "edited"'
        made = change(client, kind, field, "create", f"{named}, spec: {spec}")
        live = example.get(kind.lower(), "edited", "--show-managed-fields")
        managers = {entry["manager"] for entry in live["metadata"]["managedFields"]}
        assert "aegate-api" in managers

        eventually(lambda: _node(client, made), deadline_s=60, what="the index shows it")
        assert change(client, kind, field, "update", f'id: "{made}", spec: {edit}') == made
        assert (
            example.get(kind.lower(), "edited")["metadata"]["generation"]
            == live["metadata"]["generation"] + 1
        )

        change(client, kind, field, "delete", f'id: "{made}"')
        gone = example.get(kind.lower(), "--field-selector=metadata.name=edited")
        assert gone["items"] == []


def _node(client: httpx.Client, id: str) -> Any:
    return ask(client, "query($id: ID!) { node(id: $id) { __typename } }", id=id)["node"]
