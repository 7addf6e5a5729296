"""The attributes of a worklist item: those that PS3.4 Table K.6-1 returns with type 1 or 2, and that hold values.

So whatever serves a Modality Worklist to devices finds all it needs. Names are DICOM's keywords in snake case.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from aegate_core.dicom.values import VR


class StepStatus(StrEnum):
    """Scheduled Procedure Step Status (0040,0020; PS3.3 C.4.10): these of its terms are in use."""

    SCHEDULED = "SCHEDULED"
    STARTED = "STARTED"
    COMPLETED = "COMPLETED"
    DISCONTINUED = "DISCONTINUED"
    CANCELED = "CANCELED"


@dataclass(frozen=True, slots=True)
class Code:
    """An entry of a code sequence (PS3.3 8.8)."""

    code_value: str
    coding_scheme_designator: str
    code_meaning: str
    coding_scheme_version: str = ""


@dataclass(frozen=True, slots=True)
class Attribute:
    """An attribute of an item. ``said`` explains it without DICOM; ``needed``: a worklist never returns it empty."""

    name: str
    tag: str
    vr: VR
    said: str
    needed: bool = False
    many: bool = False

    @property
    def empty(self) -> object:
        """What it has where nothing is known."""
        if self.many:
            return ()
        return None if self.vr is VR.US else ""


PATIENT = (
    Attribute(
        "patient_name",
        "0010,0010",
        VR.PN,
        "The patient's name, as in DICOM: Family^Given; other ways of writing it follow after =, as in "
        "Yamada^Tarou=山田^太郎.",
        needed=True,
    ),
    Attribute(
        "patient_id", "0010,0020", VR.LO, "The hospital's id of the patient, such as 4711.", needed=True
    ),
    Attribute(
        "issuer_of_patient_id",
        "0010,0021",
        VR.LO,
        "Who handed the patient's id out, such as MAIN_HOUSE; empty: the issuer of the patient partition.",
    ),
    Attribute("patient_birth_date", "0010,0030", VR.DA, "YYYYMMDD, such as 19710314; may be empty."),
    Attribute("patient_sex", "0010,0040", VR.CS, "M, F or O (other); may be empty."),
    Attribute("patient_weight", "0010,1030", VR.DS, "In kilograms, such as 72.5; may be empty."),
    Attribute(
        "pregnancy_status",
        "0010,21C0",
        VR.US,
        "1: not pregnant, 2: perhaps, 3: pregnant, 4: not known; null: nobody said.",
    ),
    Attribute(
        "medical_alerts", "0010,2000", VR.LO, 'What staff must know, such as ["Pacemaker"].', many=True
    ),
    Attribute("allergies", "0010,2110", VR.LO, 'Known allergies, such as ["Iodine"].', many=True),
    Attribute(
        "special_needs", "0038,0050", VR.LO, "What the patient needs, such as wheelchair; may be empty."
    ),
    Attribute("patient_state", "0038,0500", VR.LO, "How the patient is, such as unconscious; may be empty."),
    Attribute(
        "confidentiality_constraint_on_patient_data_description",
        "0040,3001",
        VR.LO,
        "Who may see what is known of the patient, in words; may be empty.",
    ),
    Attribute(
        "admission_id", "0038,0010", VR.LO, "The hospital's id of the stay, such as V-2026-17; may be empty."
    ),
    Attribute(
        "current_patient_location", "0038,0300", VR.LO, "Where the patient is, such as ward 3; may be empty."
    ),
)

REQUEST = (
    Attribute(
        "accession_number",
        "0008,0050",
        VR.SH,
        "The number under which the examination was ordered, such as A-1001; may be empty.",
    ),
    Attribute("requesting_physician", "0032,1032", VR.PN, "Who ordered it: Family^Given; may be empty."),
    Attribute(
        "referring_physician_name", "0008,0090", VR.PN, "Who sent the patient: Family^Given; may be empty."
    ),
    Attribute(
        "study_instance_uid",
        "0020,000D",
        VR.UI,
        "DICOM's own id of the study that the images will be of, such as 1.2.826.0.1.3680043.2.",
        needed=True,
    ),
    Attribute(
        "requested_procedure_id",
        "0040,1001",
        VR.SH,
        "The id of what was ordered, which may take several steps, such as RP-17.",
        needed=True,
    ),
    Attribute(
        "requested_procedure_description",
        "0032,1060",
        VR.LO,
        "What was ordered, in words, such as CT Thorax.",
    ),
    Attribute(
        "requested_procedure_code_sequence", "0032,1064", VR.SQ, "What was ordered, as codes.", many=True
    ),
    Attribute(
        "requested_procedure_priority",
        "0040,1003",
        VR.SH,
        "How urgent it is: STAT, HIGH, ROUTINE, MEDIUM or LOW; may be empty.",
    ),
    Attribute(
        "patient_transport_arrangements",
        "0040,1004",
        VR.LO,
        "How the patient gets there, such as bed; may be empty.",
    ),
)

STEP = (
    Attribute(
        "scheduled_procedure_step_id",
        "0040,0009",
        VR.SH,
        "The id of this step of the examination, such as SPS-17; there is one of it in a patient partition.",
        needed=True,
    ),
    Attribute(
        "scheduled_station_ae_title",
        "0040,0001",
        VR.AE,
        'AE titles of the devices that may do it, such as ["CT1"]: it is on their worklists.',
        needed=True,
        many=True,
    ),
    Attribute(
        "scheduled_procedure_step_start_date",
        "0040,0002",
        VR.DA,
        "The day on which it begins: YYYYMMDD, such as 20260131.",
        needed=True,
    ),
    Attribute(
        "scheduled_procedure_step_start_time",
        "0040,0003",
        VR.TM,
        "When it begins on that day: HHMMSS, such as 143000, by the clock on the wall of the house.",
        needed=True,
    ),
    Attribute(
        "modality", "0008,0060", VR.CS, "Kind of device that does it, such as CT, MR or US.", needed=True
    ),
    Attribute(
        "scheduled_performing_physician_name",
        "0040,0006",
        VR.PN,
        "Who is to do it: Family^Given; may be empty.",
    ),
    Attribute(
        "scheduled_procedure_step_description",
        "0040,0007",
        VR.LO,
        "What is to be done, in words, such as CT Thorax.",
    ),
    Attribute(
        "scheduled_protocol_code_sequence", "0040,0008", VR.SQ, "What is to be done, as codes.", many=True
    ),
    Attribute(
        "scheduled_station_name",
        "0040,0010",
        VR.SH,
        'Names of the devices, such as ["CT room 1"].',
        many=True,
    ),
    Attribute(
        "scheduled_procedure_step_location", "0040,0011", VR.SH, "Where it is done, such as ER; may be empty."
    ),
    Attribute("pre_medication", "0040,0012", VR.LO, "What the patient gets before it; may be empty."),
    Attribute(
        "requested_contrast_agent", "0032,1070", VR.LO, "Contrast agent that is asked for; may be empty."
    ),
    Attribute(
        "comments_on_the_scheduled_procedure_step",
        "0040,0400",
        VR.LT,
        "What else staff must know of it; may be empty.",
    ),
)

ATTRIBUTES: Mapping[str, Attribute] = {a.name: a for a in (*PATIENT, *REQUEST, *STEP)}

Values = dict[str, object]
"""Of an item, by the names of its attributes: a text, a number or None, or a tuple of texts or codes."""
