"""Which rows a caller may see: those of some patient partitions, and the AEs of some namespaces.

Every list says what its rows belong to, and every read of one takes a Scope: a list that forgets it does not type. The
condition is part of the statement, so a row of somebody else and one that is not there are asked for alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from aegate_core.database import Database


@dataclass(slots=True)
class Arguments:
    """The values of one statement, numbered as they come."""

    values: list[object] = field(default_factory=list)
    dialect: str = "postgres"
    """What the statement is for, where it is not one text for both."""

    def add(self, value: object, cast: str = "text") -> str:
        """Return the place of ``value``."""
        self.values.append(value)
        return f"${len(self.values)}::{cast}"


class Owner(StrEnum):
    """By what a row belongs to somebody."""

    PARTITION = "PARTITION"
    """namespace/name of its patient partition."""
    NAMESPACE = "NAMESPACE"
    """A namespace whose Application Entities the caller edits."""
    NAMESPACE_OF_PARTITION = "NAMESPACE_OF_PARTITION"
    """A namespace in which the caller has a partition: what is configured there for all of its partitions."""


@dataclass(frozen=True, slots=True)
class Belongs:
    """Where a row says whose it is. ``within`` wraps the comparison, as an EXISTS does."""

    owner: Owner
    sql: str
    within: str = "{}"


@dataclass(frozen=True, slots=True)
class Scope:
    """What somebody may see; None: all of it."""

    partitions: frozenset[str] | None = None
    namespaces: frozenset[str] | None = None

    def condition(self, belongs: Sequence[Belongs], arguments: Arguments, *, is_page: bool = False) -> str:
        """Return as SQL that one of ``belongs`` holds. What belongs to nobody is seen by everybody.

        Only for a page of one partition may an index begin with it: that one gives the order. Elsewhere SQLite, which
        knows no numbers of rows, would read a whole partition for a few ids: there the column is hidden from it.
        """
        if not belongs or any(self._own(one.owner) is None for one in belongs):
            return "TRUE"
        parts = []
        for one in belongs:
            own = sorted(self._own(one.owner) or ())
            if is_page and len(own) == 1:
                is_own = f"{one.sql} = {arguments.add(own[0])}"
            else:
                is_own = f"({one.sql} || '') = ANY({arguments.add(own, 'text[]')})"
            parts.append(one.within.format(is_own))
        return f"({' OR '.join(parts)})"

    def sees(self, owner: Owner, name: str) -> bool:
        """Whether what belongs to ``name`` may be seen, of what no statement narrowed."""
        own = self._own(owner)
        return own is None or name in own

    def _own(self, owner: Owner) -> frozenset[str] | None:
        if owner is Owner.NAMESPACE:
            return self.namespaces
        if owner is Owner.PARTITION or self.partitions is None:
            return self.partitions
        return frozenset(name.partition("/")[0] for name in self.partitions)


ALL_ROWS = Scope()

OF_AN_ENTITY = "{ae} IN (SELECT namespace || '/' || name FROM application_entity WHERE {{}})"
"""Of an AE's partition, by its key; also of an AE that is gone. Of an AE that never was: nobody's but who sees all."""


def by_partition(sql: str, within: str = "{}") -> tuple[Belongs, ...]:
    """Return that rows belong to the partition in ``sql``."""
    return (Belongs(Owner.PARTITION, sql, within),)


def by_entity(ae: str) -> tuple[Belongs, ...]:
    """Return that rows belong to the partition of the AE whose key is in ``ae``."""
    return by_partition("partition", OF_AN_ENTITY.format(ae=ae))


async def fetch_own(
    db: Database, sql: str, belongs: Sequence[Belongs], scope: Scope, *values: object
) -> list[dict[str, object]]:
    """Return the rows of ``sql``, in which ``{own}`` stands for the condition that narrows it to ``scope``."""
    arguments = Arguments(list(values))
    narrowed = sql.replace("{own}", scope.condition(belongs, arguments))
    if narrowed == sql:
        raise ValueError("a statement that is narrowed must hold {own}: put it into its WHERE")
    return await db.fetch(narrowed, *arguments.values)
