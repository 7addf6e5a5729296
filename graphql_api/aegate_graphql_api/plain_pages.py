"""Answers operations that ask for pages of plain rows alone past graphql-core: from the database's rows to JSON.

The surprise: it never says that anything is wrong. Only documents come here that were found good before; permissions
are checked as ever, and the field's own resolver reads the page. Whatever is unusual, in the selection, the arguments
or a value, leaves the whole operation to graphql-core, which does it anew: questions change nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import strawberry
from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    GraphQLError,
    GraphQLField,
    GraphQLObjectType,
    GraphQLSchema,
    OperationDefinitionNode,
    OperationType,
    get_argument_values,
    get_named_type,
    get_variable_values,
    print_ast,
)
from graphql.execution.collect_fields import (
    CollectedFields,
    FieldDetailsList,
    FragmentDetails,
    collect_fields,
    collect_subfields,
)
from graphql.execution.values import VariableValues
from strawberry.types.arguments import convert_arguments

from aegate_graphql_api.connections import Connection
from aegate_graphql_api.context import Context
from aegate_graphql_api.guard import KEPT, Verdict, admit, weigh_in
from aegate_graphql_api.plain_lists import Plan, Unusual, definition_of, object_of, plan_of, reader
from aegate_graphql_api.plain_rows import Wanted

_NO_VARIABLES = VariableValues({}, {})


@dataclass(frozen=True, slots=True)
class _Asked:
    """What resolvers are given as their Info: ours take its context, and nothing else of it."""

    context: Context


@dataclass(frozen=True, slots=True)
class Root:
    """A root field that is a page."""

    node: FieldNode
    field: GraphQLField
    wanted: Wanted
    members: Mapping[str, Callable[[Connection[Any]], Any]]
    """By their names in the answer."""
    arguments: Mapping[str, Any] | None
    """As the resolver takes them; None: they depend on variables."""

    @property
    def resolve(self) -> Callable[..., Awaitable[Connection[Any]]]:
        """The field's own resolver."""
        found: Callable[..., Awaitable[Connection[Any]]] = definition_of(
            self.field
        ).base_resolver.wrapped_func
        return found


@dataclass(frozen=True, slots=True)
class Pages:
    """An operation of pages alone, by their names in the answer; a text stands for itself."""

    operation: OperationDefinitionNode
    roots: Mapping[str, Root | str]


async def answered(
    schema: strawberry.Schema, asked: Mapping[str, Any], context: Context
) -> dict[str, Any] | None:
    """Return the data that answers an operation, or None where graphql-core is to answer it."""
    kept = KEPT.known(asked["query"], context.introspection) if context.fast_lists else None
    if kept is None:
        return None
    document, verdict = kept
    name, variables = asked.get("operationName"), asked.get("variables")
    began = time.thread_time()
    pages = _pages(schema, document, verdict, name)
    context.note_judging(time.thread_time() - began)
    if pages is None:
        return None
    context.document = document
    weigh_in(context, verdict, name)
    named = pages.operation.name.value if pages.operation.name else None
    try:
        admit(schema._schema, document, named, context, variables)
        coerced = _coerced(schema._schema, pages.operation, variables or {})
        return await _told(schema, pages.roots, coerced, context)
    except Exception:  # whatever it is: graphql-core meets it again, and says it as GraphQL does
        return None


def _coerced(
    schema: GraphQLSchema, operation: OperationDefinitionNode, variables: Mapping[str, Any]
) -> VariableValues:
    if not operation.variable_definitions:
        return _NO_VARIABLES
    found = get_variable_values(schema, operation.variable_definitions, dict(variables), max_errors=1)
    if isinstance(found, list):
        raise Unusual
    return found


async def _told(
    schema: strawberry.Schema, roots: Mapping[str, Root | str], variables: VariableValues, context: Context
) -> dict[str, Any]:
    if len(roots) == 1:
        ((name, only),) = roots.items()
        return {name: only if isinstance(only, str) else await _page(schema, only, variables, context)}
    async with asyncio.TaskGroup() as group:
        reading = {
            name: root
            if isinstance(root, str)
            else group.create_task(_page(schema, root, variables, context))
            for name, root in roots.items()
        }
    return {name: read if isinstance(read, str) else read.result() for name, read in reading.items()}


async def _page(
    schema: strawberry.Schema, root: Root, variables: VariableValues, context: Context
) -> dict[str, Any]:
    arguments = root.arguments
    if arguments is None:
        arguments = _arguments(schema, root.field, root.node, variables)
    page = await root.resolve(info=_Asked(replace(context, wanted=root.wanted)), **arguments)
    if not page.is_plain:
        raise Unusual
    return {name: member(page) for name, member in root.members.items()}


def _arguments(
    schema: strawberry.Schema, field: GraphQLField, node: FieldNode, variables: VariableValues
) -> dict[str, Any]:
    """Return a field's arguments as its resolver takes them."""
    registry = schema.schema_converter.scalar_registry
    given = get_argument_values(field, node, variables)
    return convert_arguments(given, definition_of(field).arguments, registry, schema.config)


def _pages(
    schema: strawberry.Schema, document: DocumentNode, verdict: Verdict, name: str | None
) -> Pages | None:
    """Return what a good document's operation asks for; None where that is more than pages of plain rows."""
    if name in verdict.pages:
        return verdict.pages[name]
    operations = [d for d in document.definitions if isinstance(d, OperationDefinitionNode)]
    if name is not None:
        operations = [d for d in operations if d.name is not None and d.name.value == name]
    if len(operations) != 1:
        return None
    try:
        found = _Planning(schema, document, operations[0]).pages()
    except (Unusual, GraphQLError):
        found = None
    verdict.pages[name] = found
    return found


class _Planning:
    """Looks at what an operation selects, once."""

    def __init__(
        self, schema: strawberry.Schema, document: DocumentNode, operation: OperationDefinitionNode
    ) -> None:
        self._schema = schema
        self._operation = operation
        self._fragments = {
            d.name.value: FragmentDetails(d)
            for d in document.definitions
            if isinstance(d, FragmentDefinitionNode)
        }
        self._has_directives = "@" in print_ast(document)

    def pages(self) -> Pages:
        """Return what it asks for. Raises Unusual for more than pages of plain rows."""
        query = self._schema._schema.query_type
        if self._operation.operation is not OperationType.QUERY or self._has_directives or query is None:
            raise Unusual
        selected = collect_fields(
            self._schema._schema, self._fragments, _NO_VARIABLES, query, self._operation
        )
        roots: dict[str, Root | str] = {}
        for response_name, of_field in selected.grouped_field_set.items():
            name = of_field[0].node.name.value
            if name == "__typename":
                roots[response_name] = query.name
            elif (field := query.fields.get(name)) is not None:
                roots[response_name] = self._root(field, of_field)
            else:
                raise Unusual  # __schema and __type
        return Pages(self._operation, roots)

    def _root(self, field: GraphQLField, of_field: FieldDetailsList) -> Root:
        page = object_of(field.type)
        if not issubclass(definition_of(page).origin, Connection) or not _is_plain_function(
            definition_of(field)
        ):
            raise Unusual
        members: dict[str, Callable[[Connection[Any]], Any]] = {}
        plan: Plan | None = None
        has_page_info = False
        for response_name, of_member in self._collect(page, of_field).grouped_field_set.items():
            name = of_member[0].node.name.value
            if name == "nodes" and plan is None:
                plan = self._plan(page, name, of_member)
                members[response_name] = lambda found: found.nodes
            elif name == "pageInfo":
                has_page_info = True
                members[response_name] = _of_page_info(page, self._plan(page, name, of_member))
            elif name == "__typename":
                members[response_name] = lambda _: page.name
            else:
                raise Unusual
        if plan is None:
            raise Unusual
        node, arguments = of_field[0].node, None
        if "$" not in print_ast(node):
            arguments = _arguments(self._schema, field, node, _NO_VARIABLES)
        wanted = Wanted(page.fields["nodes"].type, plan, has_page_info)
        return Root(node, field, wanted, members, arguments)

    def _plan(self, page: GraphQLObjectType, name: str, of_member: FieldDetailsList) -> Plan:
        return plan_of(object_of(get_named_type(page.fields[name].type)), of_member, self._collect)

    def _collect(self, kind: GraphQLObjectType, of_field: FieldDetailsList) -> CollectedFields:
        return collect_subfields(
            self._schema._schema, self._fragments, _NO_VARIABLES, self._operation, kind, of_field
        )


def _of_page_info(page: GraphQLObjectType, plan: Plan) -> Callable[[Connection[Any]], Any]:
    read = reader(page.fields["pageInfo"].type, plan)
    return lambda found: read(found.page_info)


def _is_plain_function(field: Any) -> bool:
    """Whether a field is resolved by a coroutine of its context and arguments, and nothing else stands between."""
    resolver = field.base_resolver
    return bool(
        resolver
        and resolver.is_async
        and resolver.info_parameter
        and resolver.info_parameter.name == "info"
        and not (resolver.self_parameter or resolver.root_parameter or resolver.parent_parameter)
        and not (field.extensions or field.permission_classes)
    )
