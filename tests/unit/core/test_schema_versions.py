"""Which schemas a version of the code works on, and that every migration keeps to the rules that make it so."""

from __future__ import annotations

from importlib import import_module

import pytest
from tortoise.migrations import operations as ops

from aegate_core.database import known_migrations
from aegate_core.database.connection import MIGRATIONS
from aegate_core.database.versions import missing_from, newer_than, outdated_by

OURS = ("0001_initial", "0002_more")
ADDS = (ops.CreateModel, ops.AddField, ops.AddIndex)


@pytest.mark.parametrize(
    ("applied", "outdated"),
    [
        (OURS, None),
        ((*OURS, "0003_more_still"), None),
        ((*OURS, "0003_drop_what_0001_used_requires_0002"), None),
        ((*OURS, "0003_more_still", "0004_drop_requires_0003"), "0004_drop_requires_0003"),
        ((*OURS, "0003_a", "0004_b_requires_0003", "0005_c_requires_0004"), "0004_b_requires_0003"),
    ],
)
def test_code_works_until_what_it_needs_is_taken_away(applied: tuple[str, ...], outdated: str | None) -> None:
    assert outdated_by(OURS, applied) == outdated


def test_what_is_newer_and_what_is_missing() -> None:
    assert newer_than(OURS, ("0001_initial", "0004_d", "0003_c")) == ["0003_c", "0004_d"]
    assert missing_from(("0001_initial", "0003_c"), OURS) == ["0002_more"]


@pytest.mark.parametrize("name", known_migrations()[1:])
def test_a_migration_adds_only_unless_its_name_says_what_code_it_requires(name: str) -> None:
    if "_requires_" in name:
        return
    for operation in import_module(f"{MIGRATIONS}.{name}").Migration.operations:
        assert isinstance(operation, ADDS), f"{name}: code of the release before fails after {operation}"
        if isinstance(operation, ops.AddField):
            is_filled = operation.field.null or operation.field.has_db_default()
            assert is_filled, f"{name}: code of the release before gives {operation.name} no value"
