"""An upgrade goes through the listeners a few at a time, and stops at the first that does not come up.

Only what the installation changes (a new image) waits for its turn here; what an ApplicationEntity asks for itself is
done at once. Who was broken before the upgrade reached it neither stops the upgrade nor holds a place for long.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from aegate_core.dicom.identifiers import ResourceKey

PATIENCE_S = 600.0
"""How long one that comes up neither well nor badly holds its place: a drain takes minutes, an image pull more."""


class RolloutState(StrEnum):
    """How a listener stands to the version that it was given last."""

    COMPLETE = "complete"
    ROLLING = "rolling"
    FAILED = "failed"


@dataclass(slots=True)
class _Rolling:
    since: float
    was_healthy: bool
    is_own: bool = False
    """Whether its own change is under way as well: what serves need not serve this generation."""


@dataclass
class RolloutGate:
    """Who rolls, who waits, who failed. ``clock`` in seconds, monotonic."""

    max_concurrent: int
    clock: Callable[[], float]
    _rolling: dict[ResourceKey, _Rolling] = field(default_factory=dict)
    _waiting: dict[ResourceKey, None] = field(default_factory=dict)
    _failed: dict[ResourceKey, str] = field(default_factory=dict)

    def admit(self, key: ResourceKey, *, is_healthy: bool) -> bool:
        """Say whether ``key`` may roll now; one that may not is remembered. Asking twice is asking once."""
        if key in self._rolling:
            return True
        if self._failed.keys() - {key} or self._places() <= 0:
            self._waiting[key] = None
            return False
        self._waiting.pop(key, None)
        self._failed.pop(key, None)
        self._rolling[key] = _Rolling(self.clock(), is_healthy)
        return True

    def resume(self, key: ResourceKey, *, is_own: bool) -> None:
        """Take note that ``key`` was found on its way to the newest version: an operator before us let it roll."""
        if key not in self._rolling and key not in self._failed:
            self._rolling[key] = _Rolling(self.clock(), was_healthy=True, is_own=is_own)

    def overtake(self, key: ResourceKey) -> list[ResourceKey]:
        """Take note that ``key`` rolls by its own change, the new version with it; return who may ask again now."""
        if (rolling := self._rolling.get(key)) is not None:
            rolling.is_own = True
        if key not in self._waiting:
            return []
        del self._waiting[key]
        return self._next()

    def report(self, key: ResourceKey, state: RolloutState, why: str = "") -> list[ResourceKey]:
        """Take note of how ``key`` is; return who may ask again now."""
        rolling = self._rolling.get(key)
        if rolling is None and key not in self._failed:
            return []
        if state is RolloutState.COMPLETE:
            self._rolling.pop(key, None)
            self._failed.pop(key, None)
        elif state is RolloutState.FAILED and rolling is not None:
            del self._rolling[key]
            if rolling.was_healthy:
                self._failed[key] = why
        return self._next()

    def forget(self, key: ResourceKey) -> list[ResourceKey]:
        """Take note that ``key`` is gone, or left as it is; return who may ask again now."""
        was_known = any(key in known for known in (self._rolling, self._waiting, self._failed))
        for known in (self._rolling, self._waiting, self._failed):
            known.pop(key, None)
        return self._next() if was_known else []

    def is_rolling(self, key: ResourceKey) -> bool:
        """Whether ``key`` is on its way because of the installation alone, or waits for it."""
        rolling = self._rolling.get(key)
        return key in self._waiting or (rolling is not None and not rolling.is_own)

    def is_waiting(self, key: ResourceKey) -> bool:
        """Whether ``key`` waits for its turn."""
        return key in self._waiting

    def why_waiting(self) -> str:
        """Return a sentence for who waits."""
        if self._failed:
            key, why = next(iter(self._failed.items()))
            return f"The new version waits: {key} did not come up with it ({why}). Mend that, or go back."
        return f"The new version waits for its turn: {len(self._rolling)} listeners roll, {len(self._waiting)} wait."

    @property
    def counts(self) -> dict[str, int]:
        """How many roll, wait and failed."""
        return {
            "rolling": len(self._rolling),
            "waiting": len(self._waiting),
            "failed": len(self._failed),
        }

    def _next(self) -> list[ResourceKey]:
        return [] if self._failed else list(self._waiting)[: max(0, self._places())]

    def _places(self) -> int:
        now = self.clock()
        taken = sum(1 for rolling in self._rolling.values() if now - rolling.since < PATIENCE_S)
        return self.max_concurrent - taken
