"""From conditions to ``.status``: what is written, whether it differs, and which events it is worth.

Each status write is an event for every watcher, so the same status is never written twice; times alone are no
difference.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from aegate_core.resources.conditions import (
    Condition,
    ConditionType,
    Reason,
    Status,
    find_condition,
    with_transition_times,
)
from aegate_core.resources.values import ApplicationEntity, ListenerMode
from aegate_core.stores.cluster.client import Manifest
from aegate_core.stores.cluster.occasions import Occasion
from aegate_operator.declared import conditions_in, generation_of
from aegate_operator.observe import Facts

_TOLD = (ConditionType.ACCEPTED, ConditionType.RESOLVED_REFS, ConditionType.READY)
_LONGEST_MESSAGE = 4096


@dataclass(frozen=True, slots=True)
class StatusChange:
    """What is to be written, and what to tell people about it."""

    manifest: Manifest
    occasions: tuple[Occasion, ...]


def stalled(conditions: Sequence[Condition]) -> tuple[Condition, ...]:
    """Return the conditions with Stalled beside an Accepted that is False: no retry of ours helps (kstatus: Failed)."""
    accepted = find_condition(conditions, ConditionType.ACCEPTED)
    if accepted is None or accepted.is_true or find_condition(conditions, ConditionType.STALLED):
        return tuple(conditions)
    generation = accepted.observed_generation
    others = [c for c in conditions if c.type is not ConditionType.RECONCILING]
    stall = Condition(ConditionType.STALLED, Status.TRUE, accepted.reason, accepted.message, generation)
    return (*others, stall)


def listener_status(ae: ApplicationEntity, facts: Facts | None, endpoint: str) -> dict[str, object]:
    """Return ``status.listener``."""
    status: dict[str, object] = {"mode": ae.listener_mode.value}
    if endpoint:
        status["endpoint"] = endpoint
    if facts is not None and ae.listener_mode is not ListenerMode.SHARED:
        status |= {"replicas": facts.replicas, "readyReplicas": facts.ready_replicas}
    return status


def change(
    live: Manifest, conditions: Sequence[Condition], more: Mapping[str, object], *, now: datetime
) -> StatusChange | None:
    """Return what makes ``live``'s status true, or None when it is."""
    before = conditions_in(live)
    wished = with_transition_times(conditions, before, now=now)
    written = live.get("status")
    live_status = written if isinstance(written, Mapping) else {}
    generation = generation_of(live)
    is_same = (
        _by_type(wished) == _by_type(before)
        and live_status.get("observedGeneration") == generation
        and all(live_status.get(name) == value for name, value in more.items())
        and not {"listener"} & (live_status.keys() - more.keys())
    )
    if is_same:
        return None
    metadata = live["metadata"]
    if not isinstance(metadata, Mapping):
        raise AssertionError("an object of the API server has metadata")
    identity = {name: metadata[name] for name in ("namespace", "name", "uid")}
    dated = [_short(condition).to_json() for condition in wished]
    status = {"observedGeneration": generation, "conditions": dated, **more}
    return StatusChange({"metadata": identity, "status": status}, tuple(_occasions(wished, before)))


def _by_type(conditions: Iterable[Condition]) -> dict[ConditionType, tuple[object, ...]]:
    return {c.type: (c.status, c.reason, _short(c).message, c.observed_generation) for c in conditions}


def _short(condition: Condition) -> Condition:
    if len(condition.message) <= _LONGEST_MESSAGE:
        return condition
    message = f"{condition.message[: _LONGEST_MESSAGE - 1]}…"
    return Condition(
        condition.type,
        condition.status,
        condition.reason,
        message,
        condition.observed_generation,
        condition.last_transition_time,
    )


def _occasions(new: Iterable[Condition], old: Sequence[Condition]) -> Iterator[Occasion]:
    """Yield an event for each condition that has changed: not for what is merely new and well, or on its way."""
    for condition in new:
        if condition.type not in _TOLD:
            continue
        before = find_condition(old, condition.type)
        is_on_its_way = condition.reason is Reason.LISTENER_NOT_READY
        if before is None and (is_on_its_way or condition.is_true):
            continue
        if before is not None and (before.status, before.reason) == (condition.status, condition.reason):
            continue
        yield Occasion(
            reason=condition.reason.value,
            note=f"{condition.type.value} is {condition.status.value}: {condition.message}",
            action="Reconcile",
            type="Normal" if condition.is_true or (before is not None and is_on_its_way) else "Warning",
        )
