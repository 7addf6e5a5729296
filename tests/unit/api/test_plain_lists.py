"""The short way for plain lists answers what graphql-core answers, whatever is selected and whatever the values are."""

from __future__ import annotations

import asyncio
import enum
import gc
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, cast

import pytest
import strawberry
from graphql.execution.collect_fields import CollectedFields
from graphql.execution.executor import Executor
from hypothesis import given
from hypothesis import strategies as st
from strawberry.schema.config import StrawberryConfig
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext
from strawberry.types.execution import PreExecutionError

from aegate_core.database import Database
from aegate_graphql_api.context import Context
from aegate_graphql_api.permissions import Caller
from aegate_graphql_api.plain_lists import PlainListExecutor, Unusual, _reader_of_object
from aegate_graphql_api.schema.scalars import JSON, SCALARS, BigInt

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@strawberry.enum
class Colour(enum.Enum):
    RED = "RED"
    BLUE = "BLUE"


@strawberry.interface
class Named:
    id: strawberry.ID


@strawberry.type
class Leaf:
    text: str
    number: int | None


@strawberry.type
class Other(Named):
    text: str


@strawberry.type
class Thing(Named):
    text: str
    maybe: str | None
    number: int
    share: float
    is_so: bool
    colour: Colour
    colours: list[Colour]
    at: datetime | None
    size: BigInt
    anything: JSON
    leaf: Leaf | None
    leaves: list[Leaf | None]
    tables: list[list[int]]

    @strawberry.field
    def resolved(self) -> str:
        return f"resolved {self.text}"

    @strawberry.field
    async def awaited(self, times: int = 2) -> int:
        return times


@strawberry.type
class Query:
    @strawberry.field
    async def things(self, info: strawberry.Info) -> list[Thing]:
        return cast("list[Thing]", info.root_value)

    @strawberry.field
    def perhaps(self, info: strawberry.Info) -> list[Thing | None] | None:
        return cast("list[Thing | None]", info.root_value)

    @strawberry.field
    def named(self, info: strawberry.Info) -> list[Named]:
        return cast("list[Named]", info.root_value)


SCHEMA = strawberry.Schema(
    query=Query,
    types=[Thing, Other],
    execution_context_class=PlainListExecutor,
    config=StrawberryConfig(scalar_map=SCALARS),
)

TEXTS = st.one_of(st.text(max_size=5), st.none(), st.integers(), st.booleans())
NUMBERS = st.one_of(st.integers(), st.none(), st.booleans(), st.floats(), st.text(max_size=3))
LEAVES = st.builds(Leaf, text=TEXTS, number=NUMBERS)
ODD = st.one_of(st.none(), st.integers(), st.text(max_size=3))


def usually(right: st.SearchStrategy[Any], wrong: st.SearchStrategy[Any] = ODD) -> st.SearchStrategy[Any]:
    """Return mostly right values: a list is answered the short way only when all of its values are right."""
    return st.one_of(*[right] * 5, wrong)


THINGS = st.builds(
    Thing,
    id=usually(st.text(max_size=5), TEXTS),
    text=usually(st.text(max_size=5), TEXTS),
    maybe=usually(st.one_of(st.none(), st.text(max_size=5)), TEXTS),
    number=usually(st.integers(-(2**31), 2**31 - 1), NUMBERS),
    share=usually(st.floats(allow_nan=False, allow_infinity=False), NUMBERS),
    is_so=usually(st.booleans()),
    colour=usually(st.sampled_from(Colour)),
    colours=usually(st.lists(st.sampled_from(Colour), max_size=2)),
    at=usually(st.one_of(st.none(), st.just(NOW))),
    size=usually(st.integers(0, 2**60)),
    anything=st.one_of(st.none(), st.dictionaries(st.text(max_size=2), st.integers(), max_size=2)),
    leaf=usually(st.one_of(st.none(), st.builds(Leaf, text=st.text(max_size=3), number=st.none())), LEAVES),
    leaves=usually(st.lists(st.builds(Leaf, text=st.text(max_size=3), number=st.integers(0, 9)), max_size=2)),
    tables=usually(st.lists(st.lists(st.integers(0, 9), max_size=2), max_size=2)),
)
ITEMS = st.lists(
    usually(THINGS, st.one_of(st.none(), st.builds(Other, id=st.just("o"), text=st.just("t")))), max_size=3
)
LEAF = st.lists(st.sampled_from(["text", "n: number", "__typename"]), min_size=1, max_size=3, unique=True)
PLAIN = st.sampled_from(
    [
        *("id", "text", "other: text", "maybe", "number", "share", "isSo", "colour", "colours", "at", "size"),
        *("anything", "tables", "__typename", "kind: __typename", "text @skip(if: $yes)", "...F"),
        *("at @include(if: $yes)", "... on Thing { number }", "... on Named { id }", "leaf { number }"),
    ]
)
SELECTIONS = st.lists(
    st.one_of(
        *[PLAIN] * 6,
        LEAF.map(lambda names: f"leaf {{ {' '.join(names)} }}"),
        LEAF.map(lambda names: f"leaves {{ {' '.join(names)} }}"),
        st.sampled_from(["resolved", "awaited", "awaited(times: 3)"]),
    ),
    min_size=1,
    max_size=6,
    unique=True,
).filter(lambda names: len([n for n in names if n.startswith("awaited")]) < 2)


async def answered(items: object, field: str, selection: str, *, yes: bool, short: bool) -> object:
    context = Context(cast(Database, None), Caller("anyone", frozenset()), NOW, fast_lists=short)
    query = (
        f"query($yes: Boolean!) {{ {field} {{ {selection} }} q: {field} {{ id @skip(if: $yes) text }} }} "
        "fragment F on Thing { text leaf { text } }"
    )
    if "...F" not in selection:
        query = query.partition(" fragment ")[0]
    result = await SCHEMA.execute(
        query, variable_values={"yes": yes}, context_value=context, root_value=items
    )
    errors = sorted(str(error.formatted) for error in result.errors or ())
    return repr(result.data), errors  # repr: a NaN is like no other


@given(ITEMS, st.sampled_from(["things", "perhaps"]), SELECTIONS, st.booleans())
def test_the_short_way_answers_as_the_long_one(
    items: list[object], field: str, selection: list[str], yes: bool
) -> None:
    asked = " ".join(selection)
    long = asyncio.run(answered(items, field, asked, yes=yes, short=False))
    assert asyncio.run(answered(items, field, asked, yes=yes, short=True)) == long


def thing(**values: object) -> Thing:
    given = {
        **{"id": strawberry.ID("1"), "text": "t", "maybe": None, "number": 1, "share": 0.5, "is_so": True},
        **{"colour": Colour.RED, "colours": [Colour.BLUE], "at": NOW, "size": 2**40, "anything": {"a": 1}},
        **{"leaf": None, "leaves": [Leaf(text="l", number=None)], "tables": [[1], []]},
    }
    return Thing(**cast(Any, given | values))


ODDITIES = (
    None,
    1,
    2**40,
    True,
    1.5,
    float("nan"),
    "",
    "x",
    b"x",
    [],
    [None],
    {},
    Colour.RED,
    ValueError("odd"),
)


@pytest.mark.parametrize("name", [f for f in Thing.__annotations__ if f != "leaves"])
def test_odd_values_are_answered_as_by_the_long_way(name: str) -> None:
    asked = {"is_so": "isSo", "leaf": "leaf { text }"}.get(name, name)
    for odd in ODDITIES:
        items = [thing(), thing(**{name: odd})]
        long = asyncio.run(answered(items, "perhaps", asked, yes=True, short=False))
        assert asyncio.run(answered(items, "perhaps", asked, yes=True, short=True)) == long, odd


def test_a_plain_list_is_answered_without_asking_field_by_field() -> None:
    seen: list[str] = []

    class Counting(PlainListExecutor):
        def execute_field(self, parent_type: Any, *args: Any) -> Any:
            seen.append(parent_type.name)
            return super().execute_field(parent_type, *args)

    schema = strawberry.Schema(
        query=Query, types=[Thing, Other], execution_context_class=Counting, config=SCHEMA.config
    )
    context = Context(cast(Database, None), Caller("anyone", frozenset()), NOW)
    for query, asked_of in (
        ("{ things { id leaves { text } at } }", ["Query"]),
        ("{ perhaps { __typename tables colours } }", ["Query"]),
        ("{ things { id resolved } }", ["Query", "Thing", "Thing", "Thing", "Thing"]),
        ("{ named { id } }", ["Query", "Thing", "Thing"]),
    ):
        seen.clear()
        result = asyncio.run(schema.execute(query, context_value=context, root_value=[thing(), thing()]))
        assert (result.errors, seen) == (None, asked_of), query


def test_what_is_wrong_is_said_by_graphql_itself() -> None:
    for short in (True, False):
        data, errors = cast(
            "tuple[str, list[str]]",
            asyncio.run(answered([thing(number=None)], "things", "number", yes=True, short=short)),
        )
        assert data == "None"
        assert ["Cannot return null for non-nullable field Thing.number." in e for e in errors] == [True]


def test_it_is_made_for_the_executor_that_it_extends() -> None:
    """Another release of graphql-core or Strawberry may have its lists completed elsewhere."""
    assert PlainListExecutor.__mro__[1] is StrawberryGraphQLCoreExecutionContext
    assert "complete_iterable_value" in vars(Executor)
    kind = cast(Any, SCHEMA._schema.type_map["Thing"])
    read = _reader_of_object(kind, (("id", "id", None),))
    assert read(thing()) == {"id": "1"}
    for wrong in (None, Other(id=strawberry.ID("1"), text="t"), thing(id=None)):
        try:
            read(wrong)
        except Unusual:
            continue
        raise AssertionError(f"{wrong} was read")


@strawberry.type
class Endless:
    @strawberry.subscription
    async def told(self) -> AsyncIterator[list[Thing]]:
        while True:
            yield [thing()]


async def test_stream_holds_no_more_after_many_messages_than_after_a_few() -> None:
    schema = strawberry.Schema(
        Query,
        subscription=Endless,
        execution_context_class=PlainListExecutor,
        config=StrawberryConfig(scalar_map=SCALARS),
    )
    context = Context(cast(Database, None), Caller("anyone", frozenset()), NOW)
    stream = await schema.subscribe(
        "subscription { told { id leaves { text } resolved } }", context_value=context
    )
    assert not isinstance(stream, PreExecutionError)
    held = []
    for _ in range(3):
        for _ in range(50):
            assert (await anext(stream)).errors is None
        gc.collect()
        held.append(sum(type(o) is CollectedFields for o in gc.get_objects()))
    await stream.aclose()
    assert held[2] <= held[0]
