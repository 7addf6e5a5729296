"""What of a changed schema breaks clients of the release before, and what a deprecation has to say."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from graphql import (
    DirectiveNode,
    GraphQLArgument,
    GraphQLEnumType,
    GraphQLEnumValue,
    GraphQLField,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    ListValueNode,
    is_required_input_field,
    print_ast,
)
from graphql.utilities import DangerousChangeType, find_breaking_changes, find_dangerous_changes

TOLD = re.compile(r"Use .+\. Goes with \d+\.\d+, not before 20\d\d-\d\d-\d\d\.")
"""What the reason of a deprecation says: what to use instead, and when it goes."""

Fields = Mapping[str, GraphQLField]


def breaking(released: GraphQLSchema, now: GraphQLSchema) -> list[str]:
    """Return each change that a client of the release can fail at, as one line; sorted.

    What graphql-core calls dangerous is allowed but for changed defaults: clients are told to expect new enum values,
    members of unions and optional arguments (docs/api/versions.md).
    """
    found = [f"{change.type.name}: {change.description}" for change in find_breaking_changes(released, now)]
    found += [
        f"{change.type.name}: {change.description}"
        for change in find_dangerous_changes(released, now)
        if change.type is DangerousChangeType.ARG_DEFAULT_VALUE_CHANGE
    ]
    return sorted([*found, *_other_defaults(released, now), *_narrowed(released, now)])


def faults(breaks: Sequence[str], waivers: Mapping[str, str]) -> list[str]:
    """Return what is wrong with breaks and their waivers: change to reason."""
    return [
        *(
            f"breaks clients, and graphql_api/released/waivers.yaml does not say why: {b}"
            for b in breaks
            if b not in waivers
        ),
        *(
            f"waived, and does not break anything (any more): take it out: {w}"
            for w in waivers
            if w not in breaks
        ),
        *(f"waived without a reason: say why: {w}" for w, because in waivers.items() if not because.strip()),
    ]


def badly_deprecated(now: GraphQLSchema) -> list[str]:
    """Return each deprecation whose reason does not say what to use instead, and until when it stays."""
    return [
        f"{place}: @deprecated says {reason!r}; it must be like: Use Query.other. Goes with 0.3, not before 2027-06-30."
        for place, reason in _deprecations(now)
        if not TOLD.fullmatch(reason)
    ]


def _deprecations(schema: GraphQLSchema) -> Iterator[tuple[str, str]]:
    for name, kind in schema.type_map.items():
        parts: dict[str, GraphQLEnumValue | GraphQLInputField | GraphQLField | GraphQLArgument] = {}
        if isinstance(kind, GraphQLEnumType):
            parts.update(kind.values)
        if isinstance(kind, GraphQLInputObjectType):
            parts.update(kind.fields)
        for field, output in _fields(kind).items():
            parts[field] = output
            parts.update({f"{field}({argument})": arg for argument, arg in output.args.items()})
        for part, found in parts.items():
            if found.deprecation_reason is not None:
                yield f"{name}.{part}", found.deprecation_reason


def _other_defaults(released: GraphQLSchema, now: GraphQLSchema) -> Iterator[str]:
    """Yield members of inputs that mean something else where they are left out: graphql-core knows arguments alone.

    One that was required was never left out.
    """
    for name, before in released.type_map.items():
        after = now.type_map.get(name)
        if isinstance(before, GraphQLInputObjectType) and isinstance(after, GraphQLInputObjectType):
            for member in before.fields.keys() & after.fields.keys():
                was = before.fields[member]
                if not is_required_input_field(was) and _written(was) != _written(after.fields[member]):
                    yield f"INPUT_DEFAULT_VALUE_CHANGE: {name}.{member} has another default value."


def _written(member: GraphQLInputField) -> str | None:
    """Return a default value as it stands in the SDL."""
    node = member.ast_node
    return print_ast(node.default_value) if node is not None and node.default_value is not None else None


def _narrowed(released: GraphQLSchema, now: GraphQLSchema) -> Iterator[str]:
    """Yield fields that a permission does not open any more which opened them in the release."""
    for name, before in released.type_map.items():
        after = now.type_map.get(name)
        if after is None or name.startswith("__"):
            continue
        for field in _fields(before).keys() & _fields(after).keys():
            opened, opens = _opened_by(before, field), _opened_by(after, field)
            if lost := sorted(opened - opens):
                yield f"ACCESS_NARROWED: {name}.{field} is not open any more to holders of {', '.join(lost)}."


def _opened_by(kind: GraphQLNamedType, field: str) -> frozenset[str]:
    """Return the permissions of ``@access`` on a field, or on its type where the field has none."""
    for node in (_fields(kind)[field].ast_node, kind.ast_node):
        for directive in (node.directives if node is not None else None) or ():
            if directive.name.value == "access":
                return _permissions(directive)
    return frozenset()


def _permissions(directive: DirectiveNode) -> frozenset[str]:
    [argument] = directive.arguments or ()
    assert isinstance(argument.value, ListValueNode), "anyOf is a list"
    return frozenset(str(getattr(value, "value", "")) for value in argument.value.values)


def _fields(kind: GraphQLNamedType) -> Fields:
    return kind.fields if isinstance(kind, GraphQLObjectType | GraphQLInterfaceType) else {}
