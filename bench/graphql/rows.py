"""Fill a migrated PostgreSQL with studies and queue items, as many as asked, the same ones each time.

The server makes them itself, set by set, without their indexes, which are built afterwards: that is faster than COPY,
whose text would have to be made first. Studies and items are made at the same time. Names are of syllables: 8,000
families, 400 given names, so that a search finds what it finds in a hospital: many for a modality, a few hundred for a
family, one for an accession number.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from aegate_core.database import Database
from aegate_core.services import pushing
from aegate_core.stores.queue import rollup

PARTITION = "default/default"
OTHER_PARTITION = "default/research"
"""One study of twenty is of this one."""
ENTITIES = 50
LOCATIONS = 30
UNFINISHED = 20_000
DAYS = 90
"""Over how many days the queue's items were made; those of the last one are unfinished."""

SYLLABLES = (
    *("ba", "be", "bo", "da", "de", "ga", "go", "ha", "he", "ka"),
    *("ki", "la", "lo", "ma", "me", "na", "ni", "ra", "ri", "sa"),
)
DESCRIPTIONS = (
    *(
        "Thorax pa",
        "Thorax lateral",
        "Abdomen",
        "Schädel",
        "Knie links",
        "Knie rechts",
        "Hüfte",
        "Angio Becken",
    ),
    *("LWS", "HWS", "Hand", "Fuß", "Herz", "Mamma"),
)
_SYLLABLES = f"{{{','.join(SYLLABLES)}}}"
_MODALITIES = "{CT,CT,CT,MR,MR,US,US,US,CR,CR,CR,DX,DX,MG,XA,NM,PT,RF,OT,SR}"
_DESCRIPTIONS = f"{{{','.join(DESCRIPTIONS)}}}"
_FAMILY = (
    "initcap(({s}::text[])[1 + {n} % 20] || ({s}::text[])[1 + {n} / 20 % 20] || "
    "({s}::text[])[1 + {n} / 400 % 20])"
)
_GIVEN = "initcap(({s}::text[])[1 + {n} / 3 % 20] || ({s}::text[])[1 + {n} / 7 % 20])"


def _text_of(template: str, n: str) -> str:
    return template.format(s=f"'{_SYLLABLES}'", n=n)


_ENTITIES = f"""
INSERT INTO application_entity (namespace, name, uid, generation, labels, spec, conditions, source, search_text,
  created_at, updated_at, title, node, port, ability, location_code, partition, enabled)
SELECT 'default', 'ae' || i, 'uid-' || i, 1, '{{}}', '{{}}', '[]', '', 'ae' || i || ' host' || i, now(), now(),
  'AE' || i, 'host' || i, 104, 'Both', 'L' || i % {LOCATIONS}, '{PARTITION}', TRUE FROM generate_series(1, {ENTITIES}) i
"""
_DESTINATIONS = (
    "INSERT INTO destination (ae, max_connections, enabled, breaker, failures_in_row, refused_in_row, probe_backoff_s) "
    f"SELECT 'default/ae' || i, 4, TRUE, 'CLOSED', 0, '[]', 5 FROM generate_series(1, {ENTITIES}) i"
)
_PATIENTS = f"""
INSERT INTO patient (id, partition, issuer, patient_id, unidentified_study_uid, name_alphabetic, name_ideographic,
  name_phonetic, birth_date, sex, search_text, source, created_at, updated_at)
SELECT i, CASE WHEN i % 20 = 0 THEN '{OTHER_PARTITION}' ELSE '{PARTITION}' END, 'H', 'P' || i, '',
  family || '^' || given, '', '', '19700101', 'O', lower(family || ' ' || given), 'DICOM', now(), now()
FROM (SELECT i, {_text_of(_FAMILY, "(i * 7919::bigint)")} AS family, {_text_of(_GIVEN, "(i * 104729::bigint)")} AS given
  FROM generate_series(1, $1::bigint) i) AS named
"""
_STUDIES = f"""
INSERT INTO study (id, partition, study_instance_uid, patient_id, accession_number, study_id, study_date, study_time,
  description, referring_physician, modalities, document_type, location_code, source_ae, first_arrival_at,
  last_arrival_at, series_count, instance_count, size_bytes, search_text)
SELECT i, p.partition, '1.2.826.0.1.3680043.' || i, p.id, 'A' || i, 'S' || i, to_char(at, 'YYYYMMDD'), '120000',
  description, '', ('["' || modality || '"]')::jsonb, modality, location, ae, at, at, 2, 300, 150000000,
  lower('p' || p.id || ' ' || p.search_text || ' a' || i || ' s' || i || ' '
    || translate(description, 'äöüß', 'aous') || ' ' || modality || ' ' || modality || ' ' || location || ' '
    || replace(ae, 'default/', '') || ' ' || replace(ae, 'default/', ''))
FROM (SELECT i, 1 + i * 7907::bigint % $2 AS patient, ('{_MODALITIES}'::text[])[1 + i / 3 % 20] AS modality,
    ('{_DESCRIPTIONS}'::text[])[1 + i / 7 % 14] AS description, 'L' || i % {LOCATIONS} AS location,
    'default/ae' || 1 + i % {ENTITIES} AS ae, now() - (($1::bigint - i) * interval '5 years') / $1::bigint AS at
  FROM generate_series(1, $1::bigint) i) AS made JOIN patient p ON p.id = made.patient
"""
_ITEMS = f"""
INSERT INTO delivery (id, destination_id, level, study_id, unit_uid, source_ae, partition, location_code, state,
  priority, rank, supplementary, requested_by, dedup_key, available_at, attempts, instances_total, instances_done,
  instances_failed, size_bytes, created_at, started_at, finished_at, version)
SELECT i, 1 + i % {ENTITIES}, 'Study', study, '1.2.826.0.1.3680043.' || study, 'default/ae' || 1 + study % {ENTITIES},
  CASE WHEN study % 20 = 0 THEN '{OTHER_PARTITION}' ELSE '{PARTITION}' END, 'L' || study % {LOCATIONS},
  CASE WHEN i > $1::bigint - {UNFINISHED} THEN ('{{SCHEDULED,SCHEDULED,RETRY,HELD}}'::text[])[1 + i % 4]
    WHEN i % 500 = 0 THEN 'FAILED' WHEN i % 100 = 0 THEN 'WARNING' ELSE 'COMPLETED' END,
  50, i, FALSE, 'route:default/route' || i % {ENTITIES}, 'd' || i, at, 1, 300, 300, 0, 150000000, at, at,
  CASE WHEN i > $1::bigint - {UNFINISHED} THEN NULL ELSE at + interval '1 minute' END, 3
FROM (SELECT i, 1 + i % $2::bigint AS study, now() - (($1::bigint - i) * interval '{DAYS} days') / $1::bigint AS at
  FROM generate_series(1, $1::bigint) i) AS made
"""


async def fill(db: Database, *, studies: int, items: int) -> None:
    """Make that many; two studies a patient, and the tables were empty before."""
    await db.execute(_ENTITIES)
    await db.execute(_DESTINATIONS)
    async with asyncio.TaskGroup() as both:
        both.create_task(_images(db, studies))
        both.create_task(_insert(db, "delivery", _ITEMS, items, studies))
    for statement in rollup.statements(db.dialect):  # the last one counts what is finished
        await db.execute(statement)
    while await rollup.waits(db, now=await db.time()):  # as workers do all the time
        await pushing.pack_counts(db, now=await db.time())
    await db.execute("VACUUM (ANALYZE) rollup_minute")


async def _images(db: Database, studies: int) -> None:
    patients = max(studies // 2, 1)
    await _insert(db, "patient", _PATIENTS, patients)
    await _insert(db, "study", _STUDIES, studies, patients)


async def _insert(db: Database, table: str, sql: str, *values: object) -> None:
    """Insert with the indexes away that are there for reading alone."""
    indexes = await db.fetch(
        "SELECT c.relname AS name, pg_get_indexdef(i.indexrelid) AS made FROM pg_index i "
        "JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = $1::text::regclass "
        "AND NOT EXISTS (SELECT 1 FROM pg_constraint k WHERE k.conindid = i.indexrelid)",
        table,
    )
    async with db.transaction():
        for index in indexes:
            await db.execute(f'DROP INDEX "{index["name"]}"')
        if table == "delivery":
            # Nobody is told of ten million changes, nor is each one's study looked for, which may come later.
            await db.execute("SET LOCAL session_replication_role = replica")
        await db.execute(sql, *values)
        for made in _statements(indexes):
            await db.execute(made)
    await db.execute(f"VACUUM (ANALYZE) {table}")


def _statements(indexes: Sequence[dict[str, object]]) -> list[str]:
    return [str(index["made"]) for index in indexes]
