"""Tests of demo."""

from __future__ import annotations

import socket
from itertools import islice
from pathlib import Path
from typing import Any

from aegate_cli.demo.compare import compare, read_received
from aegate_cli.demo.modality import data_set_digest
from aegate_cli.demo.objects import ct_study, ultrasound_study
from aegate_cli.demo.progress import Sent, study_progress
from aegate_cli.demo.scene import choose_ports

ALL = frozenset({"1", "2", "3"})


def test_all_there_is_right() -> None:
    result = compare("pacs", {"1": "x"}, {"1": ["x", "x"], "foreign": ["y"]}, all_sent=ALL)
    assert (result.is_right, result.expected, result.equal, result.complaints()) == (True, 1, 1, [])


def test_what_is_wrong_is_named() -> None:
    result = compare("pacs", {"1": "x", "2": "y"}, {"2": ["z"], "3": ["w"]}, all_sent=ALL)
    assert not result.is_right
    assert result.complaints() == [
        "pacs: missing 1",
        "pacs: different from what was sent 2",
        "pacs: not meant for it 3",
    ]


def test_slices_differ_and_keep_their_digest_on_disk(tmp_path: Path) -> None:
    digests = set()
    for ds in islice(ct_study(), 3):
        path = tmp_path / f"{ds.InstanceNumber}.dcm"
        ds.save_as(path, enforce_file_format=True)
        digests.add(data_set_digest(path))
        assert (ds.Rows, ds.Columns, ds.BitsAllocated, len(ds.PixelData)) == (512, 512, 16, 512 * 512 * 2)
    (tmp_path / "letter.dcm").write_text("no image")
    found = read_received(tmp_path)
    assert len(digests) == 3
    assert sorted(len(v) for v in found.values()) == [1, 1, 1, 1]
    assert found["letter.dcm"] == ["not a DICOM file"]


def test_the_ultrasound_is_one_clip_of_jpeg_frames() -> None:
    (ds,) = ultrasound_study()
    assert ds.NumberOfFrames == 60
    assert ds.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.4.50"
    assert ds.pixel_array.shape == (60, 480, 640)


def answer(state: str, closed: str | None) -> dict[str, Any]:
    unit = {"closedAt": closed, "outcome": "ROUTED"}
    item = {
        "state": state,
        "destinationAe": "default/pacs",
        "instancesTotal": 2,
        "instancesDone": 2 if state == "COMPLETED" else 1,
        "study": {"studyInstanceUid": "1.2"},
        "whyNotMoving": None if state == "COMPLETED" else {"text": "being sent"},
    }
    study = {"studyInstanceUid": "1.2", "instanceCount": 2, "closeUnits": [unit]}
    return {"studies": {"nodes": [study]}, "queueItems": {"nodes": [item]}}


def test_progress_is_finished_when_closed_and_pushed() -> None:
    sent = Sent("CT", "1.2", {"1": "x", "2": "y"}, {"1", "2"})
    done = study_progress(sent, answer("COMPLETED", "now"))
    moving = study_progress(sent, answer("IN_PROGRESS", "now"))
    still_open = study_progress(sent, answer("COMPLETED", None))
    assert done.stages() == ("CT", "2/2", "2/2", "ROUTED", "1", "pacs 2/2", "")
    assert [p.is_finished for p in (done, moving, still_open)] == [True, False, False]
    assert moving.why == "being sent"


def test_two_demos_never_choose_the_same_ports() -> None:
    first: list[socket.socket] = []
    second: list[socket.socket] = []
    try:
        ours, _ = choose_ports(first)
        theirs, notes = choose_ports(second)
    finally:
        for claimed in first + second:
            claimed.close()
    assert not set(ours.values()) & set(theirs.values())
    assert len(notes) == len(theirs) == 5
