"""Whether the operator still does its work: not whether one of its threads answers.

A quiet night is no dead watch: the API server sends a bookmark every minute. And an API server that is away is no
fault of ours: a restart would not bring it back, so silence counts only while the server answers others of our
requests.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

SILENT_S = 240.0
"""How long a watch may say nothing at all, not even a bookmark. kopf itself gives one up after 70 s."""
STUCK_S = 300.0
"""How long a worker may be busy with one key: ten requests that run into their timeouts."""
OVERDUE_S = 1_500.0
"""How long no resync may have ended: two of them were missed."""
ANSWERED_S = 60.0
"""How old an answer of the API server may be that proves that it is there."""


@dataclass
class Liveness:
    """Notes signs of life, and judges them. ``clock`` in seconds, monotonic."""

    clock: Callable[[], float]
    longest_work: Callable[[], tuple[float, object]] = lambda: (0.0, None)
    """For how long the oldest key in work is in it, and which."""
    _heard: dict[str, float] = field(default_factory=dict)
    _answered_at: float | None = None
    _resynced_at: float | None = None

    def heard(self, watch: str) -> None:
        """Note that something came on a watch, be it a bookmark; a watch is known from then on."""
        self._heard[watch] = self.clock()

    def forget(self, watch: str) -> None:
        """Note that nobody watches that any more."""
        self._heard.pop(watch, None)

    def answered(self) -> None:
        """Note that the API server answered a request."""
        self._answered_at = self.clock()

    def resynced(self) -> None:
        """Note that all objects were listed."""
        self._resynced_at = self.clock()

    def silence_s(self) -> dict[str, float]:
        """Return for each watch how long it has said nothing."""
        now = self.clock()
        return {watch: now - at for watch, at in list(self._heard.items())}

    def needs_proof(self) -> bool:
        """Whether to ask the server anything, so that a silent watch can be told from a server that is away."""
        return any(age > SILENT_S / 2 for age in self.silence_s().values()) and not self._has_answered(
            ANSWERED_S / 2
        )

    def trouble(self) -> str | None:
        """Return why this process should be started anew, or None."""
        working_s, key = self.longest_work()
        if working_s > STUCK_S:
            return f"a worker has been busy with {key} for {working_s:.0f} s"
        if not self._has_answered(ANSWERED_S):
            return None
        silent = max(self.silence_s().items(), key=lambda item: item[1], default=("", 0.0))
        if silent[1] > SILENT_S:
            return (
                f"the watch of {silent[0]} has been silent for {silent[1]:.0f} s, and the API server answers"
            )
        if self._resynced_at is not None and self.clock() - self._resynced_at > OVERDUE_S:
            return f"nothing was listed anew for {self.clock() - self._resynced_at:.0f} s"
        return None

    def _has_answered(self, within_s: float) -> bool:
        return self._answered_at is not None and self.clock() - self._answered_at <= within_s
