"""Hostile objects from senders that hospitals use: what they cannot send goes over bare sockets; none is lost."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from aegate_core.dicom.ae_title import AETitle
from aegate_core.dicom.part10 import read_file_meta
from aegate_core.errors import NotDICOM
from aegate_scu.send import Remote, send_files
from tests import sentinel
from tests.integration.hostile.objects import TEST_FILES, flipped
from tests.integration.hostile.test_bad_senders import OVER_THE_NETWORK, send_bare
from tests.integration.intake.hospital import Place
from tests.integration.peers import run_dcmtk
from tests.integration.scp.listeners import RunningListener, running_listener
from tests.integration.scp.wires import connected

SEED = 20261126
LEAST, LEAST_OF_DCMTK = 20, 10
DAMAGED = (
    *(
        "CT_small.dcm",
        "MR_small.dcm",
        "MR_small_implicit.dcm",
        "MR_small_RLE.dcm",
        "JPEG2000.dcm",
        "rtplan.dcm",
    ),
    *("SC_rgb_small_odd.dcm", "SC_rgb_jpeg_dcmtk.dcm", "MR_small_jpeg_ls_lossless.dcm", "reportsi.dcm"),
)
_TOO_LONG_FOR_A_TEST_BYTES = 1 << 18


def hostile(folder: Path) -> list[Path]:
    """Write hostile objects, and files of pydicom with flipped bits."""
    chance = random.Random(SEED)
    made = {name: make(name) for name, make in OVER_THE_NETWORK.items()}
    made |= {
        f"{name} {n}": flipped((TEST_FILES / name).read_bytes(), chance) for name in DAMAGED for n in range(2)
    }
    paths = []
    for number, content in enumerate(c for c in made.values() if len(c) < _TOO_LONG_FOR_A_TEST_BYTES):
        paths.append(folder / f"{number:03}.dcm")
        paths[-1].write_bytes(content)
    return paths


def by_storescu(listener: RunningListener, paths: list[Path]) -> list[Path]:
    """Send with dcmtk's program, one process a file, for some crash it; return what was acknowledged."""
    to = ("-v", "-R", "-aet", "CT1", "-aec", "AEGATE", "127.0.0.1", str(listener.port))
    return [p for p in paths if "Received Store Response (Success)" in run_dcmtk("storescu", *to, p).stdout]


def by_aegate(listener: RunningListener, paths: list[Path]) -> list[Path]:
    """Send as `aegate send` does; return what was acknowledged."""
    remote = Remote("127.0.0.1", listener.port, AETitle("AEGATE"), AETitle("CT1"))
    return [outcome.path for outcome in send_files(paths, remote) if outcome.status == 0x0000]


def bare(listener: RunningListener, paths: list[Path]) -> list[Path]:
    """Send what no toolkit would; return what was acknowledged."""
    sent = []
    with connected(listener.port) as peer:
        peer.associate()
        for number, path in enumerate(paths):
            if has_data_set(path):
                send_bare(peer, path.read_bytes(), number)
                assert peer.status() == 0x0000
                sent.append(path)
    return sent


def has_data_set(path: Path) -> bool:
    """Whether it can be told where its data set begins."""
    try:
        with path.open("rb") as file:
            read_file_meta(file)
    except NotDICOM:
        return False
    return True


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")  # the files are wrong on purpose
async def test_hostile_objects_of_real_senders_are_indexed_or_quarantined(
    place: Place, tmp_path: Path
) -> None:
    (tmp_path / "objects").mkdir()
    paths = hostile(tmp_path / "objects")
    with running_listener(tmp_path, spool=str(tmp_path / "spool")) as listener:
        dcmtk = by_storescu(listener, paths)
        ours = by_aegate(listener, paths)
        left = [p for p in paths if p not in (*dcmtk, *ours)]
        rest = bare(listener, left)
        unsendable = [p for p in left if not has_data_set(p)]
        arrivals = listener.arrivals()

    assert (len(dcmtk) >= LEAST_OF_DCMTK, len(ours) >= LEAST) == (True, True)
    assert {p.name for p in paths} - {p.name for p in (*dcmtk, *ours, *rest)} == {p.name for p in unsendable}
    assert len(arrivals) == len(dcmtk) + len(ours) + len(rest)
    result = await place.index_some(arrivals, arrivals[0].side.received_at)
    assert (result.arrivals, result.left) == (len(arrivals), ())
    said = [str(r["reason"]) for r in await place.db.fetch("SELECT reason FROM quarantined_object")]
    assert len(said) == result.quarantined > 0
    assert all(said)
    sentinel.assert_absent(" ".join(said), "reasons")
