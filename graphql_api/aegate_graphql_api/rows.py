"""How rows of a list become objects of a type: each attribute from one column, so that some can be read without all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Read:
    """From which column an attribute is; ``through`` makes it of the column's value, None: it is that value."""

    column: str
    through: Callable[[Any], Any] | None = None


class Rows(Generic[T]):
    """Makes objects of rows."""

    def __init__(self, kind: Callable[..., T], **attributes: Read) -> None:
        self.kind = kind
        self.attributes: Mapping[str, Read] = attributes

    def __call__(self, row: Mapping[str, Any]) -> T:
        """Return a row as its object."""
        return self.kind(
            **{
                name: row[read.column] if read.through is None else read.through(row[read.column])
                for name, read in self.attributes.items()
            }
        )
