"""Read typed members out of a manifest, naming the field path when one is not what it must be.

The schema has checked the manifest before; this is the guard for manifests that come another way (an API
server with an older CRD, a row of an older version), so it checks types and not limits.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

from aegate_core.dicom.ae_title import AETitle
from aegate_core.errors import InvalidResource, InvalidValue

E = TypeVar("E", bound=StrEnum)

KIND_NAMES: Mapping[type, str] = {
    type(None): "null",
    bool: "a boolean",
    int: "an integer",
    float: "a number",
    str: "a string",
    list: "a list",
    dict: "an object",
}


class Fields:
    """One object of a manifest and its path; an absent object reads as an empty one."""

    def __init__(self, value: object, path: str) -> None:
        if value is None:
            value = {}
        if not isinstance(value, Mapping):
            raise InvalidResource(f"{path} must be an object, got {kind_name(value)}", field=path)
        self._value: Mapping[str, object] = value
        self.path = path

    def __contains__(self, name: str) -> bool:
        return self._value.get(name) is not None

    def child(self, name: str) -> Fields:
        """Return the object ``name``; empty when absent."""
        return Fields(self._value.get(name), f"{self.path}.{name}")

    def text(self, name: str, default: str) -> str:
        """Return a string."""
        value = self.optional_text(name)
        return default if value is None else value

    def required_text(self, name: str) -> str:
        """Return a string that must be there."""
        value = self.optional_text(name)
        if value is None:
            raise InvalidResource(f"{self.path}.{name} is required: add it", field=f"{self.path}.{name}")
        return value

    def optional_text(self, name: str) -> str | None:
        """Return a string, or None when absent."""
        value = self._value.get(name)
        if value is None or isinstance(value, str):
            return value
        raise self._wrong(name, "a string")

    def integer(self, name: str, default: int) -> int:
        """Return an integer."""
        value = self.optional_integer(name)
        return default if value is None else value

    def optional_integer(self, name: str) -> int | None:
        """Return an integer, or None when absent."""
        value = self._value.get(name)
        if value is None or (isinstance(value, int) and not isinstance(value, bool)):
            return value
        raise self._wrong(name, "an integer")

    def flag(self, name: str, default: bool) -> bool:
        """Return a boolean."""
        value = self._value.get(name)
        if value is None:
            return default
        if isinstance(value, bool):
            return value
        raise self._wrong(name, "true or false")

    def choice(self, name: str, default: E) -> E:
        """Return a member of the default's enumeration."""
        value = self.optional_choice(name, type(default))
        return default if value is None else value

    def optional_choice(self, name: str, choices: type[E]) -> E | None:
        """Return a member of ``choices``, or None when absent."""
        value = self.optional_text(name)
        if value is None:
            return None
        try:
            return choices(value)
        except ValueError as error:
            raise self._wrong(name, f"one of {', '.join(choices)}") from error

    def title(self, name: str) -> AETitle | None:
        """Return an AE title, or None when absent."""
        value = self.optional_text(name)
        if value is None:
            return None
        try:
            return AETitle(value)
        except InvalidValue as error:
            raise InvalidResource(
                f"{self.path}.{name}: {error.message}", field=f"{self.path}.{name}"
            ) from error

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list of strings; empty when absent."""
        items = self.items(name)
        if not all(isinstance(item, str) for item in items):
            raise self._wrong(name, "a list of strings")
        return tuple(str(item) for item in items)

    def items(self, name: str) -> tuple[object, ...]:
        """Return a list; empty when absent."""
        value = self._value.get(name)
        if value is None:
            return ()
        if isinstance(value, list | tuple):
            return tuple(value)
        raise self._wrong(name, "a list")

    def mapping(self, name: str) -> dict[str, str]:
        """Return an object of strings; empty when absent."""
        value = self.child(name)._value
        if not all(isinstance(k, str) and isinstance(v, str) for k, v in value.items()):
            raise self._wrong(name, "an object of strings")
        return {k: str(v) for k, v in value.items()}

    def raw(self, name: str) -> dict[str, object]:
        """Return an object as it stands; empty when absent."""
        return dict(self.child(name)._value)

    def _wrong(self, name: str, expected: str) -> InvalidResource:
        path = f"{self.path}.{name}"
        return InvalidResource(f"{path} must be {expected}, got {kind_name(self._value[name])}", field=path)


def kind_name(value: object) -> str:
    """Return what ``value`` is, in the words of JSON."""
    names = {
        bool: "a boolean",
        int: "an integer",
        float: "a number",
        str: "a string",
        list: "a list",
        dict: "an object",
    }
    return next((name for kind, name in names.items() if type(value) is kind), type(value).__name__)
