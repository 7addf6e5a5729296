"""What lists of rows that are of a study have in common: the search box, and the filter by study and patient."""

from __future__ import annotations

import re
from collections.abc import Mapping

import strawberry

from aegate_core.stores.index.list_resources import keys_matching
from aegate_core.stores.listing import AllOf, AnyOf, Compare, Filter, Op
from aegate_graphql_api.context import Context
from aegate_graphql_api.search import Term, TextFilter, filter_of, terms

PREFIXES: Mapping[str, tuple[str, Op]] = {
    "patient": ("patient_name", Op.CONTAINS),
    "id": ("patient_id", Op.STARTS_WITH),
    "accession": ("accession_number", Op.STARTS_WITH),
    "study": ("study_instance_uid", Op.STARTS_WITH),
}


@strawberry.input
class OfStudyWhere:
    """Filter by the study and its patient."""

    source_ae: TextFilter | None = strawberry.field(
        default=None, description="namespace/name of the AE that sent it, such as default/ct1."
    )
    patient_name: TextFilter | None = strawberry.field(default=None, description="The patient's name.")
    patient_id: TextFilter | None = strawberry.field(
        default=None, description="The hospital's id of the patient."
    )
    accession_number: TextFilter | None = strawberry.field(
        default=None, description="The number under which the examination was ordered."
    )
    study_instance_uid: TextFilter | None = strawberry.field(
        default=None, description="DICOM's own id of the study, such as 1.2.826.0.1.3680043.2."
    )
    study_date: TextFilter | None = strawberry.field(default=None, description="YYYYMMDD, such as 20260131.")


async def found_of_study(context: Context, search: str | None, where: object | None) -> Filter:
    """Return what a search and a filter ask for, of a list with `study_columns` and ``source_ae``."""
    parts = [filter_of(where)]
    for term in terms(search, (*PREFIXES, "ae")):
        if term.prefix is not None and term.prefix in PREFIXES:
            column, op = PREFIXES[term.prefix]
            parts.append(term.compare(column, op))
            continue
        sources = Compare("source_ae", Op.IN, await keys_matching(context.db, term.compare("text")))
        parts.append(sources if term.prefix else AnyOf((anything_of_a_study(term), sources)))
    return AllOf(tuple(parts))


def anything_of_a_study(term: Term) -> Filter:
    """Return where a term is found in what is known of a study: its search text, or its UID."""
    text = term.compare("text")
    if not _UID.fullmatch(term.text):
        return text
    return AnyOf((text, term.compare("study_instance_uid", Op.STARTS_WITH)))


_UID = re.compile(r"[0-9]+(\.[0-9]*)+")
