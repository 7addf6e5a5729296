"""The triggers that write the feed of changes, on both databases; run after the migrations, each time.

Triggers, not the stores' own statements: nothing that changes a table can forget its row, neither code to come nor
the release before, which works on beside this one during an update. One row a change of an object; an UPDATE that
changes no column of `_WATCHED`, such as progress within an association, writes none. docs/adr/0020.
"""

from __future__ import annotations

from dataclasses import dataclass

from aegate_core.database.declared import trigger


@dataclass(frozen=True, slots=True)
class _Watched:
    """A table, what its rows are called in the feed, and the columns whose change is told. SQL speaks of ``r``."""

    table: str
    kind: str
    key: str
    columns: tuple[str, ...]
    partition: str = "NULL"
    namespace: str = "NULL"
    state: str = "NULL"
    updated: str = "'CHANGED'"
    """The action of an UPDATE; speaks of OLD and NEW."""
    on_insert: bool = True
    on_delete: bool = False


_KEY = "{r}.namespace || '/' || {r}.name"
_OF_STUDY = "(SELECT s.partition FROM study s WHERE s.id = {r}.study_id)"
_OF_AE = (
    "(SELECT e.partition FROM application_entity e "
    "WHERE e.namespace = {before} AND e.name = substr({r}.ae, length({before}) + 2))"
)
"""Written so that the index of the key serves it: ten thousand AEs may be applied at once."""
_BEFORE = {"sqlite": "substr({r}.ae, 1, instr({r}.ae, '/') - 1)", "postgres": "split_part({r}.ae, '/', 1)"}
_BURIED = (
    "CASE WHEN NEW.deleted_at IS NOT NULL THEN 'REMOVED' WHEN OLD.deleted_at IS NOT NULL THEN 'CREATED' "
)

_WATCHED = (
    _Watched(
        "delivery",
        "QUEUE_ITEM",
        "{r}.id",
        ("state", "priority", "bumped_at", "hold_requested_by", "cancel_requested_by", "destination_id"),
        partition="{r}.partition",
        state="{r}.state",
        on_delete=True,
    ),
    _Watched(
        "study",
        "STUDY",
        "{r}.id",
        (
            *("patient_id", "instance_count", "series_count", "size_bytes", "last_arrival_at"),
            *("location_code", "document_type", "accession_number", "search_text"),
        ),
        partition="{r}.partition",
        # It is made empty and filled in one transaction: told once, when it holds something.
        updated="CASE WHEN OLD.instance_count = 0 AND NEW.instance_count > 0 THEN 'CREATED' ELSE 'CHANGED' END",
        on_insert=False,
    ),
    _Watched(
        "application_entity",
        "APPLICATION_ENTITY",
        _KEY,
        ("uid", "generation", "labels", "spec", "conditions", "endpoint", "deleted_at"),
        namespace="{r}.namespace",
        updated=_BURIED + "ELSE 'CHANGED' END",
    ),
    _Watched("conflict", "CONFLICT", "{r}.id", ("resolved_at",), partition=_OF_STUDY),
    _Watched(
        "quarantined_object",
        "QUARANTINED_OBJECT",
        "{r}.arrival_id",
        ("resolved_at", "released_at"),
        partition=_OF_AE,
    ),
    _Watched(
        "destination",
        "DESTINATION",
        "{r}.ae",
        ("max_connections", "enabled", "gone_at", "invalid_condition", "held_at", "hold_reason", "breaker"),
        partition=_OF_AE,
    ),
    _Watched("operation", "OPERATION", "{r}.id", ("state", "total", "processed")),
    _Watched("worklist_item", "WORKLIST_ITEM", "{r}.id", ("version",), partition="{r}.partition"),
)


_NOW = {"sqlite": "strftime('%Y-%m-%d %H:%M:%f+00:00', 'now')", "postgres": "clock_timestamp()"}


def _insert(watched: _Watched, row: str, action: str, dialect: str) -> str:
    before = _BEFORE[dialect].format(r=row)
    parts = (watched.key, watched.state, watched.partition, watched.namespace)
    key, state, partition, namespace = (sql.format(r=row, before=before) for sql in parts)
    return (
        "INSERT INTO change (at, kind, action, key, state, partition, namespace) VALUES "
        f"({_NOW[dialect]}, '{watched.kind}', {action}, CAST({key} AS text), {state}, {partition}, {namespace});"
    )


def _actions(watched: _Watched) -> list[tuple[str, str, str]]:
    """Return (event, row, action) of each of its triggers."""
    found = [("UPDATE", "NEW", watched.updated)]
    if watched.on_insert:
        found.append(("INSERT", "NEW", "'CREATED'"))
    if watched.on_delete:
        found.append(("DELETE", "OLD", "'REMOVED'"))
    return found


def _sqlite() -> list[str]:
    found = []
    for watched in _WATCHED:
        differs = " OR ".join(f"OLD.{c} IS NOT NEW.{c}" for c in watched.columns)
        for event, row, action in _actions(watched):
            name = f"{watched.table}_change_{event.lower()}"
            of, when = (
                (f" OF {', '.join(watched.columns)}", f"WHEN {differs} ") if event == "UPDATE" else ("", "")
            )
            insert = _insert(watched, row, action, "sqlite")
            found += [
                f"DROP TRIGGER IF EXISTS {name}",
                f"CREATE TRIGGER {name} AFTER {event}{of} ON {watched.table} {when}BEGIN {insert} END",
            ]
    return found


def _postgres() -> list[str]:
    found = []
    for watched in _WATCHED:
        differs = " OR ".join(f"OLD.{c} IS DISTINCT FROM NEW.{c}" for c in watched.columns)
        for event, row, action in _actions(watched):
            name = f"{watched.table}_change_{event.lower()}"
            when = f"WHEN ({differs}) " if event == "UPDATE" else ""
            insert = _insert(watched, row, action, "postgres")
            found += [
                f"CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS "
                f"$$ BEGIN {insert} RETURN NULL; END $$",
                _AS_OWNER.format(name=name),
                trigger(
                    name, f"AFTER {event}", watched.table, f"FOR EACH ROW {when}EXECUTE FUNCTION {name}()"
                ),
            ]
    return found


_AS_OWNER = (
    "DO $$ BEGIN EXECUTE "
    "format('ALTER FUNCTION {name}() SET search_path = %I, pg_temp', current_schema()); END $$"
)
"""It writes with the owner's rights, whoever changed the row: so no role needs any on the feed, and none can lead it
to a table of its own."""

_BOTH = ("INSERT INTO change_feed (id, last_position) VALUES (1, 0) ON CONFLICT (id) DO NOTHING",)
_POSTGRES = (
    "CREATE INDEX IF NOT EXISTS change_unsettled ON change (id) WHERE position IS NULL",
    "CREATE UNIQUE INDEX IF NOT EXISTS change_order ON change (position) WHERE position IS NOT NULL",
)


def statements(dialect: str) -> tuple[str, ...]:
    """Return the statements for ``sqlite`` or ``postgres``, in order."""
    return (*_BOTH, *_POSTGRES, *_postgres()) if dialect == "postgres" else (*_BOTH, *_sqlite())
