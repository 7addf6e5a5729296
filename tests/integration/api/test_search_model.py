"""Search against a plain model of it: both databases find just the studies that a few lines of Python find."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from aegate_core.database import Database, open_database
from aegate_core.dicom.text import name_text, search_text
from aegate_core.stores.index.list_studies import STUDIES, STUDY_ORDERS
from aegate_core.stores.listing import AllOf, AnyOf, Compare, Filter, Op, PageQuery, read_page, read_where
from aegate_core.stores.scope import ALL_ROWS
from aegate_graphql_api.context import Context
from aegate_graphql_api.errors import RequestRefused
from aegate_graphql_api.permissions import Caller
from aegate_graphql_api.schema.study import studies_filter

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Known:
    """A study, as far as it is searched."""

    name: tuple[str, str, str] = ("", "", "")
    patient_id: str = ""
    accession: str = ""
    description: str = ""
    date: str = ""
    location: str | None = None

    @property
    def text(self) -> str:
        said = (self.patient_id, *self.name, self.accession, self.description, "CT", self.location)
        return search_text(*said)


HOSPITAL = (
    Known(("Müller^Jörg", "", ""), "P1", "A-100%", "Thorax pa, stehend", "20260101", "ER"),
    Known(("MULLER^ANN", "", ""), "P10", "A_100", "Schädel", "20260102", "er"),
    Known(("Mueller^Jo", "", ""), "P2", "A1005", "thorax lateral", "20251231"),
    Known(("Yamada^Tarou", "山田^太郎", "やまだ^たろう"), "山-1", "B*1", "腹部", "20260103"),
    Known(("Hong^Gildong", "洪^吉洞", "홍^길동"), "P3", "B?1", "Abdomen", ""),
    Known(("Buc^Jérôme", "", ""), "p3", "", "Genou\\droit", "2026-1-1", "Ü1"),
    Known(("", "ｶﾅ^ﾀﾛｳ", ""), "", "", 'said "knee"', "20260101"),
    Known(("Bold\U0001d400^\U0001d401", "", ""), "X'; --", "C", "Straße ẞ", "20240229"),
    Known(("Miller, Ann", "", ""), "P20", "A10", "Müller^Jörg", "20260101"),
    Known(("von Bern^Anna Maria^^Dr.", "", ""), "P100", "a-100%", "Fuß rechts", "99999999"),
    Known(("", "", ""), "", "", "", ""),
    Known(("Ärzte^%", "", ""), "_", "\\", "a  b", "20260131"),
)


@contextmanager
def filled(
    url: str, insert: Callable[[Database], Coroutine[None, None, None]]
) -> Iterator[tuple[asyncio.Runner, Database]]:
    """Open the database with the hospital in it, on a loop of its own: examples are not async."""
    with asyncio.Runner() as runner:
        opened = open_database(url)
        db = runner.run(opened.__aenter__())
        try:
            runner.run(insert(db))
            yield runner, db
        finally:
            runner.run(opened.__aexit__(None, None, None))


async def insert_studies(db: Database) -> None:
    for n, known in enumerate(HOSPITAL):
        await db.execute(
            "INSERT INTO patient (id, partition, issuer, patient_id, unidentified_study_uid, name_alphabetic, "
            "name_ideographic, name_phonetic, birth_date, sex, search_text, source, created_at, updated_at) "
            "VALUES ($1, 'default/default', '', $2, $3, $4, $5, $6, '', '', $7, 'DICOM', $8, $8)",
            n,
            known.patient_id,
            f"1.2.{n}",
            *known.name,
            name_text(*known.name),
            NOW,
        )
        await db.execute(
            "INSERT INTO study (id, partition, study_instance_uid, patient_id, accession_number, study_id, "
            "study_date, study_time, description, referring_physician, modalities, document_type, location_code, "
            "source_ae, first_arrival_at, last_arrival_at, series_count, instance_count, size_bytes, search_text) "
            "VALUES ($1, 'default/default', $2, $1, $3, '', $4, '', $5, '', '[\"CT\"]', 'CT', $6, 'default/ct1', "
            "$7, $7, 0, 0, 0, $8)",
            n,
            f"1.2.{n}",
            known.accession,
            known.date,
            known.description,
            known.location,
            NOW,
            known.text,
        )


# The model.


def glob(pattern: str, text: str) -> bool:
    """Whether the whole of ``text`` fits."""
    shape = "".join({"*": ".*", "?": "."}.get(c) or re.escape(c) for c in pattern)
    return re.fullmatch(shape, text, re.DOTALL) is not None


def ascii_lower(text: str) -> str:
    return "".join(c.lower() if c.isascii() else c for c in text)


def has_phrase(phrase: str, text: str) -> bool:
    words = phrase.split()
    turns = range(len(words)) if 0 < len(words) <= 6 else range(1)
    return any(" ".join(words[n:] + words[:n]) in text for n in turns)


def has_word(pattern: str, text: str) -> bool:
    """Whether a run of whole words of ``text`` fits."""
    words = text.split(" ")
    runs = {" ".join(words[a:b]) for a in range(len(words)) for b in range(a, len(words) + 1)}
    return any(glob(pattern, run) for run in runs)


def finds(wanted: str, text: str) -> bool:
    folded = search_text(wanted)
    if not re.search(r"[*?]", folded) and len(folded.replace(" ", "")) < 3:
        folded = search_text(f"{wanted}*")
    return has_word(folded, text) if re.search(r"[*?]", folded) else has_phrase(folded, text)


def of_name(op: Op, wanted: str, name: tuple[str, str, str]) -> bool:
    groups = [search_text(g.replace(",", " ")) for g in name if g]
    folded = search_text(wanted.replace(",", " "))
    if op is Op.STARTS_WITH:
        return any(g.startswith(folded) for g in groups) or not folded
    text = " = ".join(g for g in groups if g)
    if op is Op.CONTAINS:
        return all(w in text for w in folded.split())
    return all(has_word(w, text) if re.search(r"[*?]", w) else w in text for w in folded.split())


def of_text(op: Op, wanted: str, text: str | None) -> bool:
    if text is None:
        return False
    wanted, text = ascii_lower(wanted), ascii_lower(text)
    if op is Op.CONTAINS:
        return wanted in text
    return text.startswith(wanted) if op is Op.STARTS_WITH else glob(wanted, text)


FIELDS: dict[str, Callable[[Known], str | None]] = {
    "patient_id": lambda k: k.patient_id,
    "accession_number": lambda k: k.accession,
    "description": lambda k: k.description,
    "study_date": lambda k: k.date,
    "location_code": lambda k: k.location,
    "patient_name": lambda k: k.name[0],
}


def holds(where: Filter, known: Known) -> bool:
    if isinstance(where, AllOf):
        return all(holds(p, known) for p in where.parts)
    if isinstance(where, AnyOf):
        return any(holds(p, known) for p in where.parts)
    value, op = FIELDS[where.column](known), where.op
    if op in (Op.CONTAINS, Op.STARTS_WITH, Op.MATCHES):
        if where.column == "patient_name":
            return of_name(op, str(where.value), known.name)
        return of_text(op, str(where.value), value)
    if op is Op.IS_NULL:
        return (not value) is where.value
    if value is None:
        return False
    if op is Op.IN:
        return value in list(where.value)  # type: ignore[call-overload]  # a list, where op is IN
    wanted = str(where.value)
    return {Op.EQ: value == wanted, Op.FROM: value >= wanted, Op.TO: value <= wanted}[op]


# What is asked.

PIECES = (
    *("mül", "muller", "Müller^J", "ann", "jörg", "örg m", "100%", "a_1", "p1", "P10", "tho", "rax", "pa,"),
    *(
        "schadel",
        "山田",
        "やまた",
        "太",
        "홍",
        "기",
        "tarou",
        "カナ",
        "bold",
        "str",
        "ss",
        "1",
        "A",
        "*",
        "?",
        "%",
    ),
    *(
        "_",
        "\\",
        "'",
        "=",
        "^",
        " ",
        "  ",
        ",",
        "ü",
        "Ü",
        "ß",
        "ẞ",
        "é",
        "knee",
        "von bern",
        "maria",
        "20260101",
    ),
    *("2026", "er", "ER", "\U0001d400"),
)
texts = st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=4).map("".join)
storable = texts.filter(lambda t: "\0" not in t and t.isprintable())


def comparisons() -> st.SearchStrategy[Filter]:
    columns = st.sampled_from(sorted(FIELDS))
    ops = [Op.EQ, Op.CONTAINS, Op.STARTS_WITH, Op.MATCHES, Op.FROM, Op.TO]
    return st.one_of(
        st.builds(Compare, columns, st.sampled_from(ops), storable),
        st.builds(Compare, columns, st.just(Op.IN), st.lists(storable, max_size=3)),
        st.builds(Compare, columns, st.just(Op.IS_NULL), st.booleans()),
    )


filters = st.recursive(
    comparisons(),
    lambda inner: (
        st.lists(inner, max_size=3)
        .map(tuple)
        .flatmap(lambda parts: st.sampled_from([AllOf(parts), AnyOf(parts)]))
    ),
    max_leaves=5,
)
words = st.sampled_from(PIECES) | st.sampled_from([part for k in HOSPITAL for part in k.text.split()])
searches = st.lists(st.tuples(words, words, words).map("".join) | words, min_size=1, max_size=3)


async def found(db: Database, where: Filter) -> list[int]:
    rows = await read_where(db, replace(STUDIES, select="s.id AS id"), where, ALL_ROWS)
    return sorted(int(str(r["id"])) for r in rows)


def check_filters(
    find: Callable[[Filter], list[int]], hospital: tuple[Known, ...] = HOSPITAL, examples: int = 250
) -> None:
    @settings(max_examples=examples, suppress_health_check=list(HealthCheck))
    @given(filters)
    @example(Compare("patient_name", Op.CONTAINS, "Jörg MULLER"))
    @example(Compare("patient_name", Op.STARTS_WITH, "山田 太"))
    @example(Compare("patient_name", Op.MATCHES, "M?ller, A*"))
    @example(Compare("patient_id", Op.STARTS_WITH, "P1"))
    def check(where: Filter) -> None:
        assert find(where) == [n for n, k in enumerate(hospital) if holds(where, k)]

    check()


def check_box(box: Callable[[str], list[int] | None], examples: int = 250) -> None:
    @settings(max_examples=examples, suppress_health_check=list(HealthCheck))
    @given(searches)
    @example(["Müller", "jörg"])
    @example(["örg", "MULL"])
    @example(["Mül*"])
    @example(["*ller"])
    @example(["M?ller"])
    @example(["ｶﾅ*"])
    def check(typed: list[str]) -> None:
        typed = [t.replace('"', "").strip() for t in typed]
        for search in (" ".join(f'"{t}"' for t in typed), " ".join(typed)):
            answer = box(search)
            quoted = search.startswith('"')
            parts = typed if quoted else " ".join(typed).replace(",", " ").split()
            if answer is not None and not any(":" in p or re.fullmatch(r"[0-9.]+", p) for p in parts):
                wanted = [n for n, k in enumerate(HOSPITAL) if all(finds(p, k.text) for p in parts)]
                assert answer == wanted, search

    check()


def test_filters_find_what_the_model_finds(database_url: str) -> None:
    with filled(database_url, insert_studies) as (runner, db):
        check_filters(lambda where: runner.run(found(db, where)))


def test_the_one_box_finds_what_the_model_finds(database_url: str) -> None:
    caller = Caller("somebody", frozenset())
    with filled(database_url, insert_studies) as (runner, db):

        async def box(search: str) -> list[int] | None:
            try:
                where = await studies_filter(Context(db, caller, NOW), search, None)
            except RequestRefused:
                return None
            return await found(db, where)

        check_box(lambda search: runner.run(box(search)))


async def test_studies_by_the_name_of_the_patient(database_url: str) -> None:
    """As Python sorts the folded names, on both databases; the ids decide between the same ones."""
    async with open_database(database_url) as db:
        await insert_studies(db)
        wanted = sorted(range(len(HOSPITAL)), key=lambda n: (name_text(*HOSPITAL[n].name)[:128], n))
        for name, order in (("PATIENT_NAME_A_TO_Z", wanted), ("PATIENT_NAME_Z_TO_A", wanted[::-1])):
            page = await read_page(db, STUDIES, PageQuery(STUDY_ORDERS[name], 100), ALL_ROWS)
            assert [keys[-1] for keys in page.keys] == order


TYPED: tuple[tuple[str, set[int]], ...] = (
    ("Mül*", {0, 1, 8}),
    ("M?ller", {0, 1, 8}),
    ("*ller jörg", {0, 8}),
    ("Müller, Jörg", {0, 8}),
    ('"Jörg Müller"', {0, 8}),
    ('"Müller Jörg"', {0, 8}),
    ('"Ann Muller"', {1}),
    ("patient:Müller", {0, 1}),
    ("patient:Müller^J", {0}),
    ('patient:"J* Müller"', {0}),
    ("patient:山田", {3}),
    ("patient:やまだ", {3}),
    ("patient:*郎", {3}),
    ('"anna maria von bern"', {9}),
    ("id:P1", {0, 1, 9}),
    ("id:P1?", {1}),
    ("id:*0", {1, 8, 9}),
    ("id:Ｐ1？", set()),
    ("id:P1？", {1}),
    ("id:＊0", {1, 8, 9}),
    ("accession:a-100%", {0, 9}),
    ("thorax*", {0, 2}),
    ("tho*lat*", {2}),
    ("1.2.3", {3}),
    ("ct Müller", {0, 1, 8}),
    ("abdomen pa", set()),
    ("thorax pa", {0}),
    ("study:1.2.1", {1, 10, 11}),
    ("ＭＵＬＬ", {0, 1, 8}),
)


async def test_what_people_type(database_url: str) -> None:
    async with open_database(database_url) as db:
        await insert_studies(db)
        context = Context(db, Caller("somebody", frozenset()), NOW)
        for typed, names in TYPED:
            assert set(await found(db, await studies_filter(context, typed, None))) == names, typed
