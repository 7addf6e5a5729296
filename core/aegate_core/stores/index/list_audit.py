"""The audit as a list: who did what, newest or oldest first."""

from __future__ import annotations

from aegate_core.stores.listing import Column, Order, Source

AUDIT = Source(
    select="id, at, actor, address, action, target, outcome, detail, area, partition",
    table="audit_event",
    belongs=(),  # by area and what it is about: `visible` of the API's audit narrows it
    columns={
        "id": Column("id", "bigint"),
        "at": Column("at", "timestamptz"),
        "actor": Column("actor"),
        "address": Column("address"),
        "action": Column("action"),
        "target": Column("target"),
        "outcome": Column("outcome"),
        "area": Column("area"),
        "partition": Column("partition"),
    },
)
AUDIT_ORDERS = {
    "NEWEST": Order("NEWEST", (("id", "bigint"),)),
    "OLDEST": Order("OLDEST", (("id", "bigint"),), descending=False),
}
"""By id: the order in which the rows were begun; the times of two machines may differ by some milliseconds."""
