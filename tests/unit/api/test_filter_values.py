"""What could never be found is refused in words; what a device may have written is not."""

from __future__ import annotations

import pytest

from aegate_core.stores.listing import Op
from aegate_graphql_api.errors import RequestRefused
from aegate_graphql_api.filter_values import check_value

KEYS = ("destination", "source_ae", "ae", "partition")
UIDS = ("study_instance_uid", "series_instance_uid", "sop_instance_uid", "sop_class_uid", "unit_uid")


@pytest.mark.parametrize("column", KEYS)
@pytest.mark.parametrize("value", ["pacs", "", "hospital/PACS", "hospital / pacs", "a/b/c", " hospital/pacs"])
@pytest.mark.parametrize("op", [Op.EQ, Op.IN, Op.MATCHES])
def test_a_name_without_its_namespace_is_refused_with_what_was_expected(
    column: str, value: str, op: Op
) -> None:
    with pytest.raises(
        RequestRefused, match=r"must be namespace/name, such as hospital/pacs, got"
    ) as refused:
        check_value(column, op, ["default/ct1", value] if op is Op.IN else value)
    assert (refused.value.extensions or {})["code"] == "BAD_FILTER"
    assert value == "" or f"got {value}" not in refused.value.message


@pytest.mark.parametrize(
    ("column", "op", "value", "said"),
    [
        *(
            (uid, op, value, "must be digits and dots")
            for uid in UIDS
            for op in (Op.EQ, Op.CONTAINS)
            for value in ("1.2 ", " 1.2", '"1.2"', "urn:oid:1.2", "1.2\n")
        ),
        ("study_date", Op.EQ, "2026-01-31", "leave signs and blanks out"),
        ("study_date", Op.EQ, "31012026", "must be a day"),
        ("study_date", Op.EQ, "20260231", "must be a day"),
        ("study_date", Op.EQ, "2026", "must be a day"),
        ("study_date", Op.FROM, "2026-01-01", "leave signs and blanks out"),
        ("study_date", Op.STARTS_WITH, "2026-01", "leave signs and blanks out"),
        ("study_date", Op.EQ, "２０２６０１３１", "leave signs and blanks out"),
        ("scheduled_procedure_step_start_date", Op.EQ, "2026-01-31", "leave signs and blanks out"),
        ("scheduled_procedure_step_start_time", Op.FROM, "22:00", "such as 20260131220000 or 220000"),
        ("scheduled_start", Op.TO, "2026-01-31T22:00:00", "such as 20260131220000 or 220000"),
        ("modality", Op.EQ, "ct", "is written in capitals"),
        ("modality", Op.EQ, "CT ", "without blanks"),
        ("hold_code", Op.EQ, "person", "must be one of PERSON, "),
        ("kind", Op.EQ, "patient_mismatch", "must be one of SAME_UID_OTHER_CONTENT, "),
        ("ability", Op.EQ, "push", "must be one of Push, Print"),
        ("outcome", Op.EQ, "done", "must be one of DONE, "),
        ("error_code", Op.EQ, "A900", "put STATUS_ before it"),
        ("error_code", Op.EQ, "0xA900", "put STATUS_ before it"),
        ("error_code", Op.EQ, "no_context", "is written as in an answer"),
        ("requested_by", Op.EQ, "ct-to-pacs", "must be route:namespace/name"),
        ("requested_by", Op.EQ, "route:ct-to-pacs", "must be route:namespace/name"),
        ("action", Op.EQ, "HOLD_QUEUE_ITEMS", "is a name such as holdQueueItems"),
        ("name", Op.EQ, "default/ct1", "namespace is a filter of its own"),
        ("namespace", Op.EQ, "default/ct1", "name is a filter of its own"),
        ("patient_id", Op.EQ, "4711 ", "without blanks"),
        ("location_code", Op.IN, [" ER"], "without blanks"),
    ],
)
def test_what_is_never_kept_so_is_refused(column: str, op: Op, value: object, said: str) -> None:
    with pytest.raises(RequestRefused, match=said):
        check_value(column, op, value)


@pytest.mark.parametrize(
    ("column", "op", "value"),
    [
        ("destination", Op.EQ, "hospital/pacs"),
        ("source_ae", Op.EQ, "unknown/unknown"),
        ("destination", Op.MATCHES, "*/pacs"),
        ("destination", Op.CONTAINS, "pacs"),
        ("destination", Op.STARTS_WITH, "hospital/"),
        ("destination", Op.IS_NULL, True),
        ("study_instance_uid", Op.STARTS_WITH, "1.2."),
        ("study_instance_uid", Op.CONTAINS, ""),
        ("study_instance_uid", Op.MATCHES, "1.2*"),
        ("study_date", Op.EQ, "20260131"),
        ("study_date", Op.EQ, ""),
        ("study_date", Op.FROM, "2026"),
        ("study_date", Op.TO, "20260231"),
        ("study_date", Op.MATCHES, "2026.01.*"),
        ("scheduled_procedure_step_start_time", Op.EQ, "220000.5"),
        ("scheduled_start", Op.FROM, "20260131"),
        ("scheduled_start", Op.MATCHES, "2026.01.*"),
        ("modality", Op.EQ, "CT"),
        ("modality", Op.MATCHES, "ct"),
        ("error_code", Op.EQ, "STATUS_A900"),
        ("error_code", Op.EQ, "NO_CONTEXT"),
        ("requested_by", Op.EQ, "route:default/ct-to-pacs"),
        ("requested_by", Op.EQ, "person:Ann Miller"),
        ("requested_by", Op.EQ, "close"),
        ("patient_id", Op.EQ, "47 11"),
        ("patient_id", Op.CONTAINS, "47 "),
        ("priority", Op.EQ, 50),
    ],
)
def test_what_may_be_found_is_let_pass(column: str, op: Op, value: object) -> None:
    check_value(column, op, value)
