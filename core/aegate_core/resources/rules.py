"""Evaluate the CEL rules of a schema (``x-kubernetes-validations``) over a value that the schema accepts.

A rule that names ``oldSelf`` is a transition rule: it holds only where there is an older value to compare
with. As in an API server, old and new values find one another by member name and by the keys of map lists,
never by a list's position.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from aegate_core.resources.cel import Expression, RuleFailed, compile_expression, to_cel
from aegate_core.resources.problems import Path, Violation, show
from aegate_core.resources.schema import Schema, items_of, member_schema, properties


@dataclass(frozen=True, slots=True)
class Rule:
    """One entry of ``x-kubernetes-validations``."""

    expression: Expression
    message: str
    message_expression: Expression | None
    field_path: Path


def rules_of(schema: Schema) -> list[Rule]:
    """Return the rules of one schema node. Raises InvalidResource for one that does not compile."""
    entries = schema.get("x-kubernetes-validations")
    found = []
    for entry in entries if isinstance(entries, list) else []:
        text = str(entry.get("rule", ""))
        message = str(entry.get("message") or f"failed rule: {text}")
        by_expression = entry.get("messageExpression")
        field_path = (
            tuple(str(entry.get("fieldPath", "")).strip(".").split(".")) if entry.get("fieldPath") else ()
        )
        found.append(
            Rule(
                compile_expression(text),
                message,
                compile_expression(str(by_expression)) if by_expression else None,
                field_path,
            )
        )
    return found


def check_rules(value: object, old: object, schema: Schema, path: Path = ()) -> Iterator[Violation]:
    """Yield what the rules refuse in ``value``, whose older version is ``old`` (None: it is new)."""
    entries = rules_of(schema)
    if entries:
        current = to_cel(value, schema)
        before = None if old is None else to_cel(old, schema)
        for rule in entries:
            yield from _check_rule(rule, current, before, path)
    if isinstance(value, Mapping):
        known = old if isinstance(old, Mapping) else {}
        for name, member in value.items():
            yield from check_rules(member, known.get(name), member_schema(schema, name), (*path, name))
    elif isinstance(value, list):
        for n, item in enumerate(value):
            yield from check_rules(item, _older_item(item, old, schema), items_of(schema), (*path, n))


def _check_rule(rule: Rule, current: object, before: object, path: Path) -> Iterator[Violation]:
    if rule.expression.is_transition and before is None:
        return
    at = (*path, *rule.field_path)
    try:
        if rule.expression.evaluate(current, before) is True:
            return
    except RuleFailed as error:
        yield Violation(
            at, f"a value for which the rule can be evaluated ({rule.expression.text})", str(error)
        )
        return
    yield Violation(at, _message(rule, current, before), _got(current, rule.field_path), is_rule=True)


def _message(rule: Rule, current: object, before: object) -> str:
    """Return the rule's own words; as in an API server, a failing messageExpression gives way to message."""
    if rule.message_expression is not None:
        try:
            text = rule.message_expression.evaluate(current, before)
        except RuleFailed:
            return rule.message
        if isinstance(text, str) and text.strip() and "\n" not in text:
            return text
    return rule.message


def _got(current: object, field_path: Path) -> str:
    """Return the value that a rule speaks of; an empty text for a whole object, which says nothing."""
    value: object = current
    for name in field_path:
        value = value.get(str(name)) if isinstance(value, Mapping) else None
    if value is None:
        return "nothing"
    return "" if isinstance(value, Mapping) else show(value)


def _older_item(item: object, old: object, schema: Schema) -> object:
    keys = schema.get("x-kubernetes-list-map-keys")
    if not (isinstance(keys, list) and isinstance(old, list) and isinstance(item, Mapping)):
        return None
    wanted = [item.get(key) for key in keys]
    for candidate in old:
        if isinstance(candidate, Mapping) and [candidate.get(key) for key in keys] == wanted:
            return candidate
    return None


def compile_all(schema: Schema) -> int:
    """Compile every rule below ``schema`` and return how many there are. Raises InvalidResource."""
    count = len(rules_of(schema))
    below = [*properties(schema).values(), items_of(schema), member_schema(schema, "")]
    return count + sum(compile_all(child) for child in below if child)
