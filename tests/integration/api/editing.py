"""Application Entities changed through GraphQL, wherever they are kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx

ANSWER = """
  __typename
  ... on ApplicationEntityChanged {
    dryRun
    applicationEntity { id name title port comment enabled generation version isStale labels spec }
  }
  ... on Problem { code message }
  ... on ValidationProblem { fieldErrors { field message } }
  ... on ManagedElsewhereProblem { manager fields canTakeOver }
  ... on ResourceConflictProblem { current { ... on ApplicationEntity { version port comment } } }
"""
LIST = "{ applicationEntities { nodes { id name version port generation isStale } } }"


@dataclass
class Editor:
    """A holder of AE_EDITOR."""

    client: httpx.AsyncClient
    token: str

    async def ask(self, query: str, **variables: Any) -> Any:
        headers = {"Authorization": f"Bearer {self.token}"}
        body = {"query": query, "variables": variables}
        answer = (await self.client.post("/graphql", json=body, headers=headers)).json()
        assert "errors" not in answer, answer["errors"]
        return answer["data"]

    async def change(self, field: str, arguments: str, **variables: Any) -> Any:
        """Change something; each variable is a pair of its type and its value."""
        declared = ", ".join(f"${name}: {kind}" for name, (kind, _) in variables.items())
        header = f"({declared})" if declared else ""
        kind = "query" if field.startswith("validate") else "mutation"
        query = f"{kind}{header} {{ {field}({arguments}) {{ {ANSWER} }} }}"
        data = await self.ask(query, **{name: value for name, (_, value) in variables.items()})
        return data[field]

    async def update(self, name: str, spec: str, more: str = "") -> Any:
        id = (await self.seen(name))["id"]
        arguments = f"input: {{id: $id, spec: {{{spec}}} {more}}}"
        return await self.change("updateApplicationEntity", arguments, id=("ID!", id))

    async def seen(self, name: str) -> dict[str, Any]:
        """Return what the list says of an AE, nothing where it is not in it."""
        nodes = (await self.ask(LIST))["applicationEntities"]["nodes"]
        found: dict[str, Any] = next((node for node in nodes if node["name"] == name), {})
        return found
