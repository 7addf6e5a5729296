"""Objects that a broken or hostile device may send, made byte by byte; all of the sentinel patient."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pydicom

from tests import sentinel
from tests.dicom import uid

EXPLICIT = b"1.2.840.10008.1.2.1"
IMPLICIT = b"1.2.840.10008.1.2"
BIG_ENDIAN = b"1.2.840.10008.1.2.2"
DEFLATED = b"1.2.840.10008.1.2.1.99"
ENDLESS = 0xFFFFFFFF
NAME = sentinel.PATIENT_NAME.encode()

_LONG = (b"OB", b"OW", b"SQ", b"UN", b"UT", b"UC", b"UR")
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD


def element(tag: int, vr: bytes, value: bytes = b"", *, length: int | None = None) -> bytes:
    """Return an element of Explicit VR Little Endian; ``length`` is what it says of itself, true or not."""
    value += b"\0" * (len(value) % 2)
    said = len(value) if length is None else length
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr)
    return head + (struct.pack("<HL", 0, said) if vr in _LONG else struct.pack("<H", said)) + value


def implicit(tag: int, value: bytes = b"") -> bytes:
    """Return an element of Implicit VR Little Endian."""
    return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, len(value)) + value


def item(content: bytes = b"") -> bytes:
    """Return an item of undefined length."""
    return _marker(_ITEM, ENDLESS) + content + _marker(_ITEM_END)


def endless_sequence(tag: int, items: bytes) -> bytes:
    """Return a sequence of undefined length."""
    return element(tag, b"SQ", items, length=ENDLESS) + _marker(_SEQUENCE_END)


def _marker(tag: int, length: int = 0) -> bytes:
    return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, length)


def part10(data_set: bytes, syntax: bytes = EXPLICIT) -> bytes:
    """Return ``data_set`` as a file."""
    return bytes(128) + b"DICM" + element(0x00020010, b"UI", syntax) + data_set


def uids(name: str, **changes: bytes) -> list[bytes]:
    """Return the elements that the index needs, in their order; ``changes`` replace values."""
    values = {
        "sop_class": b"1.2.840.10008.5.1.4.1.1.2",
        "sop_instance": uid(name).encode(),
        "study": uid("hostile study").encode(),
        "series": uid("hostile series").encode(),
    } | changes
    tags = {"sop_class": 0x00080016, "sop_instance": 0x00080018, "study": 0x0020000D, "series": 0x0020000E}
    return [element(tag, b"UI", values[key]) for key, tag in tags.items()]


PATIENT = element(0x00100010, b"PN", NAME) + element(0x00100020, b"LO", sentinel.PATIENT_ID.encode())


def with_early(name: str, *early: bytes) -> bytes:
    """Return an object with elements between its SOP Instance UID and its patient."""
    sop_class, sop_instance, study, series = uids(name)
    return part10(sop_class + sop_instance + b"".join(early) + PATIENT + study + series)


def with_late(name: str, *late: bytes) -> bytes:
    """Return an object with elements behind its series."""
    return with_early(name) + b"".join(late)


def deflated(data_set: bytes, zeros_mib: int = 0) -> bytes:
    deflate = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    first = deflate.compress(data_set) + deflate.flush(zlib.Z_FULL_FLUSH)
    # After a full flush a block stands for itself: it can be said again and again.
    block = deflate.compress(bytes(1 << 20)) + deflate.flush(zlib.Z_FULL_FLUSH)
    return part10(first + block * zeros_mib + deflate.flush(), DEFLATED)


def plain(name: str) -> bytes:
    return b"".join(uids(name)[:2]) + PATIENT + b"".join(uids(name)[2:])


def _nested(levels: int) -> bytes:
    opening = element(0x00081140, b"SQ", length=ENDLESS) + _marker(_ITEM, ENDLESS)
    return opening * levels + (_marker(_ITEM_END) + _marker(_SEQUENCE_END)) * levels


def _nested_lengths(levels: int) -> bytes:
    content = b""
    for _ in range(levels):
        content = element(0x00081140, b"SQ", _marker(_ITEM, len(content)) + content)
    return content


def _of_small_sequences(count: int) -> bytes:
    items = _marker(_ITEM) * 2000
    return b"".join(element(0x00091000 + n, b"SQ", items) for n in range(count))


def _of_escapes(count: int) -> bytes:
    text = b"\x1b(B" * 1300
    return b"".join(element(0x00091000 + n, b"LO", text) for n in range(count))


def _of_many(count: int) -> bytes:
    return b"".join(
        element(0x00091000 + n // 60000 * 0x20000 + n % 60000, b"LO", b"xy") for n in range(count)
    )


INDEXED: dict[str, Callable[[str], bytes]] = {
    "100,000 empty items": lambda n: with_late(n, endless_sequence(0x00400275, _marker(_ITEM) * 100_000)),
    "100,000 endless items": lambda n: with_late(n, endless_sequence(0x00400275, item() * 100_000)),
    "100,000 filled items": lambda n: with_late(
        n, endless_sequence(0x00400275, item(element(0x00080050, b"SH", b"x1")) * 100_000)
    ),
    "100,000 items before the UIDs": lambda n: with_early(
        n, endless_sequence(0x00081140, item(element(0x00080050, b"SH", b"x1")) * 100_000)
    ),
    "100,000 items of a length": lambda n: with_late(n, element(0x00400275, b"SQ", _marker(_ITEM) * 100_000)),
    "100,000 items, by whom it was changed": lambda n: with_late(
        n, endless_sequence(0x04000561, item(element(0x04000563, b"LO", b"me")) * 100_000)
    ),
    "2,000 items, by whom it was changed": lambda n: with_late(
        n, endless_sequence(0x04000561, _marker(_ITEM) * 2000)
    ),
    "1,000 deep": lambda n: with_early(n, _nested(1000)),
    "100,000 deep": lambda n: with_early(n, _nested(100_000)),
    "150 deep": lambda n: with_late(n, _nested(150)),
    "60 deep of a length": lambda n: with_late(n, _nested_lengths(60)),
    "1,000 sequences of 2,000 items": lambda n: with_early(n, _of_small_sequences(1000)),
    "1,000 values of escapes": lambda n: with_early(
        n, element(0x00080005, b"CS", b"\\ISO 2022 IR 87"), _of_escapes(1000)
    ),
    "50,000 private elements": lambda n: with_early(n, _of_many(50_000)),
    "private sequence that says UN": lambda n: with_early(
        n,
        element(
            0x00091010,
            b"UN",
            _marker(_ITEM, ENDLESS) + implicit(0x00091011, b"xy") + _marker(_ITEM_END),
            length=ENDLESS,
        )
        + _marker(_SEQUENCE_END),
    ),
    "group lengths that lie": lambda n: with_early(
        n, element(0x00090000, b"UL", b"\xff\xff\xff\x7f"), element(0x00100000, b"UL", bytes(4))
    ),
    "private block without a creator": lambda n: with_early(n, element(0x00091001, b"LO", b"x"), _of_many(3)),
    "dates as numbers": lambda n: with_late(
        n, element(0x00200013, b"FD", b"\xff" * 8), element(0x00280008, b"US", b"\xff\xff")
    ),
    "numbers that are none": lambda n: with_late(
        n,
        element(0x00280008, b"IS", b"9" * 40),
        element(0x00280010, b"US", b"\1"),
        element(0x00280030, b"DS", b"ten"),
    ),
    "text as a sequence": lambda n: with_late(n, element(0x00400275, b"SQ", b"this is no item at all")),
    "sequence as text": lambda n: with_late(n, element(0x00400275, b"LO", item())),
    "VRs of lower case": lambda n: with_late(n, element(0x00400009, b"zz", b"ab")),
    "VR of no standard": lambda n: with_late(n, element(0x00400009, b"ZZ", b"ab")),
    "UIDs twice": lambda n: with_late(n, *uids(n)),
    "value of 65,534 bytes": lambda n: with_late(n, element(0x00321060, b"LO", b"x" * 65_534)),
    "value that is cut off": lambda n: with_late(n, element(0x00321060, b"LO", b"xy", length=400)),
    "sequence that is cut off": lambda n: with_late(n, element(0x00400275, b"SQ", b"xy", length=400)),
}
"""What must come into the index, by what is wrong with it."""

QUARANTINED: dict[str, tuple[str, Callable[[str], bytes]]] = {
    "zero bytes": ("no Part 10 file", lambda n: b""),
    "no data set": ("no data set", lambda n: part10(b"")),
    "zeros": ("no Part 10 file", lambda n: bytes(4096)),
    "no transfer syntax": ("TransferSyntaxUID", lambda n: bytes(128) + b"DICM" + plain(n)),
    "not deflated": ("cannot be parsed", lambda n: part10(b"\xff" * 64, DEFLATED)),
    "sequence without an end": (
        "cut off",
        lambda n: with_early(n, element(0x00081140, b"SQ", item(), length=ENDLESS)),
    ),
    "missing UID": ("StudyInstanceUID", lambda n: part10(b"".join(uids(n)[:2]) + PATIENT)),
    "empty UID": ("StudyInstanceUID", lambda n: part10(b"".join(uids(n, study=b"")))),
    "over-long UID": ("StudyInstanceUID", lambda n: part10(b"".join(uids(n, study=b"1." * 32 + b"1")))),
    "UID as a path": (
        "SOPInstanceUID",
        lambda n: part10(b"".join(uids(n, sop_instance=b"../../../etc/passwd"))),
    ),
    "UID as a name": ("SeriesInstanceUID", lambda n: part10(b"".join(uids(n, series=NAME)))),
    "UID with NUL inside": ("StudyInstanceUID", lambda n: part10(b"".join(uids(n, study=b"1.2\0.3..4")))),
    "UID that is cut off": (
        "SeriesInstanceUID",
        lambda n: part10(b"".join(uids(n)[:3]) + element(0x0020000E, b"UI", b"1.2.840", length=40)),
    ),
}
"""What nobody can put into the index, with what its reason names."""

HUGE: dict[str, tuple[str, Callable[[str], bytes]]] = {
    "200 MB of header": ("", lambda n: with_early(n, element(0x00091010, b"OB", bytes(200 << 20)))),
    "200 MB in a sequence": (
        "",
        lambda n: with_early(
            n, endless_sequence(0x00091010, item(element(0x00091011, b"OB", bytes(200 << 20))))
        ),
    ),
    "200 MB in fragments": (
        "",
        lambda n: with_early(
            n,
            element(0x00091010, b"OB", _marker(_ITEM, 200 << 20) + bytes(200 << 20), length=ENDLESS)
            + _marker(_SEQUENCE_END),
        ),
    ),
    "deflated, then 2 GiB of zeros": (
        "",
        lambda n: deflated(plain(n) + element(0x7FE00010, b"OW", length=2 << 30), 2048),
    ),
    "deflated bomb of zeros": ("elements", lambda n: deflated(b"", 2048)),
    "deflated bomb of one value": (
        "longer than",
        lambda n: deflated(element(0x00080008, b"UT", length=2 << 30), 2048),
    ),
    "deflated bomb of items": (
        "elements",
        lambda n: deflated(element(0x00081140, b"SQ", _marker(_ITEM) * 8_000_000, length=ENDLESS)),
    ),
    "8,000,000 items": (
        "elements",
        lambda n: with_early(n, endless_sequence(0x00081140, _marker(_ITEM) * 8_000_000)),
    ),
    "200 MB of elements": (
        "elements",
        lambda n: with_early(n, element(0x00090010, b"LO", b"x" * 32) * ((200 << 20) // 40)),
    ),
    "200 MB of values": (
        "MiB",
        lambda n: with_early(n, element(0x00091010, b"OB", bytes(16_000)) * 13_000),
    ),
}
"""What must cost no more than a small one; '' must come into the index."""

CHARACTER_SETS = (
    *("", "ISO_IR 100", "ISO_IR 101", "ISO_IR 109", "ISO_IR 110", "ISO_IR 144", "ISO_IR 127", "ISO_IR 126"),
    *("ISO_IR 138", "ISO_IR 148", "ISO_IR 203", "ISO_IR 13", "ISO_IR 166", "ISO_IR 192", "GB18030", "GBK"),
    *("\\ISO 2022 IR 87", "ISO 2022 IR 13\\ISO 2022 IR 87", "\\ISO 2022 IR 149", "\\ISO 2022 IR 58"),
    *("ISO 2022 IR 6\\ISO 2022 IR 100\\ISO 2022 IR 144\\ISO 2022 IR 127\\ISO 2022 IR 159", "utf-8", "\\\\\\"),
    *(
        "ISO_IR 999",
        "ISO_IR 192\\ISO 2022 IR 87",
        sentinel.PATIENT_NAME,
        "x" * 2000,
        "\\".join(["GBK"] * 500),
    ),
    *("idna", "punycode", "zlib_codec", "rot13", "utf_7", "undefined", "unicode_escape"),
)
"""Values of (0008,0005): each defined term, and lies."""

NAMES = (
    *(NAME, b"Quillonia\xe9^\xfc", "Wang^XiaoDong=王^小東=".encode(), "山田^太郎".encode("shift_jis")),
    *(
        "王^小东".encode("gb18030"),
        b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B",
        b"\x1b$)C\xfb\xf3^\x1b",
        b"\xff" * 90,
    ),
    *(b"\x1b" * 200, b"===^^^=", b"\xed\xa0\x80", b"+2AA-", b"\0\0\0", b"\\U0010ffff\\ud800"),
)
"""Person names that fit one character set or another, or none."""


def named(name: str, character_set: str, person: bytes) -> bytes:
    """Return an object whose name is ``person`` in what it calls ``character_set``, also in a sequence."""
    sop_class, sop_instance, study, series = uids(name)
    charset = element(0x00080005, b"CS", character_set.encode())
    inner = element(
        0x00081110,
        b"SQ",
        _marker(_ITEM, len(charset) + len(inner_name(person))) + charset + inner_name(person),
    )
    who = element(0x00100010, b"PN", person) + element(0x00100020, b"LO", sentinel.PATIENT_ID.encode())
    return part10(charset + sop_class + sop_instance + inner + who + study + series)


def inner_name(person: bytes) -> bytes:
    """Return a name as it stands in an item."""
    return element(0x00100010, b"PN", person)


def element_boundaries(path: Path) -> list[int]:
    """Return where elements begin and end in a file, as far as pydicom tells, sorted."""
    ds = pydicom.dcmread(path, force=True, defer_size=1)
    places = {0, 64, 128, 132, path.stat().st_size}
    for found in (ds.file_meta, ds):
        for one in found.values():
            tell = getattr(one, "value_tell", None) or getattr(one, "file_tell", None)
            if tell:
                places |= {tell - 12, tell - 8, tell, tell + 1}
    return sorted(p for p in places if p >= 0)


TEST_FILES = Path(pydicom.__file__).parent / "data" / "test_files"

CRASHING = (
    ("SC_rgb_jpeg_gdcm.dcm", 1358, 80, "SIGSEGV"),
    ("JPEGLSNearLossless_08.dcm", 586, 151, "SIGABRT"),
    ("693_J2KI.dcm", 2076, 104, "SIGABRT"),
    ("SC_rgb_small_odd_jpeg.dcm", 1729, 81, "SIGABRT"),
)
"""pydicom's test files of which one byte, at this place with this value, ends the process that decodes them."""

HANGING = ("GDCMJ2K_TextGBR.dcm", 829, 0)
"""Such a byte that makes reading the parameters of the JPEG 2000 stream go on for ever."""


def damaged(name: str, at: int, byte: int) -> bytes:
    """Return one of pydicom's test files with another byte at one place."""
    content = bytearray((TEST_FILES / name).read_bytes())
    content[at] = byte
    return bytes(content)


def flipped(content: bytes, chance: random.Random) -> bytes:
    """Return ``content`` with a bit of every 200 bytes flipped, at most 20, among its first 4 KiB."""
    damaged = bytearray(content)
    size = min(len(damaged), 4096)
    for _ in range(max(1, min(20, size // 200))):
        damaged[chance.randrange(size)] ^= 1 << chance.randrange(8)
    return bytes(damaged)
