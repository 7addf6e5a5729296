"""Studies keep the name that they are sorted by, whoever writes them, and whatever happens at the same time."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from aegate_core.database import Database, migrate, open_database
from aegate_core.dicom.text import name_text
from aegate_core.stores.index.receiving import StudyRow, ensure_studies
from tests.integration.postgres import PostgresServer

T = datetime(2026, 1, 1, tzinfo=UTC)


async def insert_patient(db: Database, number: int, name: str) -> None:
    await db.execute(
        "INSERT INTO patient (id, partition, issuer, patient_id, unidentified_study_uid, name_alphabetic, "
        "name_ideographic, name_phonetic, birth_date, sex, search_text, source, created_at, updated_at) VALUES "
        "($1, 'default/default', '', $2, '', '', '', '', '', '', $3, 'DICOM', $4, $4)",
        number,
        f"P{number}",
        name_text(name),
        T,
    )


async def insert_study(db: Database, uid: str, patient: int) -> None:
    """As a release does that knows no such name."""
    await db.execute(
        "INSERT INTO study (partition, study_instance_uid, patient_id, accession_number, study_id, study_date, "
        "study_time, description, referring_physician, modalities, document_type, source_ae, first_arrival_at, "
        "last_arrival_at, series_count, instance_count, size_bytes, search_text) VALUES ('default/default', $1, $2, "
        "'', '', '', '', '', '', '[]', '', 'default/ct1', $3, $3, 0, 0, 0, '')",
        uid,
        patient,
        T,
    )


async def names(db: Database) -> dict[str, str]:
    rows = await db.fetch("SELECT study_instance_uid, patient_sort_name FROM study")
    return {str(row["study_instance_uid"]): str(row["patient_sort_name"]) for row in rows}


RENAME = "UPDATE patient SET search_text = $2 WHERE id = $1"


async def test_a_study_has_the_name_of_its_patient(database_url: str) -> None:
    async with open_database(database_url) as db:
        await insert_patient(db, 1, "Müller^Jörg")
        await insert_patient(db, 2, "")
        await insert_study(db, "1.1", 1)
        await insert_study(db, "1.2", 1)
        await insert_study(db, "2.1", 2)
        assert await names(db) == {"1.1": "muller jorg", "1.2": "muller jorg", "2.1": ""}
        await db.execute(RENAME, 1, "miller ann")
        await db.execute("UPDATE patient SET sex = 'F'")
        assert await names(db) == {"1.1": "miller ann", "1.2": "miller ann", "2.1": ""}
        await db.execute("UPDATE study SET patient_id = 2 WHERE study_instance_uid = '1.2'")
        assert await names(db) == {"1.1": "miller ann", "1.2": "", "2.1": ""}


@pytest.mark.parametrize("length", [127, 128, 129, 20_000])
async def test_a_name_of_any_length_is_taken(database_url: str, length: int) -> None:
    async with open_database(database_url) as db:
        await insert_patient(db, 1, "山" * length)
        await insert_study(db, "1.1", 1)
        await insert_patient(db, 2, "x")
        await insert_study(db, "2.1", 2)
        await db.execute(RENAME, 2, "\U0001d7d8é" * length)
        assert await names(db) == {"1.1": ("山" * length)[:128], "2.1": ("\U0001d7d8é" * length)[:128]}


async def test_a_study_that_comes_while_its_patient_is_renamed_gets_the_new_name(database_url: str) -> None:
    async with open_database(database_url) as db, open_database(database_url) as other:
        await insert_patient(db, 1, "Old^Name")
        for n in range(20):
            new = f"name {n}"
            await asyncio.gather(
                db.atomically(lambda tx, new=new: tx.execute(RENAME, 1, new)),  # type: ignore[misc] # mypy knows no such lambda
                other.atomically(lambda tx, n=n: insert_study(tx, f"1.{n}", 1)),  # type: ignore[misc] # as above
            )
            assert set((await names(db)).values()) == {new}


async def test_images_of_a_known_study_do_not_lock_its_patient(postgres: PostgresServer) -> None:
    """Otherwise two indexers of one study, one of which corrects the name, would wait for each other."""
    url = postgres.create("known_study")
    await migrate(url)
    wished = StudyRow(0, "default/default", "1.1", 1, "default/ct1", T, T)
    async with open_database(url) as db, open_database(url) as other:
        await insert_patient(db, 1, "Doe^John")
        await insert_study(db, "1.1", 1)
        async with db.transaction() as tx:
            assert [row.study_instance_uid for row in (await ensure_studies(tx, [wished])).values()] == [
                "1.1"
            ]
            async with other.transaction() as free:
                assert len(await free.fetch("SELECT id FROM patient FOR NO KEY UPDATE NOWAIT")) == 1
