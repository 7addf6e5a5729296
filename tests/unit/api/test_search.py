"""Tests of search."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegate_core.stores.listing import AllOf, AnyOf, Column, Compare, Op, Order, sql_of
from aegate_core.stores.scope import Arguments
from aegate_graphql_api.connections import _encode, decode_cursor
from aegate_graphql_api.errors import RequestRefused
from aegate_graphql_api.schema.node import global_id, parse_id
from aegate_graphql_api.search import Term, terms

ORDER = Order("O", (("a", "text"), ("id", "bigint")))


def test_terms_with_prefixes_and_quotes() -> None:
    assert terms('Müller patient:"von Bern" AE:ct', ("patient", "ae")) == [
        Term(None, "Müller"),
        Term("patient", "von Bern"),
        Term("ae", "ct"),
    ]
    assert terms(None, ()) == terms("   ", ()) == terms(" , ", ()) == []


def test_commas_part_terms_but_not_values() -> None:
    assert terms('Müller,Jörg location:ER,OR patient:"Müller, J"', ("location", "patient")) == [
        Term(None, "Müller"),
        Term(None, "Jörg"),
        Term("location", "ER,OR"),
        Term("patient", "Müller, J"),
    ]


def test_wildcards_are_told_from_texts() -> None:
    assert Term(None, "Mül*").compare("text") == Compare("text", Op.MATCHES, "Mül*")
    assert Term(None, "ct").compare("text") == Compare("text", Op.MATCHES, "ct*")
    assert Term("id", "12").compare("patient_id", Op.STARTS_WITH) == Compare(
        "patient_id", Op.STARTS_WITH, "12"
    )
    assert Term("id", "1？").compare("patient_id", Op.STARTS_WITH) == Compare("patient_id", Op.MATCHES, "1？")


@pytest.mark.parametrize(
    "search",
    ["ab", "other:xyz", "patient:", "patient: x", "x" * 257, "a*b?", "abc\0", "\ud800abc", "abc " * 11],
)
def test_searches_that_cannot_be(search: str) -> None:
    with pytest.raises(RequestRefused):
        terms(search, ("patient",))


@given(st.text(max_size=300))
def test_a_search_gives_terms_or_is_refused(search: str) -> None:
    try:
        found = terms(search, ("patient", "ae"))
    except RequestRefused as refused:
        assert (refused.extensions or {})["code"] == "BAD_SEARCH"
    else:
        assert all(t.text for t in found)


def test_values_become_arguments_and_patterns_are_escaped() -> None:
    columns = {
        "name": Column("p.name", search="n", is_name=True, study="s"),
        "uid": Column("u"),
        "x": Column("x.m", within="EXISTS (SELECT 1 WHERE {})"),
    }
    where = AllOf(
        (
            Compare("name", Op.CONTAINS, "50%_Ö^\\"),
            AnyOf((Compare("uid", Op.EQ, "'; DROP"), Compare("x", Op.IN, ["a", "b"]))),
            Compare("name", Op.EQ, "Ö^A"),
            Compare("uid", Op.STARTS_WITH, "1.2_"),
        )
    )
    arguments = Arguments(dialect="postgres")
    assert sql_of(where, columns, arguments) == (
        "(((n LIKE $1::text ESCAPE '\\') AND s.search_text LIKE $2::text ESCAPE '\\') AND (u = $3::text OR "
        "EXISTS (SELECT 1 WHERE x.m = ANY($4::text[]))) AND p.name = $5::text AND "
        '((lower(u COLLATE "C") LIKE lower($6::text COLLATE "C") ESCAPE \'\\\')))'
    )
    assert arguments.values == ["%50\\%\\_o%", "%50\\%\\_o%", "'; DROP", ["a", "b"], "Ö^A", "1.2\\_%"]
    arguments = Arguments(dialect="sqlite")
    assert sql_of(Compare("name", Op.CONTAINS, 'a"bc'), columns, arguments) == (
        "((n LIKE $1::text ESCAPE '\\') AND s.id IN (SELECT rowid FROM study_words WHERE study_words MATCH $2::text))"
    )
    assert arguments.values == ['%a"bc%', '"a""bc"']
    assert sql_of(AllOf(()), columns, arguments) == "TRUE"
    assert sql_of(AnyOf(()), columns, arguments) == "FALSE"


@given(
    st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    st.integers(-(2**63) + 1, 2**63 - 1),
)
def test_cursors_come_back(text: str, number: int) -> None:
    assert decode_cursor(_encode((text, number), "0" * 16, ORDER), "0" * 16, ORDER) == (text, number)


@pytest.mark.parametrize(
    "values",
    [["\ud800", 1], ["a\0", 1], ["a", 2**63], ["a", True], ["a", "1"], ["a"], ["a", 1, 2], {}, None, 1],
)
def test_cursors_with_other_values_are_refused(values: object) -> None:
    forged = base64.urlsafe_b64encode(json.dumps([1, "0" * 16, values]).encode()).decode()
    with pytest.raises(RequestRefused):
        decode_cursor(forged, "0" * 16, ORDER)


@pytest.mark.parametrize(
    "moment", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-01-01", 7]
)
def test_cursors_with_other_times_are_refused(moment: object) -> None:
    by_time = Order("T", (("at", "timestamptz"),))
    forged = base64.urlsafe_b64encode(json.dumps([1, "0" * 16, [moment]]).encode()).decode()
    with pytest.raises(RequestRefused):
        decode_cursor(forged, "0" * 16, by_time)


@given(st.text())
def test_no_text_breaks_cursors_or_ids(text: str) -> None:
    with pytest.raises(RequestRefused):
        decode_cursor(text, "0" * 16, ORDER)
    try:
        parse_id(text)
    except RequestRefused as refused:
        assert (refused.extensions or {})["code"] == "NOT_FOUND"


def test_ids_are_opaque_and_come_back() -> None:
    assert parse_id(global_id("ApplicationEntity", "default/ct1")) == ("ApplicationEntity", "default/ct1")
