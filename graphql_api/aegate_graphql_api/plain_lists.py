"""Answers a list of objects of which only attributes are asked by one generated function, instead of field by field.

The surprise: it never says that anything is wrong. What is unusual in a selection (a resolver, arguments, an abstract
type) or in a value (null where none may be, another class) is left to graphql-core, which does the whole list anew and
says what and where. Permissions, limits and the audit come before either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, cast

from graphql import (
    GraphQLLeafType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLResolveInfo,
    get_named_type,
    is_leaf_type,
)
from graphql.execution.collect_fields import CollectedFields, FieldDetailsList
from graphql.pyutils import AwaitableOrValue, Path, Undefined
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext

from aegate_graphql_api.context import Context

Read = Callable[[Any], Any]
Plan = tuple[tuple[str, str, "Plan | None"], ...]
"""Of each selected field: the name in the answer, the name in the schema, what is selected of it."""

_MOST_READERS = 512
AS_IT_IS = {
    "String": "{0}.__class__ is str",
    "ID": "{0}.__class__ is str",
    "Boolean": "{0}.__class__ is bool",
    "Int": "{0}.__class__ is int and -2147483648 <= {0} <= 2147483647",
}
"""What a value must be for its scalar to leave it as it is."""


class Unusual(Exception):
    """A selection or a value that is graphql-core's to answer."""


class PlainListExecutor(StrawberryGraphQLCoreExecutionContext):
    """graphql-core's executor with a shorter way for plain lists."""

    def build_per_event_executor(self, payload: Any) -> PlainListExecutor:
        """Return the executor of one event of a subscription.

        graphql-core's holds for all events what it has collected for each, until the subscription ends: 2 kB a message.
        """
        executor = cast("PlainListExecutor", super().build_per_event_executor(payload))
        executor._relevant_sub_fields = {}
        return executor

    def complete_iterable_value(  # noqa: PLR0913 - as graphql-core has it
        self,
        item_type: GraphQLOutputType,
        field_details_list: FieldDetailsList,
        info: GraphQLResolveInfo[Any],
        path: Path,
        items: Iterable[Any],
        position_context: Any,
    ) -> AwaitableOrValue[list[Any]]:
        """Complete a list; see the class it is of."""
        if type(items) is list and self._may_be_short(position_context):
            try:
                plan = plan_of(object_of(item_type), field_details_list, self.collect_subfields)
                read = reader(item_type, plan)
                return [read(item) for item in items]
            except Exception:  # whatever it is: graphql-core meets it again, and says it as GraphQL does
                pass
        return super().complete_iterable_value(
            item_type, field_details_list, info, path, items, position_context
        )

    def _may_be_short(self, position_context: Any) -> bool:
        middleware = self.middleware_manager
        is_usual = position_context is None and not (middleware and middleware.middlewares)
        return is_usual and isinstance(self.context_value, Context) and self.context_value.fast_lists


def plan_of(
    kind: GraphQLObjectType,
    details: FieldDetailsList,
    collect: Callable[[GraphQLObjectType, FieldDetailsList], CollectedFields],
) -> Plan:
    """Return what is selected of an object. Raises Unusual for what is more than attributes."""
    grouped, deferred, _ = collect(kind, details)
    if deferred:
        raise Unusual
    found = []
    for response_name, of_field in grouped.items():
        name = of_field[0].node.name.value
        below = None
        if name != "__typename":
            field = kind.fields[name]
            if field.args or not getattr(field.resolve, "_is_default", False):
                raise Unusual
            named = get_named_type(field.type)
            below = None if is_leaf_type(named) else plan_of(object_of(named), of_field, collect)
        found.append((response_name, name, below))
    return tuple(found)


def object_of(kind: Any) -> GraphQLObjectType:
    """Return an object type without its exclamation mark. Raises Unusual for another kind of type."""
    named = _without_bang(kind)
    if not isinstance(named, GraphQLObjectType):
        raise Unusual
    return named


@lru_cache(maxsize=_MOST_READERS)
def reader(kind: GraphQLOutputType, plan: Plan | None) -> Read:
    """Return a function from a value of ``kind`` to its answer; it raises whatever it likes for what is unusual."""
    if isinstance(kind, GraphQLNonNull):
        return _present(kind.of_type, plan)
    read = _present(kind, plan)
    return lambda value: None if value is None else read(value)


def _present(kind: Any, plan: Plan | None) -> Read:
    """Return a reader that raises for None."""
    if isinstance(kind, GraphQLList):
        return _reader_of_list(reader(kind.of_type, plan))
    if is_leaf_type(kind):
        return _reader_of_leaf(kind)
    if plan is None:
        raise AssertionError(f"{kind} is an object, and nothing of it is selected")
    return _reader_of_object(object_of(kind), plan)


def _reader_of_list(read: Read) -> Read:
    def read_list(value: object) -> Any:
        if type(value) is not list:
            raise Unusual
        return [read(item) for item in value]

    return read_list


def _reader_of_leaf(kind: GraphQLLeafType) -> Read:
    def read_leaf(value: object) -> Any:
        if value is None or isinstance(value, Exception):
            raise Unusual
        coerced = kind.coerce_output_value(value)
        if coerced is None or coerced is Undefined:
            raise Unusual
        return coerced

    return read_leaf


def _reader_of_object(kind: GraphQLObjectType, plan: Plan) -> Read:
    """Write a function of straight lines: names in it are of GraphQL and of our classes, letters and digits alone."""
    bound: dict[str, Any] = {"Unusual": Unusual, "origin": definition_of(kind).origin}
    lines = ["def read(item):"]
    lines += ["    if item is None or isinstance(item, Exception): raise Unusual"]
    if kind.is_type_of:
        lines += ["    if item.__class__ is not origin: raise Unusual"]
    members = []
    for n, (response_name, name, below) in enumerate(plan):
        if name == "__typename":
            members.append(f"{response_name!r}: {kind.name!r}")
            continue
        field = kind.fields[name]
        bound[f"read{n}"] = reader(field.type, below)
        lines.append(f"    v{n} = item.{definition_of(field).python_name}")
        is_leaf = AS_IT_IS.get(name_of(field.type), "False")
        lines.append(f"    if not ({is_leaf.format(f'v{n}')}): v{n} = read{n}(v{n})")
        members.append(f"{response_name!r}: v{n}")
    lines.append(f"    return {{{', '.join(members)}}}")
    exec("\n".join(lines), bound)
    read: Read = bound["read"]
    return read


def definition_of(thing: Any) -> Any:
    """Return what Strawberry made a type or field of."""
    return thing.extensions["strawberry-definition"]


def name_of(kind: GraphQLOutputType) -> str:
    """Return the name of a type without its exclamation mark; '' for a list, which has none."""
    return getattr(_without_bang(kind), "name", "")


def _without_bang(kind: Any) -> Any:
    return kind.of_type if isinstance(kind, GraphQLNonNull) else kind
