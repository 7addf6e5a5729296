"""What can be asked of a row by the study that it is of, in every list of such rows."""

from __future__ import annotations

from aegate_core.stores.listing import Column


def study_columns(study: str) -> dict[str, Column]:
    """Return columns of the study whose id is in ``study``, and of its patient."""
    return columns_within(
        f"{study} IN (SELECT s.id FROM study s LEFT JOIN patient p ON p.id = s.patient_id WHERE {{}})"
    )


def columns_within(of: str) -> dict[str, Column]:
    """Return the same, where ``of`` finds rows by a condition on the study ``s`` and its patient ``p``."""
    return {
        "text": Column("s.search_text", within=of, search="s.search_text", study="s"),
        "patient_name": Column(
            "p.name_alphabetic", within=of, search="p.search_text", is_name=True, study="s"
        ),
        "patient_id": Column("p.patient_id", within=of, study="s"),
        "accession_number": Column("s.accession_number", within=of, study="s"),
        "study_instance_uid": Column("s.study_instance_uid", within=of, is_uid=True),
        "study_date": Column("s.study_date", within=of),
        "document_type": Column("s.document_type", within=of, study="s"),
    }
