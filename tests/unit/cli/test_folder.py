"""Tests of folder."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from aegate_cli.folder import FolderMemory, fingerprint, secret_names
from aegate_core.dicom.ae_title import AETitle
from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.resources.problems import Problem
from aegate_core.resources.reference import ref_of
from aegate_core.resources.validation import ValidationResult
from aegate_core.resources.values import ApplicationEntity, Metadata

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def entity(name: str, file: str = "") -> ApplicationEntity:
    metadata = Metadata(ResourceKey("default", name), source=f"{file or name}.yaml:1")
    return ApplicationEntity(metadata, AETitle(name.upper()), "10.0.0.1", 104)


A, B = entity("a"), entity("b")


def test_what_is_read_is_desired() -> None:
    desired = FolderMemory().decide(ValidationResult(resources=(A, B)), [], now=NOW)
    assert desired.resources == (A, B)
    assert (desired.is_kept, desired.absent, desired.source_errors) == (False, frozenset(), {})


def test_a_removal_counts_after_five_seconds() -> None:
    memory = FolderMemory()
    read = ValidationResult(resources=(A,))
    early = [memory.decide(read, [A, B], now=NOW + timedelta(seconds=s)) for s in (0, 4.9)]
    late = memory.decide(read, [A, B], now=NOW + timedelta(seconds=5))
    assert [d.resources for d in early] == [(A, B), (A, B)]
    assert [d.absent for d in early] == [frozenset({ref_of(B)})] * 2
    assert (late.resources, late.absent) == ((A,), frozenset())


def test_one_that_came_back_is_absent_anew() -> None:
    memory = FolderMemory()
    memory.decide(ValidationResult(resources=(A,)), [A, B], now=NOW)
    memory.decide(ValidationResult(resources=(A, B)), [A, B], now=NOW + timedelta(seconds=3))
    again = memory.decide(ValidationResult(resources=(A,)), [A, B], now=NOW + timedelta(seconds=6))
    assert again.resources == (A, B)


def test_a_folder_without_anything_usable_keeps_all() -> None:
    nothing = Problem("hospital", 0, 0, "", "files", "none")
    desired = FolderMemory().decide(ValidationResult(unreadable=(nothing,)), [A, B], now=NOW)
    later = FolderMemory().decide(ValidationResult(), [A, B], now=NOW + timedelta(hours=1))
    assert (desired.resources, desired.is_kept, desired.problems) == ((A, B), True, (nothing,))
    assert later.resources == (A, B)


def test_a_broken_file_keeps_what_came_from_it() -> None:
    broken = Problem("b.yaml", 3, 1, "", "YAML", "a tab")
    desired = FolderMemory().decide(ValidationResult(problems=(broken,), resources=(A,)), [A, B], now=NOW)
    assert desired.resources == (A,)
    assert list(desired.source_errors) == [ref_of(B)]
    assert desired.absent == frozenset()


def test_the_fingerprint_follows_manifests_and_certificates_alone(tmp_path: Path) -> None:
    empty = fingerprint(tmp_path)
    (tmp_path / "notes.txt").write_text("x")
    assert fingerprint(tmp_path) == empty == ()
    (tmp_path / "a.yaml").write_text("x")
    with_manifest = fingerprint(tmp_path)
    assert len(with_manifest) == 1
    (tmp_path / "secrets" / "ct").mkdir(parents=True)
    (tmp_path / "secrets" / "ct" / "tls.crt").write_text("x")
    assert len(fingerprint(tmp_path)) == 2
    assert secret_names(tmp_path / "secrets") == {"ct"}
    assert secret_names(tmp_path / "absent") == frozenset()
    assert fingerprint(tmp_path / "absent") == ()
