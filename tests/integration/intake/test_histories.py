"""What must hold after any history of arrivals, repeats, closes and edits: the counts, and who got what how often."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aegate_core.resources.values import Level
from aegate_core.services.studies import close_due
from tests import dicom
from tests.integration.intake.hospital import HOSPITAL, Place, at, entity, route


@dataclass(frozen=True)
class Receive:
    """An object of a device comes; ``content`` tells two under one UID apart."""

    ae: str
    study: str
    series: str
    number: int
    content: int


@dataclass(frozen=True)
class Index:
    """The first so many of the spool are indexed; ``twice``: killed before the spool is cleared, and again."""

    count: int
    twice: bool


@dataclass(frozen=True)
class Close:
    """So many seconds go by, and a worker looks."""

    seconds: int


@dataclass(frozen=True)
class Edit:
    """The route level of a device is edited."""

    ae: str
    level: Level


DEVICES = st.sampled_from(["ct1", "us1"])
LEVELS = st.sampled_from([Level.STUDY, Level.SERIES, Level.IMAGE])
STEPS = st.one_of(
    *[
        st.builds(
            Receive,
            DEVICES,
            st.sampled_from("AAAB"),
            st.sampled_from("xy"),
            st.integers(1, 2),
            st.integers(1, 2),
        )
    ]
    * 4,
    *[st.builds(Index, st.integers(1, 9), st.booleans())] * 2,
    *[st.builds(Close, st.sampled_from([1, 61, 61, 700]))] * 2,
    st.builds(Edit, DEVICES, LEVELS),
)
_examples = iter(range(1_000_000))


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(steps=st.lists(STEPS, min_size=10, max_size=30))
async def test_counts_are_true_and_each_newest_object_goes_out_once(place: Place, steps: list[Any]) -> None:
    example = f"example {next(_examples)} "
    levels = {"ct1": Level.STUDY, "us1": Level.IMAGE}
    await configure(place, levels)
    seconds = 0.0
    for step in [*steps, Index(99, False), Close(5_000)]:
        seconds += 1
        match step:
            case Receive(ae):
                place.receive(made(step, example), ae, at(seconds))
            case Index(count, twice):
                spooled = place.spooled()[:count]
                kept = [(s.path, s.path.read_bytes(), s.side_path, s.side_path.read_bytes()) for s in spooled]
                await place.index_some(spooled, at(seconds))
                if twice:
                    for path, data, side, record in kept:
                        path.write_bytes(data)
                        side.write_bytes(record)
            case Close(wait):
                seconds += wait
                await close_due(place.db, now=at(seconds), limit=1_000)
            case Edit(ae, level):
                levels[ae] = level
                await configure(place, levels)
    arrivals = await place.db.fetch(
        "SELECT a.id, a.ae, a.outcome, a.instance_id, a.sha256, a.size_bytes, s.id AS series_id, s.study_id "
        "FROM arrival a JOIN instance i ON i.id = a.instance_id JOIN series s ON s.id = i.series_id ORDER BY a.id"
    )
    await check_counts(place, arrivals)
    await check_deliveries(place, arrivals)


async def configure(place: Place, levels: dict[str, Level]) -> None:
    devices = [entity(name, level) for name, level in levels.items()]
    await place.apply(
        *devices, *HOSPITAL[2:4], route("all", ["pacs"]), route("early", ["ws1"], level=Level.SERIES)
    )


def made(step: Receive, example: str) -> dicom.Dataset:
    ds = dicom.ct(dicom.Instance(example + step.study, step.series, step.number, rows=1, columns=1))
    ds.ImageComments = str(step.content)
    return ds


async def check_counts(place: Place, arrivals: Sequence[dict[str, Any]]) -> None:
    first = {a["instance_id"]: a for a in reversed(arrivals)}
    for table, column in (("study", "study_id"), ("series", "series_id")):
        counts = Counter(a[column] for a in first.values())
        sizes = Counter[int]()
        for a in first.values():
            sizes[a[column]] += a["size_bytes"]
        rows = await place.db.fetch(f"SELECT id, instance_count, size_bytes FROM {table}")
        assert {r["id"]: (r["instance_count"], r["size_bytes"]) for r in rows} == {
            key: (counts[key], sizes[key]) for key in counts
        }
    newest = {a["instance_id"]: a["id"] for a in arrivals if a["outcome"] != "DUPLICATE"}
    rows = await place.db.fetch("SELECT id, current_arrival_id FROM instance")
    assert {r["id"]: r["current_arrival_id"] for r in rows} == newest
    assert await place.count("close_unit", "due_at IS NOT NULL") == 0
    assert await place.count("arrival", "instance_id IS NULL") == 0
    assert place.spooled() == []


async def check_deliveries(place: Place, arrivals: Sequence[dict[str, Any]]) -> None:
    sent = await place.db.fetch(
        "SELECT dest.ae AS destination, di.arrival_id FROM delivery_instance di "
        "JOIN delivery d ON d.id = di.delivery_id JOIN destination dest ON dest.id = d.destination_id "
        "ORDER BY d.id, di.id"
    )
    times = Counter((r["destination"], r["arrival_id"]) for r in sent)
    assert set(times.values()) <= {1}
    newest = {(a["instance_id"], a["ae"]): a["id"] for a in arrivals if a["outcome"] != "DUPLICATE"}
    for destination in ("default/pacs", "default/ws1"):
        missing = [a for a in newest.values() if (destination, a) not in times]
        assert missing == [], destination
    content = {a["id"]: (a["instance_id"], a["sha256"]) for a in arrivals}
    outcome = {a["id"]: a["outcome"] for a in arrivals}
    had = set[tuple[str, object]]()
    for r in sent:
        what = (r["destination"], content[r["arrival_id"]])
        assert outcome[r["arrival_id"]] != "DUPLICATE" or what not in had
        had.add(what)
