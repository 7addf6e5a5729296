"""Every list says whose its rows are, and what a scope makes of that."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

import pytest

from aegate_core import stores
from aegate_core.stores.listing import Source
from aegate_core.stores.scope import ALL_ROWS, Arguments, Belongs, Owner, Scope, fetch_own
from aegate_graphql_api.permission import Permission
from aegate_graphql_api.permissions import Caller

EVERYBODYS = {"AUDIT"}
"""Lists whose rows belong to nobody; what holds patient data or names it never is; the audit narrows itself."""


def sources() -> Iterator[tuple[str, Source]]:
    for module in pkgutil.walk_packages(stores.__path__, "aegate_core.stores."):
        for name, value in vars(importlib.import_module(module.name)).items():
            if isinstance(value, Source):
                yield name, value


def test_every_list_says_whose_its_rows_are() -> None:
    assert {name for name, source in sources() if not source.belongs} == EVERYBODYS
    assert len(dict(sources())) >= 12


def test_a_scope_narrows_by_any_one_owner() -> None:
    arguments = Arguments([1])
    scope = Scope(frozenset({"b/y", "a/x"}), frozenset({"n"}))
    belongs = (
        Belongs(Owner.PARTITION, "p"),
        Belongs(Owner.NAMESPACE, "n", "EXISTS ({})"),
        Belongs(Owner.NAMESPACE_OF_PARTITION, "m"),
    )
    assert scope.condition(belongs, arguments) == (
        "((p || '') = ANY($2::text[]) OR EXISTS ((n || '') = ANY($3::text[])) OR (m || '') = ANY($4::text[]))"
    )
    assert scope.condition(belongs, Arguments(), is_page=True) == (
        "((p || '') = ANY($1::text[]) OR EXISTS (n = $2::text) OR (m || '') = ANY($3::text[]))"
    )
    assert ALL_ROWS.condition(belongs, arguments) == "TRUE"
    assert Scope(frozenset(), None).condition(belongs, arguments) == "TRUE"
    assert scope.condition((), arguments) == "TRUE"
    assert arguments.values == [1, ["a/x", "b/y"], ["n"], ["a", "b"]], (
        "PostgreSQL takes no value that is not used"
    )
    assert (scope.sees(Owner.NAMESPACE_OF_PARTITION, "a"), scope.sees(Owner.NAMESPACE, "a")) == (True, False)


async def test_a_statement_without_a_place_for_the_scope_is_refused() -> None:
    with pytest.raises(ValueError, match="own"):
        await fetch_own(None, "SELECT 1", (), ALL_ROWS)  # type: ignore[arg-type] # it is not reached


def test_a_permission_that_is_not_held_shows_no_rows() -> None:
    nobody = Caller("x", frozenset({Permission.TOKEN}))
    assert nobody.scope == Scope(frozenset(), frozenset())
    queue = Caller("x", frozenset({Permission.TOKEN, Permission.DICOM_QUEUE}))
    assert queue.scope == Scope(None, frozenset())
    editor = Caller("x", frozenset({Permission.AE_EDITOR}), namespaces=frozenset({"n"}))
    assert editor.scope == Scope(frozenset(), frozenset({"n"}))
