"""Every GraphQL operation that a reader can copy fits the schema, wherever it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from graphql import build_schema, parse, validate

ROOT = Path(__file__).parents[3]
SCHEMA = build_schema((ROOT / "graphql_api" / "schema.graphql").read_text())
FENCED = re.compile(r"^( *)```graphql\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
IN_A_BODY = re.compile(r"""["']?query["']?: ?(["'])(.+?)\1""")
"""As a member of JSON or JavaScript, such as in a curl command."""


def operations(text: str) -> list[str]:
    """The operations of a page, in fenced blocks and in bodies of requests."""
    return [found for _, found in FENCED.findall(text)] + [found for _, found in IN_A_BODY.findall(text)]


PAGES = [
    path.relative_to(ROOT).as_posix()
    for path in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*/*.md")])
    if operations(path.read_text())
]
GRAPHIQL = sorted((ROOT / "graphql_api/aegate_graphql_api/static/graphiql/examples").glob("*.graphql"))


def wrong(operation: str) -> list[str]:
    return [error.message for error in validate(SCHEMA, parse(operation))]


@pytest.mark.parametrize("page", PAGES)
def test_operations_of_a_page_fit_the_schema(page: str) -> None:
    assert [(text, wrong(text)) for text in operations((ROOT / page).read_text()) if wrong(text)] == []


def test_operations_of_graphiql_fit_the_schema() -> None:
    assert len(GRAPHIQL) == 5
    assert [(file.name, found) for file in GRAPHIQL if (found := wrong(file.read_text()))] == []


def test_operations_are_found_in_each_form() -> None:
    assert {"docs/api/queue.md", "docs/api/live.md", "docs/operations/audit.md"} <= set(PAGES)
    text = """
   ```graphql
   query A { viewer { name } }
   ```
   curl -d '{"query": "{ viewer { name } }"}'
   client.subscribe({ query: 'subscription { nothing }' })
"""
    assert [wrong(found) for found in operations(text)] == [
        [],
        [],
        ["Cannot query field 'nothing' on type 'Subscription'."],
    ]
