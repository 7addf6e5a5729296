"""Studies, series, instances, conflicts and quarantined objects as lists: what is shown and can be asked."""

from __future__ import annotations

from aegate_core.stores.listing import SORTED, Column, Order, Source
from aegate_core.stores.of_study import columns_within, study_columns
from aegate_core.stores.scope import by_entity, by_partition

_OF_A_STUDY = "EXISTS (SELECT 1 FROM study own WHERE own.id = {study} AND {{}})"

STUDIES = Source(
    select=(
        "s.id AS id, s.partition AS partition, s.study_instance_uid AS study_instance_uid, "
        "s.accession_number AS accession_number, s.study_id AS study_id, s.study_date AS study_date, "
        "s.study_time AS study_time, s.description AS description, s.referring_physician AS referring_physician, "
        "s.modalities AS modalities, s.document_type AS document_type, s.location_code AS location_code, "
        "s.source_ae AS source_ae, s.first_arrival_at AS first_arrival_at, s.last_arrival_at AS last_arrival_at, "
        "s.series_count AS series_count, s.instance_count AS instance_count, s.size_bytes AS size_bytes, "
        "p.id AS patient_key, p.issuer AS issuer, p.patient_id AS patient_id, p.birth_date AS birth_date, "
        "p.sex AS sex, p.name_alphabetic AS name_alphabetic, p.name_ideographic AS name_ideographic, "
        "p.name_phonetic AS name_phonetic, p.unidentified_study_uid AS unidentified_study_uid"
    ),
    # LEFT: every study has a patient, and where nothing is asked of it PostgreSQL need not look.
    table="study s LEFT JOIN patient p ON p.id = s.patient_id",
    belongs=by_partition("s.partition"),
    columns={
        "id": Column("s.id", "bigint"),
        "text": Column("s.search_text", search="s.search_text", study="s"),
        "patient_name": Column("p.name_alphabetic", search="p.search_text", is_name=True, study="s"),
        "patient_id": Column("p.patient_id", study="s"),
        "accession_number": Column("s.accession_number", study="s"),
        "study_instance_uid": Column("s.study_instance_uid", is_uid=True),
        "study_date": Column("s.study_date"),
        "description": Column("s.description", study="s"),
        "modality": Column(
            "x.modality", within="EXISTS (SELECT 1 FROM series x WHERE x.study_id = s.id AND {})"
        ),
        "document_type": Column("s.document_type", study="s"),
        "location_code": Column("s.location_code"),
        "partition": Column("s.partition"),
        "source_ae": Column("s.source_ae"),
        "last_arrival_at": Column("s.last_arrival_at", "timestamptz"),
        "instance_count": Column("s.instance_count", "bigint"),
    },
)

STUDY_ORDERS = {
    "NEWEST_ARRIVAL": Order("NEWEST_ARRIVAL", (("s.last_arrival_at", "timestamptz"), ("s.id", "bigint"))),
    "OLDEST_ARRIVAL": Order(
        "OLDEST_ARRIVAL", (("s.last_arrival_at", "timestamptz"), ("s.id", "bigint")), descending=False
    ),
    "NEWEST_STUDY_DATE": Order("NEWEST_STUDY_DATE", ((f"s.study_date{SORTED}", "text"), ("s.id", "bigint"))),
    "OLDEST_STUDY_DATE": Order(
        "OLDEST_STUDY_DATE", ((f"s.study_date{SORTED}", "text"), ("s.id", "bigint")), descending=False
    ),
    "PATIENT_NAME_A_TO_Z": Order(
        "PATIENT_NAME_A_TO_Z",
        ((f"s.patient_sort_name{SORTED}", "text"), ("s.id", "bigint")),
        descending=False,
    ),
    "PATIENT_NAME_Z_TO_A": Order(
        "PATIENT_NAME_Z_TO_A", ((f"s.patient_sort_name{SORTED}", "text"), ("s.id", "bigint"))
    ),
}

_SERIES_OF_A_STUDY = "r.study_id IN (SELECT s.id FROM study s WHERE {})"

SERIES = Source(
    select=(
        "r.id AS id, r.study_id AS study_key, r.series_instance_uid AS series_instance_uid, r.modality AS modality, "
        "r.series_number AS series_number, r.description AS description, r.body_part AS body_part, "
        "r.station_name AS station_name, r.instance_count AS instance_count, r.size_bytes AS size_bytes"
    ),
    table="series r",
    belongs=by_partition("own.partition", _OF_A_STUDY.format(study="r.study_id")),
    columns={
        "id": Column("r.id", "bigint"),
        "study": Column("r.study_id", "bigint"),
        "series_instance_uid": Column("r.series_instance_uid", is_uid=True),
        "modality": Column("r.modality"),
        "series_number": Column("r.series_number"),
        "description": Column("r.description"),
        "body_part": Column("r.body_part"),
        "station_name": Column("r.station_name"),
        "instance_count": Column("r.instance_count", "bigint"),
        "location_code": Column("s.location_code", within=_SERIES_OF_A_STUDY),
        "partition": Column("s.partition", within=_SERIES_OF_A_STUDY),
        "source_ae": Column("s.source_ae", within=_SERIES_OF_A_STUDY),
    }
    | study_columns("r.study_id"),
)
SERIES_ORDER = Order("ARRIVAL", (("r.id", "bigint"),), descending=False)

_OF_A_SERIES = "i.series_id IN (SELECT r.id FROM series r WHERE {})"
_OF_A_SERIES_STUDY = (
    "i.series_id IN (SELECT r.id FROM series r JOIN study s ON s.id = r.study_id "
    "LEFT JOIN patient p ON p.id = s.patient_id WHERE {})"
)

INSTANCES = Source(
    select=(
        "i.id AS id, i.sop_instance_uid AS sop_instance_uid, i.sop_class_uid AS sop_class_uid, "
        "i.instance_number AS instance_number, i.number_of_frames AS number_of_frames, a.id AS arrival_id, "
        "a.ae AS ae, a.received_at AS received_at, a.transfer_syntax_uid AS transfer_syntax_uid, "
        "a.size_bytes AS size_bytes, a.sha256 AS sha256, a.removed_at AS removed_at"
    ),
    table="instance i LEFT JOIN arrival a ON a.id = i.current_arrival_id",
    belongs=by_partition(
        "own.partition",
        "EXISTS (SELECT 1 FROM series r JOIN study own ON own.id = r.study_id WHERE r.id = i.series_id AND {})",
    ),
    columns={
        "id": Column("i.id", "bigint"),
        "series": Column("i.series_id", "bigint"),
        "sop_instance_uid": Column("i.sop_instance_uid", is_uid=True),
        "sop_class_uid": Column("i.sop_class_uid"),
        "instance_number": Column("i.instance_number"),
        "received_at": Column("a.received_at", "timestamptz"),
        "source_ae": Column("a.ae"),
        "series_instance_uid": Column("r.series_instance_uid", within=_OF_A_SERIES, is_uid=True),
        "modality": Column("r.modality", within=_OF_A_SERIES),
        "location_code": Column("s.location_code", within=_OF_A_SERIES_STUDY),
        "partition": Column("s.partition", within=_OF_A_SERIES_STUDY),
    }
    | columns_within(_OF_A_SERIES_STUDY),
)
INSTANCE_ORDER = Order("ARRIVAL", (("i.id", "bigint"),), descending=False)

CONFLICTS = Source(
    select=(
        "c.id AS id, c.kind AS kind, c.arrival_id AS arrival_id, c.other_arrival_id AS other_arrival_id, "
        "c.study_id AS study_key, c.created_at AS created_at, c.resolved_at AS resolved_at, "
        "c.resolved_by AS resolved_by, c.resolution AS resolution, a.ae AS ae"
    ),
    table="conflict c LEFT JOIN arrival a ON a.id = c.arrival_id",
    belongs=by_partition("own.partition", _OF_A_STUDY.format(study="c.study_id")),
    columns={
        "id": Column("c.id", "bigint"),
        "kind": Column("c.kind"),
        "study": Column("c.study_id", "bigint"),
        "source_ae": Column("a.ae"),
        "created_at": Column("c.created_at", "timestamptz"),
        "resolved_at": Column("c.resolved_at", "timestamptz"),
    }
    | study_columns("c.study_id"),
)
CONFLICT_ORDER = Order("NEWEST", (("c.created_at", "timestamptz"), ("c.id", "bigint")))

QUARANTINE = Source(
    select=(
        "o.arrival_id AS arrival_id, o.ae AS ae, o.reason AS reason, o.size_bytes AS size_bytes, "
        "o.received_at AS received_at, o.created_at AS created_at, o.resolved_at AS resolved_at, "
        "o.resolved_by AS resolved_by, o.resolution AS resolution, o.released_at AS released_at, "
        "o.released_by AS released_by"
    ),
    table="quarantined_object o",
    belongs=by_entity("o.ae"),
    columns={
        "id": Column("o.arrival_id"),
        "source_ae": Column("o.ae"),
        "reason": Column("o.reason"),
        "received_at": Column("o.received_at", "timestamptz"),
        "released_at": Column("o.released_at", "timestamptz"),
        "resolved_at": Column("o.resolved_at", "timestamptz"),
    },
)
QUARANTINE_ORDER = Order("NEWEST", (("o.arrival_id", "text"),))
"""Arrival ids are time-ordered."""

UNITS = Source(
    select=(
        "u.id AS id, u.study_id AS study_key, u.series_uid AS series_uid, u.ae AS ae, u.due_at AS due_at, "
        "u.first_uncovered_at AS first_uncovered_at, u.last_arrival_at AS last_arrival_at, "
        "u.closed_at AS closed_at, u.outcome AS outcome, u.closes AS closes"
    ),
    table="close_unit u",
    belongs=by_partition("own.partition", _OF_A_STUDY.format(study="u.study_id")),
    columns={
        "id": Column("u.id", "bigint"),
        "study": Column("u.study_id", "bigint"),
        "source_ae": Column("u.ae"),
        "outcome": Column("u.outcome"),
        "due_at": Column("u.due_at", "timestamptz"),
        "closed_at": Column("u.closed_at", "timestamptz"),
        "last_arrival_at": Column("u.last_arrival_at", "timestamptz"),
    }
    | study_columns("u.study_id"),
)
UNIT_ORDER = Order("NEWEST", (("u.id", "bigint"),))
