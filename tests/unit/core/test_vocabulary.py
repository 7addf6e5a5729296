"""AE titles, UIDs, arrival ids, keys and search text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegate_core.dicom.ae_title import AETitle, clean_title
from aegate_core.dicom.arrival_ids import new_arrival_id
from aegate_core.dicom.identifiers import (
    ResourceKey,
    parse_arrival_id,
    parse_resource_key,
    parse_uid,
)
from aegate_core.dicom.text import search_text
from aegate_core.errors import InvalidValue


@pytest.mark.parametrize(
    ("title", "message"),
    [
        ("", "got 0"),
        ("A" * 17, "got 17"),
        (" CT", "space"),
        ("CT ", "space"),
        ("C\\T", "backslash"),
        ("CTÄ", "ASCII"),
    ],
)
def test_titles_outside_the_standard_are_refused(title: str, message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        AETitle(title)


def test_titles_compare_without_case_by_their_folded_form() -> None:
    assert AETitle("Ct_1").folded == AETitle("CT_1").folded
    assert str(AETitle("CT 1")) == "CT 1"


@pytest.mark.parametrize(
    ("raw", "clean"),
    [(b"CT1\0\0  ", "CT1"), ("  CT1  ", "CT1"), (b"\0", ""), ("../a\n", "../a?"), ("Ä", "?")],
)
def test_titles_from_the_wire_lose_their_padding(raw: str | bytes, clean: str) -> None:
    assert clean_title(raw) == clean


@given(st.binary(max_size=40))
def test_whatever_a_peer_sends_as_title_is_safe_to_log(raw: bytes) -> None:
    clean = clean_title(raw)
    assert len(clean) <= 16
    assert clean.isascii() and (clean == "" or clean.isprintable())


def test_uids_are_digits_and_dots() -> None:
    assert parse_uid("1.2.840.10008.1.1\0") == "1.2.840.10008.1.1"
    for bad in ("", "1..2", "1.2/../3", "1." + "2" * 64):
        with pytest.raises(InvalidValue, match="UID must be"):
            parse_uid(bad)


def test_arrival_ids_sort_by_time_and_are_safe_as_file_names() -> None:
    assert new_arrival_id(1000) < new_arrival_id(1001)
    assert parse_arrival_id(new_arrival_id()) != new_arrival_id()
    with pytest.raises(InvalidValue, match="32 hex"):
        parse_arrival_id("../../etc/passwd")


def test_keys_are_namespace_and_name() -> None:
    assert parse_resource_key("default/ct1") == ResourceKey("default", "ct1")
    assert str(ResourceKey("a", "b")) == "a/b"
    for bad in ("ct1", "a/b/c", "/b", "a/"):
        with pytest.raises(InvalidValue, match="namespace/name"):
            parse_resource_key(bad)


def test_search_text_folds_case_accents_and_name_separators() -> None:
    assert search_text("Müller^Jörg=山田", None, "CT-1") == "muller jorg 山田 ct-1"
    assert search_text(" a ", "") == "a"
