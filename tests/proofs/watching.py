"""What is seen of running processes from outside: their memory, their open files, how long a question takes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median, quantiles

from tests.integration.processes import cpu_s, open_files, rss_bytes

SAMPLE_S = 0.25
MOST_GROWTH = 0.05
"""Of the memory over the second half of a run: 10,000 images show up to 2 %, a leak of 40 kB an image 10 % of 600."""
EIGHTHS = 8


@dataclass
class Curve:
    """The samples of one process."""

    rss_bytes: list[int] = field(default_factory=list)
    open_files: list[int] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)

    def growth(self) -> float:
        """Return by which share the memory grows over the second half, judged by its first and its last quarter."""
        first, last = self._eighth(4), self._eighth(7)
        # The middles of the two lie three eighths of the time apart.
        return (last / first - 1) * 4 / 3

    def points(self) -> list[int]:
        """Return the median of each eighth of the time, bytes."""
        return [int(self._eighth(n)) for n in range(EIGHTHS)]

    def _eighth(self, n: int) -> float:
        size = len(self.rss_bytes)
        assert size >= EIGHTHS, f"too short a run to judge memory: {size} samples"
        return median(self.rss_bytes[size * n // EIGHTHS : size * (n + 1) // EIGHTHS])


class Repeated(threading.Thread):
    """Does something again and again until `finish`; what it raises is raised there."""

    def __init__(self, act: Callable[[], object], every_s: float) -> None:
        super().__init__(daemon=True)
        self._act, self._every_s = act, every_s
        self._over = threading.Event()
        self._failed: BaseException | None = None

    def run(self) -> None:
        """Act, at even intervals where it can."""
        due = time.monotonic()
        while not self._over.wait(max(0.0, due - time.monotonic())):
            due = max(due + self._every_s, time.monotonic())
            try:
                self._act()
            except BaseException as error:  # raised again in `finish`, where somebody sees it
                self._failed = error
                return

    def finish(self) -> None:
        """End, and say what went wrong."""
        self._over.set()
        self.join()
        if self._failed is not None:
            raise self._failed


class Watch(Repeated):
    """Samples processes."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        super().__init__(self._sample, SAMPLE_S)
        self._pids = dict(pids)
        self.curves = {name: Curve() for name in pids}

    def _sample(self) -> None:
        for name, pid in self._pids.items():
            self.curves[name].rss_bytes.append(rss_bytes(pid))
            self.curves[name].open_files.append(open_files(pid))
            self.curves[name].cpu_s.append(cpu_s(pid))


class Questions(Repeated):
    """Asks one question again and again and keeps how long each answer took."""

    def __init__(self, ask: Callable[[], object], every_s: float) -> None:
        super().__init__(self._timed, every_s)
        self._ask = ask
        self.seconds: list[float] = []

    def _timed(self) -> None:
        began = time.perf_counter()
        self._ask()
        self.seconds.append(time.perf_counter() - began)


def percentiles(seconds: Sequence[float]) -> str:
    """Say the median and the 99th percentile."""
    cuts = quantiles(seconds, n=100, method="inclusive") if len(seconds) > 1 else list(seconds) * 99
    return f"p50 {cuts[49] * 1000:.0f} ms, p99 {cuts[98] * 1000:.0f} ms ({len(seconds)} times)"
