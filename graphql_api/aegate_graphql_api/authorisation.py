"""May this caller run this operation? Answered once, before it runs, from what the schema declares.

The document is walked with its types, each fragment once, and the needs of all selected fields are gathered; the
result is kept by document. A field without a declaration is denied to everybody: `needs_of` has no entry for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionSetNode,
    get_named_type,
)

from aegate_graphql_api.errors import RequestRefused
from aegate_graphql_api.permission import Permission
from aegate_graphql_api.permissions import Access, Caller

Need = frozenset[Permission]
"""Any one of them is enough; empty: denied to everybody."""

_DENIED: Need = frozenset()


@lru_cache(maxsize=8)
def needs_of(schema: GraphQLSchema) -> Mapping[tuple[str, str], Need]:
    """Return who may read which field, by type and field name; undeclared fields are absent."""
    found: dict[tuple[str, str], Need] = {}
    for name, kind in schema.type_map.items():
        if name.startswith("__") or not isinstance(kind, GraphQLObjectType | GraphQLInterfaceType):
            continue
        of_type = declared(kind.extensions.get("strawberry-definition"))
        for field_name, field in kind.fields.items():
            need = declared(field.extensions.get("strawberry-definition")) or of_type
            if need:
                found[name, field_name] = need
    return found


def declared(definition: object) -> Need | None:
    """Return what a Strawberry definition declares by ``@access``, or None."""
    for directive in getattr(definition, "directives", None) or ():
        if isinstance(directive, Access):
            return frozenset(directive.any_of)
    return None


def authorise(schema: GraphQLSchema, document: DocumentNode, operation: str | None, caller: Caller) -> None:
    """Raise RequestRefused FORBIDDEN naming the first field that ``caller`` may not select, and what it needs."""
    for place, need in _needs(schema, document, operation):
        if not caller.holds_any(need):
            forbid(place, need)


def forbid(place: str, need: Need) -> None:
    """Raise RequestRefused FORBIDDEN for ``place``."""
    wanted = sorted(p.value for p in need)
    asked = " or ".join(wanted) if wanted else "a permission that nobody holds"
    raise RequestRefused(
        "FORBIDDEN", f"{place} needs {asked}: ask your administrator for a token with it", needs=wanted
    )


@lru_cache(maxsize=64)
def _needs(
    schema: GraphQLSchema, document: DocumentNode, operation: str | None
) -> tuple[tuple[str, Need], ...]:
    needs = needs_of(schema)
    found = [(field, needs.get(field, _DENIED)) for field in selected_fields(schema, document, operation)]
    first: dict[Need, str] = {}
    for field, need in found:
        first.setdefault(need, ".".join(field))
    return tuple((place, need) for need, place in first.items())


@lru_cache(maxsize=64)
def selected_fields(
    schema: GraphQLSchema, document: DocumentNode, operation: str | None
) -> tuple[tuple[str, str], ...]:
    """Return type and name of every field that the operation selects, each once, in the document's order."""
    walk = _Walk(schema, document)
    found: dict[tuple[str, str], None] = {}
    for definition in document.definitions:
        if isinstance(definition, OperationDefinitionNode) and (
            operation is None or (definition.name is not None and definition.name.value == operation)
        ):
            root = schema.get_root_type(definition.operation)
            found.update(dict.fromkeys(walk.selection(root, definition.selection_set)))
    return tuple(found)


class _Walk:
    def __init__(self, schema: GraphQLSchema, document: DocumentNode) -> None:
        self._schema = schema
        self._seen: set[str] = set()
        self._fragments = {
            d.name.value: d for d in document.definitions if isinstance(d, FragmentDefinitionNode)
        }

    def selection(
        self, parent: GraphQLNamedType | None, selected: SelectionSetNode | None
    ) -> Iterator[tuple[str, str]]:
        for node in selected.selections if selected else ():
            if isinstance(node, FieldNode):
                yield from self._field(parent, node)
            elif isinstance(node, InlineFragmentNode):
                condition = node.type_condition
                kind = self._schema.get_type(condition.name.value) if condition else parent
                yield from self.selection(kind, node.selection_set)
            elif isinstance(node, FragmentSpreadNode) and node.name.value not in self._seen:
                self._seen.add(node.name.value)
                fragment = self._fragments[node.name.value]
                kind = self._schema.get_type(fragment.type_condition.name.value)
                yield from self.selection(kind, fragment.selection_set)

    def _field(self, parent: GraphQLNamedType | None, node: FieldNode) -> Iterator[tuple[str, str]]:
        name = node.name.value
        if name.startswith("__"):
            return  # introspection, for every valid token
        yield parent.name if parent else "?", name
        if isinstance(parent, GraphQLObjectType | GraphQLInterfaceType) and name in parent.fields:
            yield from self.selection(get_named_type(parent.fields[name].type), node.selection_set)
