"""Search of queue items, AEs, routes and the audit: both databases find just the rows that the plain model finds."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime, timedelta
from operator import eq, ge, le
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aegate_core.database import Database, open_database
from aegate_core.stores.listing import AllOf, AnyOf, Compare, Filter, Op, read_where
from aegate_core.stores.scope import ALL_ROWS
from aegate_graphql_api.errors import RequestRefused
from tests.integration.api.search_lists import LISTED, Listed, Row, with_wildcards
from tests.integration.api.test_search_model import PIECES, filled, of_name, of_text, storable

EXAMPLES = 100
every_list = pytest.mark.parametrize("listed", LISTED.values(), ids=LISTED)


def holds(where: Filter, row: Row, uids: frozenset[str]) -> bool:
    if isinstance(where, AllOf):
        return all(holds(part, row, uids) for part in where.parts)
    if isinstance(where, AnyOf):
        return any(holds(part, row, uids) for part in where.parts)
    value = row[where.column]
    if where.op in (Op.CONTAINS, Op.STARTS_WITH, Op.MATCHES):
        return looks_like(where, value, is_uid=where.column in uids)
    return compares(where.op, where.value, value[0] if isinstance(value, tuple) else value)


def looks_like(where: Compare, value: object, *, is_uid: bool) -> bool:
    wanted = str(where.value)
    if isinstance(value, tuple):
        return of_name(where.op, wanted, value)
    if is_uid and where.op is Op.STARTS_WITH:
        return str(value).startswith(wanted)
    wanted = with_wildcards(wanted) if where.op is Op.MATCHES else wanted
    return of_text(where.op, wanted, None if value is None else str(value))


def compares(op: Op, wanted: Any, value: Any) -> bool:
    if op is Op.IS_NULL:
        return (value is None or value == "") is wanted
    if value is None:
        return False
    if op is Op.IN:
        return value in list(wanted)
    return bool({Op.EQ: eq, Op.FROM: ge, Op.TO: le}[op](value, wanted))


def comparisons(listed: Listed) -> st.SearchStrategy[Filter]:
    """Comparisons as the inputs of the schema make them, of each column that the model knows."""
    return st.one_of(
        *(
            _of_column(name, [row[name] for row in listed.rows])
            for name in sorted(listed.source.columns.keys() - listed.untold)
        )
    )


def _of_column(name: str, values: list[object]) -> st.SearchStrategy[Filter]:
    known = [value[0] if isinstance(value, tuple) else value for value in values if value is not None]
    if isinstance(known[0], bool):
        return st.builds(Compare, st.just(name), st.just(Op.EQ), st.booleans())
    if isinstance(known[0], str):
        texts = st.sampled_from(cast("list[str]", known))
        parts = st.tuples(texts, st.integers(0, 9), st.integers(0, 30)).map(lambda p: p[0][p[1] : p[2]])
        given_: st.SearchStrategy[object] = texts | parts | storable
        ops = [Op.EQ, Op.CONTAINS, Op.STARTS_WITH, Op.MATCHES, Op.FROM, Op.TO]
    elif isinstance(known[0], datetime):
        near = [timedelta(0), timedelta(microseconds=1), timedelta(microseconds=-1), timedelta(days=400)]
        times = st.sampled_from(cast("list[datetime]", known))
        given_ = st.builds(lambda time, by: time + by, times, st.sampled_from(near))
        ops = [Op.FROM, Op.TO]
    else:
        given_ = st.sampled_from(known) | st.integers(-(2**31), 2**31 - 1)
        ops = [Op.EQ, Op.FROM, Op.TO]
    made = [
        st.builds(Compare, st.just(name), st.sampled_from(ops), given_),
        st.builds(Compare, st.just(name), st.just(Op.IS_NULL), st.booleans()),
    ]
    if Op.EQ in ops:
        made.append(st.builds(Compare, st.just(name), st.just(Op.IN), st.lists(given_, max_size=3)))
    return st.one_of(made)


def filters(listed: Listed) -> st.SearchStrategy[Filter]:
    return st.recursive(
        comparisons(listed),
        lambda inner: (
            st.lists(inner, max_size=3)
            .map(tuple)
            .flatmap(lambda parts: st.sampled_from([AllOf(parts), AnyOf(parts)]))
        ),
        max_leaves=5,
    )


async def found(db: Database, listed: Listed, where: Filter) -> list[int]:
    """Return the places of the rows, as the model counts them."""
    key = listed.source.columns[listed.key].sql
    rows = await read_where(db, replace(listed.source, select=f"{key} AS key"), where, ALL_ROWS)
    places = {row[listed.key]: n for n, row in enumerate(listed.rows)}
    return sorted(places[row["key"]] for row in rows)


@every_list
def test_filters_find_what_the_model_finds(listed: Listed, database_url: str) -> None:
    uids = frozenset(name for name, column in listed.source.columns.items() if column.is_uid)
    with filled(database_url, listed.insert) as (runner, db):

        @settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
        @given(filters(listed))
        def check(where: Filter) -> None:
            wanted = [n for n, row in enumerate(listed.rows) if holds(where, row, uids)]
            assert runner.run(found(db, listed, where)) == wanted

        check()


def searches(listed: Listed) -> st.SearchStrategy[list[tuple[str | None, str]]]:
    """Terms with the prefix that each has."""
    said = sorted({word for row in listed.rows for value in row.values() for word in _words(value)})
    words = st.sampled_from(said) | st.sampled_from((*PIECES, "＊", "？"))
    texts = words | st.tuples(words, words).map("".join) | words.map(lambda word: f"{word[:4]}*")
    prefixes = st.sampled_from((None, None, *listed.prefixes))
    return st.lists(
        st.tuples(prefixes, texts.map(lambda t: t.replace('"', "").strip())), min_size=1, max_size=3
    )


def _words(value: object) -> list[str]:
    return " ".join(value).split() if isinstance(value, tuple) else str(value).split()


def written(terms: list[tuple[str | None, str]], quoted: bool) -> str:
    mark = '"' if quoted else ""
    return " ".join(
        f"{prefix}:{mark}{text}{mark}" if prefix else f"{mark}{text}{mark}" for prefix, text in terms
    )


@every_list
def test_the_one_box_finds_what_the_model_finds(listed: Listed, database_url: str) -> None:
    with filled(database_url, listed.insert) as (runner, db):

        async def box(search: str) -> list[int] | None:
            try:
                where = await listed.box(db, search)
            except RequestRefused:
                return None
            return await found(db, listed, where)

        @settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
        @given(searches(listed))
        def check(terms: list[tuple[str | None, str]]) -> None:
            is_one_word = all(re.fullmatch(r"[^\s,:]+", text) for _, text in terms)
            for search in (written(terms, quoted=True), written(terms, quoted=not is_one_word)):
                answer = runner.run(box(search))
                if answer is not None:
                    wanted = [n for n, r in enumerate(listed.rows) if all(listed.has(*t, r) for t in terms)]
                    assert answer == wanted, search

        check()


@every_list
async def test_what_people_type(listed: Listed, database_url: str) -> None:
    async with open_database(database_url) as db:
        await listed.insert(db)
        for typed, places in listed.typed.items():
            assert set(await found(db, listed, await listed.box(db, typed))) == places, typed


@every_list
def test_the_model_knows_every_column(listed: Listed) -> None:
    columns = listed.source.columns.keys() - listed.untold
    assert all(columns <= row.keys() for row in listed.rows)
