"""Make search texts anew that were made by older rules, a few patients at a time, beside everything else.

A migration could not: it knows no case folding, and two million studies would keep everybody waiting. How far it is
stands in the database, so whoever is killed over it leaves the rest to the next worker.
"""

from __future__ import annotations

from aegate_core.database import Database
from aegate_core.dicom.identifiers import parse_resource_key
from aegate_core.services.entities import load_configuration
from aegate_core.services.indexing import name_search, study_search
from aegate_core.services.senders import senders
from aegate_core.stores.index import receiving, rewording

RULES = 2
"""Which rules `dicom.text` has: raise it with them, and all search texts are made anew.

2: the same texts, and the name by which a study is sorted.
"""

BATCH = 50
"""Patients of one transaction. By feel: indexers wait for their studies that long."""


async def reword(db: Database, *, batch: int = BATCH) -> bool:
    """Do the next patients; return whether there may be more. Safe to repeat, and for two at once."""
    if await rewording.rules_of(db) >= RULES:
        return False
    return await db.atomically(lambda tx: _step(tx, batch))


async def _step(tx: Database, batch: int) -> bool:
    after = await rewording.take(tx, RULES)
    if after is None:
        return False
    ids = await rewording.patients_after(tx, after, batch)
    if not ids:
        await rewording.finish(tx, RULES)
        return False
    studies = [study for id in ids for study in await receiving.studies_of_patient(tx, id)]
    people = await receiving.read_patients(tx, ids)
    configuration = await load_configuration(tx)
    sources = await senders(tx, configuration, {parse_resource_key(s.source_ae) for s in studies})
    await rewording.write_patients(
        tx, {id: text for id in ids if (text := name_search(people[id])) != people[id].search_text}
    )
    texts = {
        study.id: (
            study.search_text,
            study_search(study, people[study.patient_row_id], sources[parse_resource_key(study.source_ae)]),
        )
        for study in studies
    }
    await rewording.write_studies(tx, {id: new for id, (old, new) in texts.items() if new != old})
    await rewording.write_sort_names(tx, ids)
    await rewording.advance(tx, ids[-1])
    return True
