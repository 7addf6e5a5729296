"""The contract is committed, everything in it declares who may read it, and operations cost what they should."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from graphql import GraphQLInterfaceType, GraphQLObjectType, get_introspection_query, parse

from aegate_graphql_api import guard, limits
from aegate_graphql_api.authorisation import authorise, needs_of
from aegate_graphql_api.errors import RequestRefused
from aegate_graphql_api.permission import Permission
from aegate_graphql_api.permissions import Caller
from aegate_graphql_api.print_schema import schema_text
from aegate_graphql_api.schema.root import schema

CONTRACT = Path(__file__).parents[3] / "graphql_api" / "schema.graphql"
CORE = schema._schema
NOBODY = Caller("nobody", frozenset({Permission.TOKEN}))


def fields() -> Iterator[tuple[str, str]]:
    for name, kind in CORE.type_map.items():
        if not name.startswith("__") and isinstance(kind, GraphQLObjectType | GraphQLInterfaceType):
            yield from ((name, field) for field in kind.fields)


def test_the_committed_contract_is_the_schema() -> None:
    assert CONTRACT.read_text() == schema_text(), (
        "the schema changed: python -m aegate_graphql_api.print_schema > graphql_api/schema.graphql"
    )


def test_every_field_declares_who_may_read_it() -> None:
    undeclared = [field for field in fields() if field not in needs_of(CORE)]
    assert undeclared == []
    assert len(list(fields())) > 200


def test_a_token_without_permissions_reaches_no_data() -> None:
    open_ = {field for field in fields() if Permission.TOKEN in needs_of(CORE)[field]}
    assert {f for t, f in open_ if t == "Query"} == {"viewer", "node", "nodes"}
    assert {f for t, f in open_ if t == "Mutation"} == set()
    assert {t for t, _ in open_} == {
        "Query",
        "Viewer",
        "Node",
        "PageInfo",
        "TotalCount",
        "Condition",
        "Problem",
        "FieldError",
        "ForbiddenProblem",
        "ValidationProblem",
        "NotFoundProblem",
        "UnavailableProblem",
        *(t for t, _ in open_ if t.endswith(("Connection", "Edge"))),
    }


def test_every_root_field_is_refused_without_its_permission() -> None:
    for kind, name in fields():
        if kind not in ("Query", "Mutation", "Subscription") or name in ("viewer", "node", "nodes"):
            continue
        document = parse(f"{kind.lower()} {{ {name} {{ __typename }} }}")
        with pytest.raises(RequestRefused) as refused:
            authorise(CORE, document, None, NOBODY)
        assert (refused.value.extensions or {})["code"] == "FORBIDDEN"


def test_what_declares_nothing_is_denied_to_everybody() -> None:
    everything = Caller("all", frozenset(Permission))
    with pytest.raises(RequestRefused, match="nobody holds"):
        authorise(CORE, parse("{ secret { name } }"), None, everything)


def test_every_mutation_answers_with_problems() -> None:
    assert CORE.mutation_type is not None
    for name, field in CORE.mutation_type.fields.items():
        union = CORE.type_map[str(field.type).rstrip("!")]
        kinds = {k.name for k in getattr(union, "types", ())}
        assert {"ValidationProblem", "NotFoundProblem", "UnavailableProblem"} <= kinds, name


async def test_a_repeated_operation_is_parsed_and_validated_once() -> None:
    query = "{ viewer { name   permissions } }"
    hits, misses = guard.KEPT.hits, guard.KEPT.misses
    for _ in range(20):
        result = await schema.execute(query, context_value=_Context())
        assert result.errors is None
    assert (guard.KEPT.hits - hits, guard.KEPT.misses - misses) == (19, 1)


async def test_what_is_wrong_is_not_kept_and_drives_nothing_out() -> None:
    good = "{ viewer { name permissions  } }"
    await schema.execute(good, context_value=_Context())
    for number in range(2 * guard.KEPT_DOCUMENTS):
        assert (await schema.execute(f"{{ viewer {{ nam{number} }} }}", context_value=_Context())).errors
    hits = guard.KEPT.hits
    await schema.execute(good, context_value=_Context())
    assert guard.KEPT.hits == hits + 1


def test_so_many_characters_of_documents_are_kept_the_latest_ones() -> None:
    kept = guard.KeptDocuments()
    document, verdict = parse("{ a }"), guard.Verdict([])
    texts = [f"{n:02}" + " " * (guard.KEPT_CHARACTERS // 10) for n in range(20)]
    for text in texts:
        kept.keep(text, True, document, verdict)
    assert [kept.get(text, True) is not None for text in texts] == [False] * 11 + [True] * 9
    assert kept.get(texts[-1], False) is None


async def test_tools_may_read_the_schema() -> None:
    everything = get_introspection_query(
        specified_by_url=True,
        directive_is_repeatable=True,
        schema_description=True,
        input_value_deprecation=True,
    )
    result = await schema.execute(everything, context_value=_Context())
    assert result.errors is None
    assert result.data is not None
    assert len(result.data["__schema"]["types"]) > 50


def test_a_document_costs_the_same_with_and_without_fragments() -> None:
    plain = """{ queueItems(first: 50) { nodes { id state study { id patient { name sex } }
        destination { ae breaker } instances(first: 5) { nodes { state status } } } } }"""
    parts = """{ queueItems(first: 50) { ...Page } } fragment Page on QueueItemConnection { nodes { ...Item } }
        fragment Item on QueueItem { id state study { ...Study } destination { ...Where }
            instances(first: 5) { ...Some } }
        fragment Study on Study { id patient { ...Who } } fragment Who on Patient { name sex }
        fragment Where on Destination { ae breaker }
        fragment Some on DeliveryInstanceConnection { nodes { state status } }"""
    assert limits.weigh(parse(parts)) == limits.weigh(parse(plain))
    assert limits.weigh(parse(plain))[None].cost == 1 + 50 * (1 + 2 + 5 + 3 + 1 + 5 * 3)
    unpaged = "{ queueItems { ...Page } } fragment Page on QueueItemConnection { edges { node { id } } }"
    assert limits.weigh(parse(unpaged))[None].cost == 1 + 50 * 3


class _Context:
    caller = NOBODY
    introspection = True
    cost: int | None = None
    guard_s = 0.0

    def note_judging(self, seconds: float) -> None:
        self.guard_s += seconds
