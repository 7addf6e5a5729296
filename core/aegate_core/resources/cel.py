"""Evaluate the CRDs' CEL rules without an API server, through Google's own evaluator.

Rules see ``self`` (and ``oldSelf``) as an API server shows them: members whose names are no CEL identifiers
are escaped (``namespace`` is ``__namespace__``). Types are checked when a rule runs, not when it is compiled.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

from cel_expr_python import cel
from cel_expr_python.ext import ext_bindings, ext_strings

from aegate_core.errors import InvalidResource
from aegate_core.resources.cel_functions import kubernetes_functions

_WORDS = "true false null in as break const continue else for function if import let loop package namespace return var"
_RESERVED = frozenset([*_WORDS.split(" "), "void", "while"])
_STRINGS = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"")


class RuleFailed(Exception):
    """A rule compiled and could not be evaluated: it asks for something that is not there, or of another type."""


@cache
def _environment() -> cel.Env:
    dyn = cel.Type.DYN
    return cel.NewEnv(
        variables={"self": dyn, "oldSelf": dyn},
        extensions=[ext_strings.ExtStrings(), ext_bindings.ExtBindings()],
        functions=kubernetes_functions(),
    )


class Expression:
    """A compiled CEL expression."""

    def __init__(self, text: str) -> None:
        """Compile ``text``. Raises InvalidResource with the compiler's words."""
        self.text = text
        try:
            self._program = _environment().compile(text)
        except RuntimeError as error:
            first = str(error).removeprefix("INVALID_ARGUMENT: ").split("\n", 1)[0]
            raise InvalidResource(f"CEL expression does not compile: {first}: {text}") from error

    @property
    def is_transition(self) -> bool:
        """Whether it compares with the older version: then it holds only where there is one."""
        return re.search(r"\boldSelf\b", _STRINGS.sub("", self.text)) is not None

    def evaluate(self, current: object, old: object = None) -> object:
        """Return the value for ``self`` (and ``oldSelf``). Raises RuleFailed."""
        try:
            result = self._program.eval(data={"self": current, "oldSelf": old})
        except (RuntimeError, ValueError) as error:
            raise RuleFailed(str(error)) from error
        if result.type() == cel.Type.ERROR:
            raise RuleFailed(str(result.value()))
        return result.plain_value()


@cache
def compile_expression(text: str) -> Expression:
    """Return the compiled expression; the same text is compiled once. Raises InvalidResource."""
    return Expression(text)


def matches(pattern: str, text: str) -> bool:
    """Return whether the RE2 ``pattern`` occurs in ``text``: the same dialect as in an API server."""
    return compile_expression("self.matches(oldSelf)").evaluate(text, pattern) is True


def escape_member(name: str) -> str:
    """Return the name by which a rule reaches a member of an object (KEP-2876, "escaping")."""
    if name in _RESERVED:
        return f"__{name}__"
    escaped = name.replace("__", "__underscores__")
    return escaped.replace(".", "__dot__").replace("-", "__dash__").replace("/", "__slash__")


def to_cel(value: object, schema: Mapping[str, object]) -> object:
    """Return ``value`` with the members that ``schema`` declares under their escaped names."""
    if isinstance(value, Mapping):
        declared = schema.get("properties")
        properties: Mapping[str, Mapping[str, object]] = declared if isinstance(declared, Mapping) else {}
        return {
            escape_member(name) if name in properties else name: to_cel(member, properties.get(name, {}))
            for name, member in value.items()
        }
    if isinstance(value, list):
        items = schema.get("items")
        return [to_cel(item, items if isinstance(items, Mapping) else {}) for item in value]
    return value
