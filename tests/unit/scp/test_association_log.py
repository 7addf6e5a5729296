"""What a listener tells the audit: each association, and of a flood of refusals their count."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.stores.spool import Journal, SpoolFolder, journals
from aegate_scp.association_log import MOST_KINDS, AssociationLog, Refusal
from aegate_scp.metrics import ListenerMetrics
from aegate_scp.receive import Peer
from tests.integration.waiting import eventually

CT1 = ResourceKey("default", "ct1")
PEER = Peer("0a1b", CT1, "CT1", "AEGATE", "10.0.0.7", None)


def told(root: Path) -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for path in journals(root, lambda process: True)
        for line in path.read_bytes().splitlines()
    ]


class Clock:
    def __init__(self) -> None:
        self.at = datetime(2026, 1, 1, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.at += timedelta(milliseconds=1)
        return self.at


def test_ten_thousand_refusals_of_a_scanner_are_counted_and_hide_no_association(tmp_path: Path) -> None:
    with closing(SpoolFolder(tmp_path, "p1")):
        log = AssociationLog(Journal(tmp_path, "p1"), ListenerMetrics(), now=Clock())
        log.start()
        for n in range(10_000):
            log.refused(Refusal("unknown_calling_title", None, f"TRY{n}", "AEGATE", "10.6.6.6"))
            if n % 1_000 == 0:
                log.accepted(PEER, 1)
                log.ended(PEER, {"how": "released", "instances": 0})
        log.stop()
        records = told(tmp_path)
    kinds = Counter(r["happened"] for r in records)
    assert (kinds["ACCEPTED"], kinds["ENDED"], kinds["MISSED"]) == (10, 10, 0)
    refused = [r["detail"] for r in records if r["happened"] == "REFUSED"]
    assert len(refused) == MOST_KINDS + 1
    assert sum(r["count"] for r in refused) == 10_000
    assert [r["count"] for r in refused if "callingTitle" not in r] == [10_000 - MOST_KINDS]


def test_first_refusal_is_told_at_once_and_what_repeats_it_with_its_count(tmp_path: Path) -> None:
    with closing(SpoolFolder(tmp_path, "p1")):
        log = AssociationLog(Journal(tmp_path, "p1"), ListenerMetrics(), now=Clock(), window_s=1.0)
        log.start()
        refusal = Refusal("wrong_called_title", CT1, "CT1", "ARCHIVE", "10.0.0.7")
        log.refused(refusal)
        (first,) = eventually(lambda: told(tmp_path), deadline_s=10, what="a record")
        detail = {"reason": "wrong_called_title", "callingTitle": "CT1", "calledTitle": "ARCHIVE"}
        assert first["detail"] == detail | {"count": 1}
        assert (first["ae"], first["peer"], first["at"]) == (
            "default/ct1",
            "10.0.0.7",
            "2026-01-01T12:00:00.001000+00:00",
        )
        for _ in range(5):
            log.refused(refusal)
        log.stop()
        records = [r for r in told(tmp_path) if r != first]
    # The window may have ended between two of them.
    assert sum(r["detail"]["count"] for r in records) == 5
    assert records[0]["detail"] | {"count": 0, "since": ""} == detail | {"count": 0, "since": ""}


def test_a_full_journal_counts_what_it_misses_and_says_so_when_there_is_room(tmp_path: Path) -> None:
    with closing(SpoolFolder(tmp_path, "p1")):
        metrics = ListenerMetrics()
        log = AssociationLog(Journal(tmp_path, "p1", most_bytes=2_000), metrics, now=Clock())
        log.start()
        for _ in range(100):
            log.refused(Refusal("unknown_calling_title", None, "SCANNER", "AEGATE", "10.6.6.6"))
            log.accepted(PEER, 1)
        missed = metrics.registry.get_sample_value("aegate_association_records_missed_total")
        assert missed is not None and 80 < missed < 100

        assert sum(path.stat().st_size for path in journals(tmp_path, lambda p: True)) <= 2_000
        taken: list[dict[str, Any]] = []

        def takes_up() -> bool:
            for path in journals(tmp_path, lambda process: True):
                taken.extend(json.loads(line) for line in path.read_bytes().splitlines())
                path.unlink()
            return sum(r["detail"]["count"] for r in taken if r["happened"] == "MISSED") == missed

        eventually(takes_up, deadline_s=30, what="all that was missed is said")
        assert Counter(r["happened"] for r in taken)["ACCEPTED"] == 100 - missed
        log.stop()
