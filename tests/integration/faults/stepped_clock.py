"""Wall clocks of real processes that a test steps ahead and back: all at once, or one process's alone (clock.c)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.integration.shims import build_shim

HOUR_S = 3600


@dataclass(frozen=True, slots=True)
class SteppedClock:
    """Give `environ` to the processes, then step."""

    folder: Path

    @classmethod
    def build(cls, folder: Path) -> SteppedClock:
        """Compile clock.c into ``folder``; all clocks are right at first."""
        (folder / "offsets").mkdir(parents=True)
        build_shim(Path(__file__).with_name("clock.c"), folder)
        return cls(folder)

    @property
    def environ(self) -> dict[str, str]:
        """What a process must be started with."""
        return {
            "LD_PRELOAD": str(self.folder / "clock.so"),
            "AEGATE_TEST_CLOCK": str(self.folder / "offsets"),
        }

    def step(self, offset_s: int, *pids: int) -> None:
        """Let the clocks of these processes, or of all, be off by ``offset_s`` from now on."""
        for name in map(str, pids) if pids else ("all",):
            part = self.folder / f"{name}.part"
            part.write_text(str(offset_s))
            part.replace(self.folder / "offsets" / name)
