"""Who did what: one append-only row in the transaction of the change, so neither is there without the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from aegate_core.database import Database


@dataclass(frozen=True, slots=True)
class Deed:
    """What is recorded. ``detail`` holds keys, states and reasons; patient data neither there nor in ``target``."""

    actor: str
    action: str
    target: str
    outcome: str = "DONE"
    """DONE, REFUSED or FAILED."""
    address: str = ""
    """From where, when it came over a network."""
    detail: Mapping[str, object] = field(default_factory=dict)


async def record(tx: Database, deed: Deed, *, now: datetime | None = None) -> None:
    """Write the row; call it inside of the change's transaction."""
    await tx.execute(
        "INSERT INTO audit_event (at, actor, address, action, target, outcome, detail) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7)",
        now or datetime.now(UTC),
        deed.actor[:256],
        deed.address[:64],
        deed.action[:64],
        deed.target[:512],
        deed.outcome[:16],
        dict(deed.detail),
    )
