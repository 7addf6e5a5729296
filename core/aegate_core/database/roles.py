"""Least rights: which tables each process may write, as data; `grant` gives a database role just that.

Everybody may read all, and nobody but the owner may change what is not named here. The audit takes INSERT alone, from
everybody. The surprise: PostgreSQL asks for the right to UPDATE a column of whoever locks a row, so one who has to
wait for others on a row that is not theirs gets ``LOCK``: UPDATE of the key, which foreign keys hold in place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aegate_core.database.connection import Database
from aegate_core.errors import InvalidValue, NotFound

WRITE = ("INSERT", "UPDATE")
ALL = ("INSERT", "UPDATE", "DELETE")
ADD = ("INSERT",)
CHANGE = ("UPDATE",)
LOCK = ("UPDATE (id)",)

Rights = dict[str, tuple[str, ...]]

AUDIT: Rights = {"audit_event": ADD, "audit_outbox": ADD}
"""The second by a trigger, where the audit is exported."""

_ENQUEUE: Rights = {"delivery": ADD, "delivery_instance": ADD, "delivery_event": ADD, "destination": ADD}
"""A queue item is made, for a receiver that nobody may have declared yet."""

_MOVE: Rights = {
    "delivery": WRITE,
    "delivery_instance": WRITE,
    "delivery_event": ADD,
    "destination": WRITE,
    "rollup_minute": ADD,
}
"""And goes from state to state; a trigger counts those that are finished."""

_OPERATE: Rights = {"operation": WRITE, "operation_item": WRITE, "operation_partition": ADD}
"""A change of many, batch by batch."""

_INDEX: Rights = {
    "patient": WRITE,
    "study": WRITE,
    "series": WRITE,
    "instance": WRITE,
    "arrival": WRITE,
    "close_unit": WRITE,
    "conflict": ADD,
    "quarantined_object": WRITE,  # what a check found first is its device's after all
}
"""Rows of an image; a worker makes them of what people release from quarantine."""

RIGHTS: Mapping[str, Rights] = {
    "operator": AUDIT
    | {
        "application_entity": WRITE,
        "image_route": WRITE,
        "patient_partition": WRITE,
        "projection_state": WRITE,
        "destination": WRITE,
        "slot": ("INSERT", "DELETE"),
        "delivery": CHANGE,  # of a receiver that is gone or came back
        "delivery_event": ADD,
    },
    "indexer": AUDIT | _INDEX | _ENQUEUE | {"indexer_state": ALL, "spool_backlog": ALL},
    "worker": AUDIT
    | _INDEX
    | _MOVE
    | {"slot": ("UPDATE", "DELETE"), "fencing": CHANGE, "worker_state": ALL}
    | {"installation": ("UPDATE (search_rules, reworded_patient)",)}
    | {"audit_outbox": ("INSERT", "DELETE"), "audit_collector": ALL, "verification": CHANGE}
    | {"rollup_minute": ("INSERT", "DELETE", *LOCK)},
    "api": AUDIT
    | _MOVE
    | _OPERATE
    | {
        "close_unit": CHANGE,
        "study": LOCK,
        "conflict": CHANGE,
        "quarantined_object": CHANGE,
        "instance": ("UPDATE (current_arrival_id)",),  # which of two contents counts
        "verification": ("INSERT", "DELETE"),
        "location": ALL,
        "worklist_item": WRITE,
        "worklist_station": ("INSERT", "DELETE"),
        "change": ("UPDATE (position)",),
        "change_feed": ("UPDATE (last_position)",),
    },
}
"""By process. Retention is in nobody's: it runs as the owner."""


@dataclass(frozen=True, slots=True)
class DatabaseRole:
    """A role of the database for one kind of process."""

    process: str
    name: str


def parse_roles(text: str) -> tuple[DatabaseRole, ...]:
    """Return the roles of ``api=aegate_api,worker=aegate_worker``. Raises InvalidValue."""
    roles = []
    for part in filter(None, (p.strip() for p in text.split(","))):
        process, _, name = part.partition("=")
        if process not in RIGHTS or not 0 < len(name.encode()) < 64:
            raise InvalidValue(
                "AEGATE_ROLES must be process=role pairs such as api=aegate_api,worker=aegate_worker, with a process "
                f"of {', '.join(sorted(RIGHTS))}, got {part!r}: mend it"
            )
        roles.append(DatabaseRole(process, name))
    if len({role.process for role in roles}) < len(roles):
        raise InvalidValue(f"AEGATE_ROLES must name each process once, got {text!r}: leave one out")
    return tuple(roles)


async def grant(tx: Database, roles: tuple[DatabaseRole, ...]) -> None:
    """Give each role the rights of its process, inside of a transaction of the owner; safe to repeat.

    What a role has beside them stays, but for the audit: the release before this one may still be running.
    """
    schema = await tx.fetch_value("SELECT quote_ident(current_schema())")
    database = await tx.fetch_value("SELECT quote_ident(current_database())")
    for role in roles:
        name = quoted(role.name)
        await tx.execute(f"GRANT CONNECT ON DATABASE {database} TO {name}")
        await tx.execute(f"GRANT USAGE ON SCHEMA {schema} TO {name}")
        await tx.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {name}")
        for table, rights in RIGHTS[role.process].items():
            await tx.execute(f"GRANT {', '.join(rights)} ON {table} TO {name}")
            if "INSERT" in rights:
                await _grant_sequence(tx, table, name)
        await tx.execute(f"REVOKE UPDATE, DELETE, TRUNCATE ON audit_event FROM {name}")


async def _grant_sequence(tx: Database, table: str, role: str) -> None:
    """Let ``role`` take the next number of the table, where it is numbered."""
    sequence = await tx.fetch_value(
        "SELECT pg_get_serial_sequence($1, 'id') FROM information_schema.columns "
        "WHERE table_schema = current_schema() AND table_name = $1 AND column_name = 'id'",
        table,
    )
    if sequence is not None:
        await tx.execute(f"GRANT USAGE ON SEQUENCE {sequence} TO {role}")


async def ensure_roles(db: Database, roles: tuple[DatabaseRole, ...]) -> None:
    """Raise NotFound for a role that is not there, InvalidValue for one that may do all that the owner may."""
    rows = await db.fetch(
        "SELECT rolname, rolsuper OR pg_has_role(rolname, current_user, 'MEMBER') AS is_owner "
        "FROM pg_roles WHERE rolname = ANY($1::text[])",
        [role.name for role in roles],
    )
    there = {row["rolname"]: row["is_owner"] for row in rows}
    absent = sorted({role.name for role in roles} - there.keys())
    if absent:
        typed = " ".join(f"CREATE ROLE {quoted(name)} LOGIN PASSWORD '…';" for name in absent)
        raise NotFound(
            f"the database must have the roles that AEGATE_ROLES names, it lacks {', '.join(absent)}: make them, as a "
            f"user who may: {typed}"
        )
    owners = sorted(name for name, is_owner in there.items() if is_owner)
    if owners:
        raise InvalidValue(
            f"a role of AEGATE_ROLES must have rights of its own, got {', '.join(owners)}, which may do all that the "
            "owner may: make another role for it"
        )


def quoted(name: str) -> str:
    """Return an SQL identifier of any name."""
    return '"' + name.replace('"', '""') + '"'
