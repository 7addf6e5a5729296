"""What may be entered by value representation; pydicom is asked whether it would take it, too."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.config import RAISE
from pydicom.valuerep import validate_value

from aegate_core.dicom.values import VR, fault_of

GOOD = {
    VR.AE: ("CT1", "A" * 16, "ct 1"),
    VR.CS: ("CT", "A_1 B", "X" * 16),
    VR.DA: ("20260131", "20240229", "00010101"),
    VR.DS: ("72.5", "-1e3", ".5", "7.", "1234567890123456"),
    VR.LO: ("Größe", "x" * 64, "山" * 64),
    VR.LT: ("a\r\nb\\c", "x" * 10_240),
    VR.PN: ("Miller^Ann", "A^B^C^D^E", "Yamada^Tarou=山田^太郎=やまだ^たろう", "x" * 64, "=山田"),
    VR.SH: ("SPS-1", "x" * 16),
    VR.TM: ("14", "1430", "143059", "235960", "143059.123456"),
    VR.UI: ("1.2.826.0.1", "2.25." + "9" * 39, "0"),
}
BAD = {
    VR.AE: ("A" * 17, "CT\\1", "Ü"),
    VR.CS: ("ct", "X" * 17, "A-B"),
    VR.DA: ("20260230", "2026-01-31", "20261301", "00000101", "２０２６０１３１", "20260131\n"),
    VR.DS: ("x", "1,5", "12345678901234567", "1e", "٣"),
    VR.LO: ("x" * 65, "a\\b", "a\nb", "\0", "\ud800", "\x85"),
    VR.LT: ("x" * 10_241, "a\0", "\x1b"),
    VR.PN: ("x" * 65, "A=B=C=D", "A^B^C^D^E^F", "a\\b", "a\tb"),
    VR.SH: ("x" * 17, "a\\b"),
    VR.TM: ("24", "1460", "143061", "14:30", "143059.", "143059.1234567", "143"),
    VR.UI: ("1.02", "1..2", "1.2.", "x", "1." + "2" * 63, ""),
}


@pytest.mark.parametrize(("vr", "value"), [(vr, v) for vr, values in GOOD.items() for v in values])
def test_what_fits_is_taken(vr: VR, value: str) -> None:
    assert fault_of(vr, value) is None
    validate_value(vr.value, value, RAISE)


@pytest.mark.parametrize(("vr", "value"), [(vr, v) for vr, values in BAD.items() for v in values])
def test_what_does_not_fit_is_told_without_the_value(vr: VR, value: str) -> None:
    said = fault_of(vr, value)
    assert said is not None
    assert len(value) < 6 or value not in said


@given(st.sampled_from(sorted(GOOD)), st.text(max_size=70))
def test_what_is_taken_pydicom_takes_too(vr: VR, value: str) -> None:
    if fault_of(vr, value) is None and value and not value.isspace():
        validate_value(vr.value, value, RAISE)
