"""How far the search texts are made by the newest rules, and what is written anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aegate_core.database import Database


async def rules_of(db: Database) -> int:
    """Return by which rules all search texts are made; 0: nobody knows."""
    return int(await db.fetch_value("SELECT search_rules FROM installation WHERE id = 1") or 0)


async def take(tx: Database, rules: int) -> int | None:
    """Return the patient behind which the next ones are done, until the end of the transaction.

    None: all is done, or another is at it.
    """
    row = await tx.fetch_one(
        "SELECT reworded_patient FROM installation WHERE id = 1 AND COALESCE(search_rules, 0) < $1 "
        "FOR UPDATE SKIP LOCKED",
        rules,
    )
    return None if row is None else int(row["reworded_patient"] or 0)


async def patients_after(tx: Database, after: int, limit: int) -> list[int]:
    """Return the next patients by their row ids."""
    rows = await tx.fetch("SELECT id FROM patient WHERE id > $1 ORDER BY id LIMIT $2", after, limit)
    return [int(row["id"]) for row in rows]


async def write_patients(tx: Database, texts: Mapping[int, str]) -> None:
    """Write search texts by row id; nothing else of them is newer by that."""
    await tx.execute_many("UPDATE patient SET search_text = $2 WHERE id = $1", sorted(texts.items()))


async def write_studies(tx: Database, texts: Mapping[int, str]) -> None:
    """Write search texts by row id, of studies that are locked."""
    await tx.execute_many("UPDATE study SET search_text = $2 WHERE id = $1", sorted(texts.items()))


async def write_sort_names(tx: Database, patients: Sequence[int]) -> None:
    """Write the name by which each study of some patients is sorted, where it is another one."""
    name = "(SELECT substr(p.search_text, 1, 128) FROM patient p WHERE p.id = study.patient_id)"
    await tx.execute(
        f"UPDATE study SET patient_sort_name = {name} "
        f"WHERE patient_id = ANY($1) AND patient_sort_name <> {name}",
        list(patients),
    )


async def advance(tx: Database, patient: int) -> None:
    """Write how far it is."""
    await tx.execute("UPDATE installation SET reworded_patient = $1 WHERE id = 1", patient)


async def finish(tx: Database, rules: int) -> None:
    """Write that all are made by these rules."""
    await tx.execute("UPDATE installation SET search_rules = $1, reworded_patient = NULL WHERE id = 1", rules)
