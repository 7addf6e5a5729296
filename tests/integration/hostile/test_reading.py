"""Hostile header values read through the API: valid JSON, bounded, and no error, whatever a device wrote."""

from __future__ import annotations

import json
from pathlib import Path

from tests.dicom import uid
from tests.integration.api.clients import BEFORE, connect
from tests.integration.hostile.objects import NAMES, PATIENT, element, part10, uids
from tests.integration.intake.hospital import Place

MIB = 1 << 20
MOST_BYTES = 256 * 1024
"""Of an answer about all of them."""

CHARSETS = (b"ISO_IR 192", b"ISO_IR 100", b"\\ISO 2022 IR 87", b"nonsense")
TEXTS = (
    bytes(range(1, 32)),
    b"\x7f\x80\x9f\xff\xfe",
    b"\xed\xa0\x80\xed\xbf\xbf",  # surrogates, alone
    "\u202eevil\u2066\u200f\ufeff".encode(),
    "\U0010ffff\ufffe".encode(),
    b"\x1b$B\x1b(J\x1b",
    b'"}]}\\u0000<script>\r\n',
)
QUERY = """{ studies(first: 100) { totalCount { value } nodes {
  id studyInstanceUid accessionNumber studyId studyDate studyTime description referringPhysician modalities sourceAe
  patient { name nameIdeographic namePhonetic patientId issuer birthDate sex }
  series { id seriesInstanceUid modality instances(first: 5) { nodes { sopInstanceUid instanceNumber } } } } } }"""


def hostile() -> dict[str, bytes]:
    """Return objects by study, each with one text everywhere, in one character set."""
    texts = [*TEXTS, *NAMES[1:]]
    made = {
        uid(f"{n} {m}"): _object(f"{n} {m}", charset, text)
        for n, charset in enumerate(CHARSETS)
        for m, text in enumerate(texts)
    }
    long = element(0x00081030, b"UT", b"x" * MIB) + element(0x00080090, b"UT", b"y" * MIB)
    made[uid("long")] = part10(long + b"".join(uids("long", study=uid("long").encode())) + PATIENT)
    return made


def _object(name: str, charset: bytes, text: bytes) -> bytes:
    sop_class, sop_instance, study, series = uids(
        name, study=uid(name).encode(), series=uid(f"{name} series").encode()
    )
    return part10(
        element(0x00080005, b"CS", charset)
        + sop_class
        + sop_instance
        + element(0x00080020, b"DA", text[:8])
        + element(0x00080050, b"SH", text)
        + element(0x00080060, b"CS", text)
        + element(0x00080090, b"PN", text)
        + element(0x00081030, b"LO", text)
        + element(0x00100010, b"PN", text)
        + element(0x00100020, b"LO", text)
        + element(0x00100021, b"LO", text)
        + element(0x00100030, b"DA", text[:8])
        + element(0x00100040, b"CS", text)
        + study
        + series
        + element(0x00200010, b"SH", text)
        + element(0x00200013, b"IS", text)
    )


async def test_hostile_values_are_read_as_valid_json_of_bounded_length(place: Place, tmp_path: Path) -> None:
    made = hostile()
    for content in made.values():
        place.receive(content, "ct1", BEFORE)
    result = await place.index(BEFORE)
    assert (result.left, result.quarantined) == ((), 0)

    api = connect(place, tmp_path)
    async with api.client:
        answer = await api.post(QUERY)
        said = json.loads(answer.content.decode("utf-8", "strict"))
        assert "errors" not in said
        studies = said["data"]["studies"]
        assert {s["studyInstanceUid"] for s in studies["nodes"]} == set(made)
        assert len(answer.content) < MOST_BYTES
        for study in studies["nodes"]:
            json.dumps(study, ensure_ascii=False).encode("utf-8", "strict")  # no lone surrogate
        for text in (*TEXTS, b"%", b"_", b"x" * 300):
            search = text.decode("utf-8", "replace")
            found = (
                await api.post("query($s: String) { studies(search: $s) { nodes { id } } }", s=search)
            ).json()
            codes = [e["extensions"]["code"] for e in found.get("errors", [])]
            assert codes in ([], ["BAD_SEARCH"])
