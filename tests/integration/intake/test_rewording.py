"""Patients and studies whose search texts are of older rules are found by the new ones, once that is through."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aegate_core.dicom.text import name_text, search_text
from aegate_core.services.rewording import reword
from tests.dicom import Instance, ct
from tests.integration.intake.hospital import Place

NAMES = ("Müller^Jörg", "Ångström^Åsa=山田^太郎", "O'Neill^Ann")


async def texts(place: Place) -> list[tuple[str, str]]:
    rows = await place.db.fetch(
        "SELECT p.search_text AS person, s.search_text AS study FROM study s JOIN patient p ON p.id = s.patient_id "
        "ORDER BY s.id"
    )
    return [(str(r["person"]), str(r["study"])) for r in rows]


async def test_old_search_texts_are_made_anew_batch_by_batch(place: Place) -> None:
    for n, name in enumerate(NAMES):
        place.receive(ct(Instance(study=f"s{n}", patient_id=f"P{n}", patient_name=name)))
    await place.index()
    right = await texts(place)
    assert any("muller jorg" in person and "muller jorg" in study for person, study in right)

    async def made() -> int:
        return sum(one == other for one, other in zip(await texts(place), right, strict=True))

    await place.db.execute("UPDATE patient SET search_text = name_alphabetic")
    await place.db.execute("UPDATE study SET search_text = 'old'")
    assert await made() == 0
    assert await reword(place.db, batch=2)
    assert await made() == 2
    assert await reword(place.db, batch=2)
    assert await made() == 3
    assert not await reword(place.db, batch=2)
    await place.db.execute("UPDATE study SET search_text = 'of newer rules'")
    assert not await reword(place.db, batch=2)
    assert await made() == 0


async def test_studies_of_before_get_the_name_they_are_sorted_by(place: Place) -> None:
    for n, name in enumerate(NAMES):
        place.receive(ct(Instance(study=f"s{n}", patient_id=f"P{n}", patient_name=name)))
    await place.index()
    before = await sort_names(place)
    assert sorted(before) == sorted(name_text(*name.split("=")) for name in NAMES)
    await place.db.execute("UPDATE study SET patient_sort_name = ''")
    await place.db.execute("UPDATE installation SET search_rules = 1")
    while await reword(place.db, batch=2):
        pass
    assert await sort_names(place) == before


async def sort_names(place: Place) -> list[str]:
    return [
        str(r["patient_sort_name"])
        for r in await place.db.fetch("SELECT patient_sort_name FROM study ORDER BY id")
    ]


@given(st.text(max_size=40))
def test_a_text_made_twice_is_the_same(text: str) -> None:
    assert search_text(search_text(text)) == search_text(text)
    assert name_text(name_text(text)) == name_text(text)
