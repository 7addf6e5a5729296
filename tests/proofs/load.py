"""Eight devices, three receivers, one of them flapping: ``python -m tests.proofs.load --instances 10000``.

Devices send at the rate at which the two good receivers take it, while somebody looks at the dashboard every second.
At the end the third receiver is away: the two others must get everything without it. Then it comes back for good,
everything is drained and judged. The rates are those of a machine that runs devices, receivers and judge as well: they
tell of a change from run to run, not of what a machine can do.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import cycle
from pathlib import Path
from statistics import median

from aegate_core.database import as_datetime
from tests.integration.flapping import Mood
from tests.integration.processes import open_files
from tests.integration.waiting import eventually
from tests.proofs.command import finish, parser_of
from tests.proofs.hospital import (
    FLAPPING,
    PATIENCE_S,
    Device,
    Hospital,
    acknowledged,
    devices_of,
    hospital,
    send_all,
)
from tests.proofs.judges import is_drained, received_in, rows, verdicts_of
from tests.proofs.watching import MOST_GROWTH, Questions, Repeated, Watch, percentiles

WARM_UP_SHARE = 10
"""One image in so many is sent before anything is measured; at least 8 a device."""
LEAST_WARM_UP = 64
MOODS = (Mood.REFUSING, Mood.PASSING, Mood.CUTTING, Mood.PASSING, Mood.SILENT, Mood.PASSING)
MOOD_S = 4.0
MOST_FILES_MORE = 8
"""Between two idle moments: connections that a pool has opened meanwhile."""
MOST_SLOWER, SLOWER_FROM_S = 2.0, 1.0
"""A good delivery made while the third receiver is away may take this many times as long, and so much longer."""

DASHBOARD = """
{ dashboard { trouble { kind ae count text since } counts { state count } unclosedUnits unindexed noRoute
    openConflicts quarantined failed oldest
    byDestination { name counts { state count } oldest } bySource { name counts { state count } oldest }
    byRoute { name counts { state count } oldest } arriving { sourceAe unindexed unclosedUnits oldest } }
  queueItems(first: 25) { nodes { state destinationAe instancesTotal instancesDone whyNotMoving { code text } } }
  destinations { nodes { ae breaker lastError } } }
"""
PROBE = "mutation($id: ID!) { retryDestination(id: $id) { __typename } }"
DESTINATIONS = "{ destinations { nodes { id ae } } }"

_GOOD_DELIVERIES = """
SELECT q.created_at AS created_at, q.finished_at AS finished_at, q.attempts AS attempts,
  (SELECT count(*) FROM delivery_event e WHERE e.delivery_id = q.id AND e.to_state = 'RETRY') AS retries
FROM delivery q JOIN destination d ON d.id = q.destination_id WHERE d.ae <> $1
"""


@dataclass
class Flapping:
    """The third receiver's comings and goings."""

    here: Hospital
    changes: list[tuple[datetime, Mood]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._moods = cycle(MOODS)

    def next(self) -> None:
        """Change to what comes next."""
        self.be(next(self._moods))

    def be(self, mood: Mood) -> None:
        """Change."""
        self.here.way.be(mood)
        self.changes.append((datetime.now(UTC), mood))

    def was_away(self, at: datetime) -> bool:
        """Whether it did not take everything then."""
        moods = [mood for since, mood in self.changes if since <= at]
        return bool(moods) and moods[-1] is not Mood.PASSING


@dataclass
class Measured:
    """What was seen of one run."""

    devices: Sequence[Device]
    watch: Watch
    dashboard: Questions
    idle_before: dict[str, int]
    idle_after: dict[str, int] = field(default_factory=dict)
    sending_s: float = 0.0
    good_s: float = 0.0
    """Until both good receivers had everything."""
    all_s: float = 0.0


def measure(here: Hospital, flapping: Flapping, instances: int) -> Measured:
    """Warm up, run, drain; return what was seen."""
    warm = devices_of(here, "warm", max(instances // WARM_UP_SHARE, LEAST_WARM_UP))
    send_all(here, warm)
    eventually(lambda: is_drained(here), deadline_s=PATIENCE_S, what="what came before is drained")
    pids = here.pids()
    seen = Measured(
        devices_of(here, "load", instances),
        Watch(pids),
        Questions(lambda: here.up.ask(DASHBOARD), 1.0),
        {name: open_files(pid) for name, pid in pids.items()},
    )
    changing = Repeated(flapping.next, MOOD_S)
    before, began = here.at_good_receivers(), time.monotonic()
    for thread in (seen.watch, seen.dashboard, changing):
        thread.start()
    send_all(here, seen.devices)
    seen.sending_s = time.monotonic() - began
    changing.finish()
    flapping.be(Mood.REFUSING)
    eventually(
        lambda: here.at_good_receivers() - before >= instances,
        deadline_s=PATIENCE_S,
        what="the good receivers have everything while the third one is away",
    )
    seen.good_s = time.monotonic() - began
    seen.watch.finish()
    flapping.be(Mood.PASSING)
    _drain(here)
    seen.all_s = time.monotonic() - began
    seen.dashboard.finish()
    seen.idle_after = {name: open_files(pid) for name, pid in pids.items()}
    seen.devices = [*warm, *seen.devices]
    return seen


def _drain(here: Hospital) -> None:
    """Somebody has the third receiver probed at once; then all is waited for."""
    nodes = here.up.ask(DESTINATIONS)["destinations"]["nodes"]
    (flapping,) = [n["id"] for n in nodes if n["ae"] == FLAPPING]
    here.up.ask(PROBE, id=flapping)
    eventually(lambda: is_drained(here), deadline_s=PATIENCE_S, what="everything is drained")


def judge(here: Hospital, seen: Measured, flapping: Flapping) -> list[str]:
    """Return what is wrong."""
    wrong = verdicts_of(here, here.receivers, acknowledged(seen.devices))
    for name, curve in seen.watch.curves.items():
        if curve.growth() > MOST_GROWTH:
            wrong.append(f"{name}: its memory grew by {curve.growth():.0%} over the second half")
        more = seen.idle_after[name] - seen.idle_before[name]
        if more > MOST_FILES_MORE:
            wrong.append(f"{name}: {more} more files open than before, with nothing to do")
    wrong += [f"{e['process']} ended by itself" for e in here.up.events("child.exited")]
    return [*wrong, *_harm(here, flapping)]


def _harm(here: Hospital, flapping: Flapping) -> list[str]:
    """Say what the third receiver did to the two others."""
    wrong, away, there = [], [], []
    for row in rows(here, _GOOD_DELIVERIES, FLAPPING):
        created = as_datetime(row["created_at"])
        seconds = (as_datetime(row["finished_at"]) - created).total_seconds()
        (away if flapping.was_away(created) else there).append(seconds)
        if row["attempts"] or row["retries"]:
            wrong.append(f"a delivery to a good receiver was tried {row['retries']} times again")
    print(
        f"deliveries to the good ones: {percentiles(away)} made while the third is away, "
        f"{percentiles(there)} while it is there"
    )
    if median(away) > max(MOST_SLOWER * median(there), median(there) + SLOWER_FROM_S):
        wrong.append("deliveries to the good receivers take longer while the third one is away")
    return wrong


def report(here: Hospital, seen: Measured, instances: int) -> None:
    """Print the figures."""
    visible = [s for d in seen.devices for s in d.visible_s]
    delivered = sum(map(received_in, here.receivers.values()))
    print(f"received {instances / seen.sending_s:.0f}/s over {seen.sending_s:.0f} s")
    print(
        f"delivered {delivered / seen.all_s:.0f}/s over {seen.all_s:.0f} s; the good receivers had all at "
        f"{seen.good_s:.0f} s"
    )
    print(f"from last image acknowledged to visible: {percentiles(visible)}")
    print(f"dashboard: {percentiles(seen.dashboard.seconds)}")
    print(f"{'':18} memory in MiB, by eighths of the time {'':8} 2nd half  open files idle, most, idle  CPU")
    for name, curve in seen.watch.curves.items():
        points = " ".join(f"{p / 2**20:5.1f}" for p in curve.points())
        spent = curve.cpu_s[-1] - curve.cpu_s[0]
        files = f"{seen.idle_before[name]:4} {max(curve.open_files):4} {seen.idle_after[name]:4}"
        print(f"{name:18} {points} {curve.growth():+8.1%}  {files:30} {spent:5.1f} s")


def prove(root: Path, *, instances: int, database: str) -> list[str]:
    """Return what is wrong; print what was seen."""
    began = time.monotonic()
    with hospital(root, database=database) as here:
        flapping = Flapping(here)
        seen = measure(here, flapping, instances)
        report(here, seen, instances)
        wrong = judge(here, seen, flapping)
    lost = sum(w.startswith("acknowledged and not") for w in wrong)
    count = len(acknowledged(seen.devices))
    print(f"{database}: {count} instances acknowledged, {lost} lost; {time.monotonic() - began:.0f} s")
    return wrong


def main() -> int:
    """Run the proof; exit code 1 when it failed."""
    parser = parser_of(__doc__)
    parser.add_argument("--instances", type=int, default=10_000, help="how many images (default: 10000)")
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="aegate-load-"))
    print(f"everything is kept in {root} when it fails", file=sys.stderr, flush=True)
    wrong = prove(root, instances=options.instances, database=options.database)
    return finish(wrong, root, most=20)


if __name__ == "__main__":
    sys.exit(main())
