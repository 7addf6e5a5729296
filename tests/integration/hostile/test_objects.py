"""Hostile objects: each comes into the index or into quarantine with a reason, cheaply, and its neighbour too."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import pydicom

from aegate_core.dicom.header import read_header
from aegate_core.errors import NotDICOM
from tests import dicom, sentinel
from tests.integration.hostile import objects
from tests.integration.hostile.objects import CHARACTER_SETS, HUGE, INDEXED, NAMES, QUARANTINED
from tests.integration.intake.hospital import Place

MOST_CPU_S = 4.0
"""Of one header: twice what the worst takes on an idle machine, 1.1 s."""
MOST_MIB = 64
SEED = 20261126

FILES = Path(pydicom.__file__).parent / "data"
BROKEN_TOO = sorted(
    p for p in (*FILES.rglob("*.dcm"), *FILES.rglob("DICOMDIR*"), *FILES.rglob("*.ima")) if p.is_file()
)


async def arrives(
    place: Place, hostile: Mapping[str, bytes], *, at_least_quarantined: int = 0
) -> dict[str, str]:
    """Index ``hostile`` in one batch with a good neighbour; return the reasons of those in quarantine by name.

    Nothing may be left, dropped or raised.
    """
    names = {place.receive(content): name for name, content in hostile.items()}
    good = place.receive(dicom.ct())

    result = await place.index()

    assert (result.left, result.arrivals) == ((), len(hostile) + 1)
    assert place.spooled() == []
    rows = await place.db.fetch("SELECT id, outcome FROM arrival")
    outcomes = {row["id"]: row["outcome"] for row in rows}
    assert set(outcomes) == {*names, good}
    assert outcomes[good] == "NEW"
    said = await place.db.fetch("SELECT arrival_id, reason FROM quarantined_object")
    reasons = {names[row["arrival_id"]]: str(row["reason"]) for row in said}
    assert Counter(outcomes.values())["QUARANTINED"] == len(reasons) >= at_least_quarantined
    assert all(reasons.values())
    for reason in reasons.values():
        sentinel.assert_absent(reason, "a reason")
    return reasons


async def test_hostile_objects_are_indexed_or_quarantined_with_their_neighbour(place: Place) -> None:
    hostile = {name: make(name) for name, make in INDEXED.items()}
    hostile |= {name: make(name) for name, (_, make) in QUARANTINED.items()}

    reasons = await arrives(place, hostile)

    assert set(reasons) == set(QUARANTINED)
    assert {n: r for n, r in reasons.items() if QUARANTINED[n][0] not in r} == {}


async def test_names_in_every_character_set_and_with_lies_about_it_are_indexed(place: Place) -> None:
    hostile = {
        f"{n} {m}": objects.named(f"{n} {m}", charset, person)
        for n, charset in enumerate(CHARACTER_SETS)
        for m, person in enumerate(NAMES)
    }

    assert await arrives(place, hostile) == {}


async def test_pydicom_test_files_with_flipped_bits_and_cut_short_are_indexed_or_quarantined(
    place: Place,
) -> None:
    chance = random.Random(SEED)
    small = sorted(BROKEN_TOO, key=lambda p: (p.stat().st_size, p))[:120]
    hostile = {f"{p.name} {n}": p.read_bytes() for n, p in enumerate(small)}
    hostile |= {
        f"{name} bits": objects.flipped(content, chance) for name, content in hostile.items() if content
    }
    hostile |= {
        f"{name} cut": content[: chance.randrange(len(content))]
        for name, content in hostile.items()
        if content
    }

    await arrives(place, hostile, at_least_quarantined=50)


def _cuts(path: Path, chance: random.Random, *, everywhere: bool) -> Iterable[int]:
    if everywhere:
        return objects.element_boundaries(path)
    return sorted(chance.randrange(min(path.stat().st_size, 64 * 1024)) for _ in range(32))


def test_every_pydicom_test_file_cut_anywhere_and_with_flipped_bits_is_read_or_refused(
    tmp_path: Path,
) -> None:
    chance = random.Random(SEED)
    by_size = sorted(BROKEN_TOO, key=lambda p: (p.stat().st_size, p))
    tiny = set([p for p in by_size if p.suffix == ".dcm" and p.stat().st_size > 300][:10])
    tried: Counter[bool] = Counter()
    target = tmp_path / "damaged.dcm"
    for path in by_size:
        with path.open("rb") as file:
            content = file.read(1 << 18)
        cut = [content[:at] for at in _cuts(path, chance, everywhere=path in tiny)]
        for damaged in (*cut, *(objects.flipped(content, chance) for _ in range(4) if content)):
            target.write_bytes(damaged)
            tried[_is_read(target)] += 1
    assert tried.total() > 4000
    assert min(tried.values()) > 500


def _is_read(path: Path) -> bool:
    try:
        header = read_header(path)
    except NotDICOM:
        return False
    json.dumps(header.elements, allow_nan=False).encode("utf-8")
    return True


def test_no_header_costs_more_than_its_budget(tmp_path: Path) -> None:
    folder = tmp_path / "objects"
    folder.mkdir()
    makers = {name: make for name, (_, make) in (HUGE | QUARANTINED).items()} | INDEXED
    with (tmp_path / "measure.log").open("wb") as log:
        for name, make in makers.items():
            (folder / f"{name}.dcm").write_bytes(make(name))
        command = [sys.executable, "-m", "tests.integration.hostile.measure", folder]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=log, timeout=120)
        costs = [json.loads(line) for line in done.stdout.splitlines()]
    shutil.rmtree(folder)  # a gigabyte

    assert {c["file"] for c in costs} == set(makers)
    assert [c for c in costs if c["seconds"] > MOST_CPU_S or c["mib"] > MOST_MIB] == []
    reasons = {c["file"]: c["reason"] for c in costs}
    expected = {name: said for name, (said, _) in HUGE.items()}
    assert {
        n: reasons[n]
        for n, said in expected.items()
        if said not in reasons[n] or bool(said) != bool(reasons[n])
    } == {}
    assert (tmp_path / "measure.log").read_bytes() == b""
