"""Evaluate the CEL rules of a schema (``x-kubernetes-validations``) over a value that the schema accepts.

A rule that names ``oldSelf`` is a transition rule: it holds only where there is an older value to compare
with, or always where ``optionalOldSelf`` says so. Any other rule lets pass what did not change. As in an API
server, old and new values find one another by member name and by the keys of map lists, never by a list's position.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from aegate_core.resources.cel import Expression, RuleFailed, compile_expression, to_cel
from aegate_core.resources.cel_functions import optional
from aegate_core.resources.problems import Path, Violation, show
from aegate_core.resources.schema import Schema, is_same, items_of, member_schema, older_item, properties


@dataclass(frozen=True, slots=True)
class Rule:
    """One entry of ``x-kubernetes-validations``."""

    expression: Expression
    message: str
    message_expression: Expression | None
    field_path: Path
    is_old_optional: bool
    """``oldSelf`` is an optional, and the rule holds for new values, too (``optionalOldSelf``)."""


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
                entry.get("optionalOldSelf") is True,
            )
        )
    return found


def check_rules(
    value: object, old: object, schema: Schema, path: Path = (), *, is_unchanged: bool = False
) -> Iterator[Violation]:
    """Yield what the rules refuse in ``value``, whose older version is ``old`` (None: it is new).

    ``is_unchanged``: it is part of something that did not change, where a list's items have no older version.
    """
    is_unchanged = is_unchanged or (old is not None and is_same(value, old, schema))
    entries = rules_of(schema)
    if entries:
        current = to_cel(value, schema)
        before = None if old is None else to_cel(old, schema)
        for rule in entries:
            if rule.expression.is_transition or not is_unchanged:
                yield from _check_rule(rule, current, before, path)
    if isinstance(value, Mapping):
        known = old if isinstance(old, Mapping) else {}
        for name, member in value.items():
            below = member_schema(schema, name)
            yield from check_rules(member, known.get(name), below, (*path, name), is_unchanged=is_unchanged)
    elif isinstance(value, list):
        for n, item in enumerate(value):
            before = older_item(item, old, schema)
            yield from check_rules(item, before, items_of(schema), (*path, n), is_unchanged=is_unchanged)


def _check_rule(rule: Rule, current: object, before: object, path: Path) -> Iterator[Violation]:
    if rule.is_old_optional:
        before = optional(before)
    elif rule.expression.is_transition and before is None:
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


def compile_all(schema: Schema) -> int:
    """Compile every rule below ``schema`` and return how many there are. Raises InvalidResource."""
    count = len(rules_of(schema))
    below = [*properties(schema).values(), items_of(schema), member_schema(schema, "")]
    return count + sum(compile_all(child) for child in below if child)
