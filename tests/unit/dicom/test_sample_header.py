"""A header that is typed becomes the one that would have been read; what cannot be is refused without repeating it."""

from __future__ import annotations

import pytest

from aegate_core.dicom.elements import has_element, texts
from aegate_core.dicom.sample_header import SampleAttribute, sample_header
from aegate_core.errors import InvalidValue


def test_values_are_read_back_as_routes_read_them() -> None:
    header = sample_header(
        [
            SampleAttribute("Modality", ["CT"]),
            SampleAttribute("ImageType", ["ORIGINAL ", "PRIMARY"]),
            SampleAttribute("PatientName", ["Doe^Jo=X"]),
            SampleAttribute("StudyDescription", []),
            SampleAttribute("Rows", ["512"]),
        ]
    )
    assert texts(header, "ImageType") == ("ORIGINAL", "PRIMARY")
    assert texts(header, "PatientName") == ("Doe^Jo", "X")
    assert texts(header, "Rows") == ("512",)
    assert (has_element(header, "StudyDescription"), has_element(header, "Modality")) == (False, True)


@pytest.mark.parametrize(
    ("attributes", "told"),
    [
        ([SampleAttribute("Modalty", ["secret"])], "attribute 1 .* did you mean Modality"),
        ([SampleAttribute("?", [])], "look it up in PS3.6"),
        ([SampleAttribute("Modality", ["CT"])] * 2, "attribute 2 is there before"),
        ([SampleAttribute("PixelData", ["secret"])], "PixelData has none .OB or OW"),
        ([SampleAttribute("ReferencedSeriesSequence", [])], "has none .SQ"),
        ([SampleAttribute("Modality", ["secret" * 200])], "1024 characters"),
        ([SampleAttribute("Modality", ["\0"])], "NUL"),
        ([SampleAttribute("Modality", ["x"] * 101)], "100 values"),
        ([SampleAttribute("Modality", [])] * 101, "100 attributes"),
    ],
)
def test_what_cannot_be_is_refused(attributes: list[SampleAttribute], told: str) -> None:
    with pytest.raises(InvalidValue, match=told) as refused:
        sample_header(attributes)
    assert "secret" not in refused.value.message
