"""Everything in the schema has its sentence, for a reader who knows no DICOM; so has every code of an error."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLSchema,
    build_schema,
    is_specified_directive,
    is_specified_scalar_type,
)

from aegate_graphql_api import mutations
from aegate_graphql_api.errors import CODES
from aegate_graphql_api.schema.root import schema

DOCS = Path(__file__).parents[3] / "docs" / "api"
MUTATIONS = Path(mutations.__file__).parent
SHORTEST = 8
"""Characters: `It goes.` What is shorter says nothing."""


def said(of: GraphQLSchema) -> Iterator[tuple[str, str | None]]:
    """Yield what the schema says of each of its parts. Arguments of directives are told with the directive."""
    for directive in of.directives:
        if not is_specified_directive(directive):
            yield f"@{directive.name}", directive.description
    for name, kind in of.type_map.items():
        if name.startswith("__") or is_specified_scalar_type(kind):
            continue
        yield name, kind.description
        if isinstance(kind, GraphQLEnumType):
            yield from ((f"{name}.{value}", found.description) for value, found in kind.values.items())
        if isinstance(kind, GraphQLObjectType | GraphQLInterfaceType | GraphQLInputObjectType):
            for field, found in kind.fields.items():
                yield f"{name}.{field}", found.description
        if isinstance(kind, GraphQLObjectType | GraphQLInterfaceType):
            for field, output in kind.fields.items():
                yield from ((f"{name}.{field}({a})", arg.description) for a, arg in output.args.items())


def without_sentence(of: GraphQLSchema) -> list[str]:
    return [
        part
        for part, text in said(of)
        if text is None or len(text.strip()) < SHORTEST or not text.rstrip().endswith((".", ").", "}."))
    ]


def test_every_order_says_whether_a_row_may_move_while_one_pages() -> None:
    told = {}
    for kind in schema._schema.type_map.values():
        if isinstance(kind, GraphQLEnumType) and kind.name.endswith("Order"):
            for value, found in kind.values.items():
                told[f"{kind.name}.{value}"] = f"{kind.description} {found.description}"
    assert len(told) >= 18
    says = re.compile("while you page .* may be missed|place never changes|both are stable")
    assert [name for name, text in told.items() if not says.search(text)] == []


def test_every_part_of_the_schema_has_its_sentence() -> None:
    assert without_sentence(schema._schema) == []
    assert len(list(said(schema._schema))) > 1_000


@pytest.mark.parametrize(
    ("sdl", "bare"),
    [
        ('"Told well." type Query { a: Int }', ["Query.a"]),
        ('"Told well." type Query { "Told well." a("Told well." x: Int, y: Int): Int }', ["Query.a(y)"]),
        (
            '"Told well." type Query { "Told well." a: E } "No full stop" enum E { "Told well." X Y }',
            ["E", "E.Y"],
        ),
        (
            '"Told well." type Query { "Told well." a("Told well." i: I): Int } "Told well." input I { b: Int }',
            ["I.b"],
        ),
        ('"Told well." type Query { "Told well." a: U } union U = Query', ["U"]),
        ('directive @d on OBJECT "Told well." type Query { "Told well." a: Int }', ["@d"]),
    ],
)
def test_a_part_without_a_sentence_is_named(sdl: str, bare: list[str]) -> None:
    assert without_sentence(build_schema(sdl)) == bare


def rows(heading: str) -> dict[str, str]:
    """The table under a heading of the page on errors: code to the rest of its row."""
    section = (DOCS / "errors.md").read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    found = [
        line.removeprefix("| `").split("` | ", 1) for line in section.splitlines() if line.startswith("| `")
    ]
    return {code: rest.removesuffix(" |") for code, rest in found}


def test_every_code_of_an_error_has_its_sentence_in_the_documentation() -> None:
    assert rows("Codes of errors") == dict(CODES)


def test_every_code_of_a_problem_is_told_in_the_schema_and_in_the_documentation() -> None:
    sources = "".join(path.read_text() for path in MUTATIONS.glob("*.py"))
    made = set(re.findall(r'code="([A-Z_]+)"', sources))
    problem = schema._schema.type_map["Problem"]
    assert isinstance(problem, GraphQLInterfaceType)
    assert set(re.findall(r"[A-Z_]{5,}", problem.fields["code"].description or "")) == made
    assert rows("Codes of problems").keys() == made
    kinds = {t.name for t in schema._schema.get_implementations(problem).objects}
    assert set(re.findall(r"`(\w+Problem)`", str(rows("Codes of problems")))) == kinds
