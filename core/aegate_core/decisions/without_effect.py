"""Fields of an ApplicationEntity that are kept and do nothing yet: whoever sets one is told so.

The CRD says the same of each, `Not in effect yet`; a test holds the two together. A printer says it as a whole, by the
reason PrintNotAvailable.
"""

from __future__ import annotations

from collections.abc import Iterator

from aegate_core.resources.values import ApplicationEntity, CompressionMode

WITHOUT_EFFECT = (
    "push.reconcilePatientData",
    "push.reconcileAccessionNumber",
    "push.storageCommitment",
    "push.compression",
    "allowModalityWorklistQuery",
)


def without_effect(ae: ApplicationEntity) -> str:
    """Return a sentence that names what is set and not in effect; empty when nothing is."""
    names = ", ".join(f"spec.{name}" for name in _set(ae))
    return f"Kept, and not in effect yet: {names}." if names else ""


def _set(ae: ApplicationEntity) -> Iterator[str]:
    push = ae.push
    asked = (
        push.reconcile_patient_data != "None",
        push.reconcile_accession_number != "None",
        push.storage_commitment,
        push.compression.mode is not CompressionMode.NONE,
        ae.allow_modality_worklist_query,
    )
    return (name for name, is_set in zip(WITHOUT_EFFECT, asked, strict=True) if is_set)
