"""What a worklist item says: named and typed as in DICOM, complete as PS3.4 K.6 wants it."""

from __future__ import annotations

import re

import pytest
from pydicom.datadict import dictionary_keyword, dictionary_VM, dictionary_VR

from aegate_core.decisions.worklist import LONGEST_SORT_NAME, MOST_VALUES, derived, incomplete, judged
from aegate_core.dicom.worklist import ATTRIBUTES, Code

WHOLE = {name: attribute.empty for name, attribute in ATTRIBUTES.items()} | {
    "patient_name": "Müller^Jörg=山田^太郎",
    "patient_id": "4711",
    "study_instance_uid": "1.2.3",
    "requested_procedure_id": "RP1",
    "requested_procedure_description": "CT Thorax",
    "scheduled_procedure_step_id": "SPS1",
    "scheduled_station_ae_title": ("CT1", "CT2"),
    "scheduled_procedure_step_start_date": "20260131",
    "scheduled_procedure_step_start_time": "1430",
    "scheduled_procedure_step_description": "Thorax pa",
    "modality": "CT",
}
CODE = Code("RPID16", "RADLEX", "CT Thorax")


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_attributes_are_called_as_in_dicom(name: str) -> None:
    attribute = ATTRIBUTES[name]
    tag = int(attribute.tag.replace(",", ""), 16)
    keyword = dictionary_keyword(tag)
    assert re.sub(r"[^a-z0-9]", "", keyword.lower()) == name.replace("_", ""), keyword
    assert dictionary_VR(tag) == attribute.vr.value
    if attribute.many and attribute.vr.value != "SQ":
        assert dictionary_VM(tag) == "1-n"


TYPE_1 = {  # PS3.4 Table K.6-1: what is returned is never empty
    *(
        "scheduled_station_ae_title",
        "scheduled_procedure_step_start_date",
        "scheduled_procedure_step_start_time",
    ),
    *("modality", "scheduled_procedure_step_id", "requested_procedure_id", "study_instance_uid"),
    *("patient_name", "patient_id"),
}


def test_what_a_worklist_returns_is_asked_for() -> None:
    assert incomplete(WHOLE) == []
    empty = {name: attribute.empty for name, attribute in ATTRIBUTES.items()}
    assert {name for name, _ in incomplete(empty)} == TYPE_1 | {
        "scheduled_procedure_step_description",
        "requested_procedure_description",
    }
    coded = WHOLE | {
        "scheduled_procedure_step_description": "",
        "requested_procedure_description": "",
        "scheduled_protocol_code_sequence": (CODE,),
        "requested_procedure_code_sequence": (CODE,),
    }
    assert incomplete(coded) == []


def test_values_are_kept_without_blanks_around_and_none_as_nothing() -> None:
    values, faults = judged(
        {
            "patient_id": " 4711 ",
            "patient_sex": None,
            "allergies": ["Iodine", " ", "Iodine", " Latex"],
            "pregnancy_status": 4,
            "scheduled_protocol_code_sequence": [Code(" RPID16", "RADLEX ", "CT Thorax")],
            "medical_alerts": None,
        }
    )
    assert faults == []
    assert values == {
        "patient_id": "4711",
        "patient_sex": "",
        "allergies": ("Iodine", "Latex"),
        "pregnancy_status": 4,
        "scheduled_protocol_code_sequence": (CODE,),
        "medical_alerts": (),
    }


@pytest.mark.parametrize(
    ("name", "value", "field"),
    [
        ("patient_name", "x" * 65, "patient_name"),
        ("patient_sex", "W", "patient_sex"),
        ("pregnancy_status", 5, "pregnancy_status"),
        ("patient_birth_date", "1971-03-14", "patient_birth_date"),
        ("scheduled_station_ae_title", ["CT1", "x" * 17], "scheduled_station_ae_title"),
        ("allergies", ["x"] * (MOST_VALUES + 1), "allergies"),
        (
            "scheduled_protocol_code_sequence",
            [Code("", "RADLEX", "x")],
            "scheduled_protocol_code_sequence.code_value",
        ),
        (
            "scheduled_protocol_code_sequence",
            [Code("x" * 17, "R", "x")],
            "scheduled_protocol_code_sequence.code_value",
        ),
    ],
)
def test_what_does_not_fit_is_named(name: str, value: object, field: str) -> None:
    _, faults = judged({name: value})
    assert [place for place, _ in faults] == [field]


def test_an_item_is_found_and_sorted_by_what_it_says() -> None:
    made = derived(WHOLE)
    assert made["scheduled_start"] == "20260131143000"
    assert made["name_text"] == made["sort_name"] == "muller jorg = 山田 太郎"
    assert "4711 muller jorg 山田 太郎 sps1 rp1 thorax pa ct thorax ct ct1 ct2" in str(made["search_text"])
    late = WHOLE | {"scheduled_procedure_step_start_time": "143000.5", "patient_name": "ﷺ" * 64}
    assert derived(late)["scheduled_start"] == "20260131143000.5"
    assert len(str(derived(late)["sort_name"])) == LONGEST_SORT_NAME


def test_blanks_of_a_name_are_as_those_of_received_objects() -> None:
    given = {
        "patient_name": "Yamada^Tarou=山田^太郎\u3000 次",
        "scheduled_procedure_step_description": "CT  head",
    }
    values, faults = judged(given)
    assert faults == []
    assert values["patient_name"] == "Yamada^Tarou=山田^太郎 次"
    assert values["scheduled_procedure_step_description"] == "CT head"


@pytest.mark.parametrize("name", ["^^^^", "=="])
def test_a_name_of_nothing_is_none(name: str) -> None:
    _, faults = judged({"patient_name": name})
    assert [where for where, _ in faults] == ["patient_name"]
