"""What people do with quarantined objects once for an idempotency key: the answer is kept as an operation."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from aegate_core.database import Database
from aegate_core.errors import InvalidInput
from aegate_core.stores.index.releasing import partitions_of
from aegate_core.stores.queue import operations
from aegate_core.stores.queue.operations import NewOperation

KIND = "QuarantinedObject"


@dataclass(frozen=True, slots=True)
class Key:
    """An idempotency key, and all that was said with it."""

    action: str
    actor: str
    address: str
    key: str
    said: object


@dataclass(frozen=True, slots=True)
class Handled:
    """What was done with which objects, by arrival id."""

    keys: tuple[str, ...]
    done: tuple[str, ...]
    left: Mapping[str, str]
    """Why those were left that were not done, where that has reasons."""
    is_repeated: bool = False
    """It was done before, by the same key."""


async def once(
    tx: Database, key: Key, handle: Callable[[], Awaitable[Handled]], *, reason: str | None, now: datetime
) -> Handled:
    """Do it and keep what was done, or return what the same key did before.

    Raises InvalidInput where the key was used for something else.
    """
    fingerprint = hashlib.sha256(repr((key.action, key.said)).encode()).hexdigest()
    new = NewOperation(key.action, KIND, key.actor, key.address, key.key, fingerprint, {})
    made = await operations.insert(tx, new, now=now)
    if made is None:
        return await _as_before(tx, key, fingerprint)
    handled = await handle()
    answer: dict[str, object] = {
        "keys": list(handled.keys),
        "done": list(handled.done),
        "left": dict(handled.left),
    }
    if reason is not None:
        answer["reason"] = reason
    await operations.keep_answer(tx, made, answer, await partitions_of(tx, handled.keys))
    await operations.finish_at_once(tx, made, len(handled.keys), len(handled.done), now=now)
    return handled


async def _as_before(tx: Database, key: Key, fingerprint: str) -> Handled:
    known = await operations.by_key(tx, key.actor, key.key)
    if known is None or known.fingerprint != fingerprint:
        raise InvalidInput(
            "idempotencyKey must be a new one for a new wish, this one was used for another: make another key, or ask "
            "as before"
        )
    said = known.arguments
    return Handled(
        tuple(cast("list[str]", said["keys"])),
        tuple(cast("list[str]", said["done"])),
        cast("dict[str, str]", said["left"]),
        is_repeated=True,
    )
