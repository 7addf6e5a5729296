"""GraphiQL's example operations answer, and its page fetches just those that are there."""

from __future__ import annotations

import re
from pathlib import Path

import httpx

from tests.integration.docs.hospital import hospital
from tests.integration.docs.pages import ROOT, Step
from tests.integration.docs.test_api_pages import ask

PAGE = ROOT / "graphql_api" / "aegate_graphql_api" / "static" / "graphiql"


async def test_examples_of_graphiql_answer(database_url: str, tmp_path: Path) -> None:
    listed = re.search(r"const EXAMPLES = \[(.*?)\];", (PAGE / "page.js").read_text(), re.DOTALL)
    assert listed is not None
    names = re.findall(r'"([^"]+)"', listed[1])
    assert sorted(names) == sorted(file.stem for file in (PAGE / "examples").iterdir())
    async with hospital(database_url, tmp_path) as (served, token):
        site = served.http.removesuffix("/graphql")
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(headers=headers, timeout=60) as client:
            for name in names:
                text = (await client.get(f"{site}/graphiql/examples/{name}.graphql")).text
                assert text == (PAGE / "examples" / f"{name}.graphql").read_text()
                answer = await ask(client, served.http, Step("graphiql", text), {})
                assert "errors" not in answer, name
                assert answer["data"], name
