"""A batch in the index: rows, blobs, duplicates, conflicts, quarantine; and the same again changes nothing."""

from __future__ import annotations

import asyncio

import pytest

from aegate_core.database import as_json, open_database
from aegate_core.dicom.text import search_text
from aegate_core.resources.values import Level, PatientPartition
from aegate_core.services.entities import load_configuration
from aegate_core.services.indexing import write_batch
from aegate_core.services.intake import BatchResult, index_batch, prepare
from aegate_core.services.studies import close_due
from aegate_core.stores.spool import remove
from tests import dicom, sentinel
from tests.integration.intake.hospital import HOSPITAL, T0, Metadata, Place, at, entity, key, part10


async def test_batch_becomes_patient_study_series_instances_and_blobs(place: Place) -> None:
    objects = dicom.ct_study("study 1", 3)
    arrivals = place.receive_all(objects)

    result = await place.index(at(1))

    assert result == BatchResult(new=3)
    assert place.spooled() == []
    study = await place.db.fetch_one("SELECT * FROM study")
    assert study is not None
    size = sum(len(part10(ds)) for ds in objects)
    assert (study["series_count"], study["instance_count"], study["size_bytes"]) == (1, 3, size)
    assert (study["partition"], study["source_ae"]) == ("default/default", "default/ct1")
    assert (study["document_type"], as_json(study["modalities"])) == ("CT", ["CT"])
    assert study["accession_number"] == sentinel.ACCESSION_NUMBER
    for text in (sentinel.PATIENT_NAME, sentinel.PATIENT_ID, sentinel.ACCESSION_NUMBER, "CT1"):
        assert search_text(text) in study["search_text"]
    patient = await place.db.fetch_one("SELECT * FROM patient")
    assert patient is not None
    assert (patient["patient_id"], patient["name_alphabetic"]) == (sentinel.PATIENT_ID, sentinel.PATIENT_NAME)
    for arrival, ds in zip(arrivals, objects, strict=True):
        row = await place.db.fetch_one("SELECT * FROM arrival WHERE id = $1", arrival)
        assert row is not None
        assert (row["outcome"], row["calling_title"], row["ae"]) == ("NEW", "CT1", "default/ct1")
        assert place.blobs.path(row["blob_key"]).read_bytes() == part10(ds)
        assert as_json(row["header"])["00080060"] == {"vr": "CS", "Value": ["CT"]}  # type: ignore[index]


async def test_indexing_the_same_again_changes_nothing(place: Place) -> None:
    place.receive_all(dicom.ct_study("study 1", 4))
    spooled = place.spooled()
    known = await load_configuration(place.db)
    prepare(place.blobs, spooled)  # killed after the blobs: nothing is in the database yet
    assert await place.count("arrival") == 0

    first = await index_batch(place.db, place.blobs, spooled, now=at(1), configuration=known)
    place_again = await index_batch(place.db, place.blobs, spooled, now=at(2), configuration=known)

    assert (first.new, place_again) == (4, BatchResult())
    assert [await place.count(t) for t in ("arrival", "study", "series", "instance", "patient")] == [
        4,
        1,
        1,
        4,
        1,
    ]


async def test_killed_between_commit_and_unlink_the_spool_is_cleared_next_time(place: Place) -> None:
    place.receive_all(dicom.ct_study("study 1", 2))
    content = [(s.path, s.path.read_bytes(), s.side_path, s.side_path.read_bytes()) for s in place.spooled()]
    await place.index(at(1))
    for path, data, side, record in content:
        path.write_bytes(data)
        side.write_bytes(record)

    assert (await place.index(at(2))).arrivals == 0
    assert place.spooled() == []
    assert await place.db.fetch_value("SELECT instance_count FROM study") == 2


async def test_two_indexers_at_once_do_no_harm(place: Place) -> None:
    for n in range(4):
        place.receive_all(dicom.ct_study(f"study {n}", 10))
    spooled = place.spooled()
    async with open_database(place.db.url) as other:
        results = await asyncio.gather(
            *(
                index_batch(db, place.blobs, order, now=at(1))
                for db, order in ((place.db, spooled), (other, spooled[::-1]))
            )
        )

    assert sum(r.new for r in results) == 40
    assert sum(r.arrivals for r in results) == 40
    assert [await place.count(t) for t in ("arrival", "study", "series", "instance", "patient")] == [
        40,
        4,
        4,
        40,
        1,
    ]
    assert await place.db.fetch_value("SELECT sum(instance_count) FROM study") == 40
    assert await place.db.fetch_value("SELECT sum(instance_count) FROM series") == 40


async def test_two_indexers_of_one_study_share_its_rows(place: Place) -> None:
    place.receive_all(dicom.ct_study("study 1", 40))
    spooled = place.spooled()
    async with open_database(place.db.url) as other:
        await asyncio.gather(
            *(
                index_batch(db, place.blobs, part, now=at(1))
                for db, half in ((place.db, spooled[::2]), (other, spooled[1::2]))
                for part in (half[:10], half[10:])
            )
        )

    assert await place.db.fetch("SELECT series_count, instance_count FROM study") == [
        {"series_count": 1, "instance_count": 40}
    ]
    assert await place.count("close_unit") == 1


async def test_same_object_again_is_a_duplicate_and_counts_once(place: Place) -> None:
    ds = dicom.ct()
    place.receive(ds)
    await place.index(at(1))
    place.receive(ds)
    place.receive(ds)

    assert await place.index(at(2)) == BatchResult(duplicates=2)
    assert await place.db.fetch_value("SELECT instance_count FROM study") == 1
    assert await place.count("conflict") == 0
    assert await place.count("arrival", "outcome = 'DUPLICATE'") == 2


async def test_other_content_under_one_uid_is_a_conflict_and_the_newest_counts(place: Place) -> None:
    one, two = dicom.ct(), dicom.ct()
    two.ImageComments = "other"
    first = place.receive(one)
    second = place.receive(two)

    assert await place.index(at(1)) == BatchResult(new=1, conflicts=1)
    assert await place.db.fetch("SELECT kind, arrival_id, other_arrival_id FROM conflict") == [
        {"kind": "SAME_UID_OTHER_CONTENT", "arrival_id": second, "other_arrival_id": first}
    ]
    assert await place.db.fetch_value("SELECT current_arrival_id FROM instance") == second
    assert await place.db.fetch_value("SELECT instance_count FROM study") == 1


async def test_older_object_that_is_indexed_late_does_not_replace_the_newer(place: Place) -> None:
    old, new = dicom.ct(), dicom.ct()
    new.ImageComments = "other"
    arrivals = [place.receive(old), place.receive(new)]
    spooled = place.spooled()

    for arrival in reversed(spooled):
        await place.index_some([arrival], at(1))

    assert await place.db.fetch_value("SELECT current_arrival_id FROM instance") == arrivals[1]
    assert await place.db.fetch("SELECT arrival_id, other_arrival_id FROM conflict") == [
        {"arrival_id": arrivals[0], "other_arrival_id": arrivals[1]}
    ]


async def test_one_uid_in_two_studies_is_kept_twice_with_a_conflict(place: Place) -> None:
    one, two = dicom.ct(), dicom.ct()
    two.StudyInstanceUID, two.SeriesInstanceUID = dicom.uid("other"), dicom.uid("other series")
    place.receive(one)
    place.receive(two)

    assert await place.index(at(1)) == BatchResult(new=1, conflicts=1)
    assert await place.db.fetch_value("SELECT kind FROM conflict") == "SAME_UID_OTHER_STUDY"
    assert await place.count("instance") == 2


async def test_what_cannot_be_parsed_is_quarantined_alone(place: Place) -> None:
    good = dicom.ct_study("study 1", 2)
    headless = dicom.ct(dicom.Instance(number=9))
    del headless.StudyInstanceUID
    place.receive(good[0])
    broken = [place.receive(part10(headless)), place.receive(b"\0" * 128 + b"DICM" + b"junk" * 50)]
    place.receive(good[1])

    assert await place.index(at(1)) == BatchResult(new=2, quarantined=2)
    assert place.spooled() == []
    rows = await place.db.fetch("SELECT arrival_id, ae, reason FROM quarantined_object ORDER BY arrival_id")
    assert [r["arrival_id"] for r in rows] == broken
    assert rows[0]["reason"] == "StudyInstanceUID (0020,000D) is missing or empty"
    for row in await place.db.fetch("SELECT blob_key FROM arrival WHERE outcome = 'QUARANTINED'"):
        assert place.blobs.path(row["blob_key"]).exists()


async def test_texts_of_every_character_set_are_searchable(place: Place) -> None:
    ds = dicom.ct()
    ds.SpecificCharacterSet = ["", "ISO 2022 IR 149"]
    ds.PatientName = "Hong^Gildong=洪^吉洞=홍^길동"
    place.receive(ds)

    await place.index(at(1))

    text = await place.db.fetch_value("SELECT search_text FROM study")
    for term in ("hong gildong", search_text("洪^吉洞"), search_text("홍^길동")):
        assert term in text


async def test_hostile_texts_do_not_stop_the_database(place: Place) -> None:
    ds = dicom.ct()
    ds.add_new(0x00081030, "UT", "d" * 2000)
    ds.add_new(0x00100020, "UT", "p" * 500)
    content = part10(ds).replace(b"\x08\x00\x30\x10UT", b"\x08\x00\x30\x10UT")
    place.receive(content.replace(b"dddd", b"d\0\x1bd", 20))

    assert await place.index(at(1)) == BatchResult(new=1)
    assert len(await place.db.fetch_value("SELECT description FROM study")) == 255


def nested(depth: int) -> dicom.Dataset:
    inner = dicom.Dataset()
    for _ in range(depth):
        outer = dicom.Dataset()
        outer.RequestAttributesSequence = [inner]
        inner = outer
    return inner


@pytest.mark.parametrize(
    ("tag", "vr", "value"),
    [
        (0x00091010, "UV", 2**64 - 1),
        (0x00091010, "SV", -(2**63)),
        (0x00091010, "FD", [float("nan"), float("inf"), 5e-324, 1.7e308]),
        (0x00280008, "IS", "999999999999"),
        (0x00200013, "UT", "9" * 500),
        (0x00080020, "UT", "99999999\\20261399"),
        (0x00100030, "UT", "unborn and much too long"),
        (0x00100010, "UT", "A=B=C=D^^^^^^\\" + "é" * 1000),
        (0x00100020, "UT", "\x00\x01\x1f\u202e\ufeff\U0010ffff"),
        (0x00080060, "UT", "x" * 300),
        (0x00400275, "SQ", [nested(200)]),
        (0x0020000D, "UT", "1." + "2" * 63),
        (0x0020000E, "UT", "no UID"),
    ],
)
async def test_odd_object_is_indexed_or_quarantined_and_hurts_no_other(
    place: Place, tag: int, vr: str, value: object
) -> None:
    one, odd, two = dicom.ct_study("study 1", 3)
    if tag in odd:
        del odd[tag]
    odd.add_new(tag, vr, value)
    content = part10(odd)
    arrivals = [place.receive(one), place.receive(content), place.receive(two)]

    result = await place.index(at(1))

    assert (result.arrivals, result.new + result.quarantined) == (3, 3)
    assert place.spooled() == []
    outcomes = await place.db.fetch("SELECT id, outcome FROM arrival ORDER BY id")
    assert [(r["id"], r["outcome"]) for r in outcomes][::2] == [(arrivals[0], "NEW"), (arrivals[2], "NEW")]
    assert await place.db.fetch_value("SELECT sum(instance_count) FROM study") == result.new


async def test_object_that_the_database_refuses_is_quarantined_alone(place: Place) -> None:
    objects = dicom.ct_study("study 1", 9)
    refused = objects[4].SOPInstanceUID
    if place.db.is_sqlite:
        await place.db.execute(
            f"CREATE TRIGGER refuse BEFORE INSERT ON arrival WHEN NEW.sop_instance_uid = '{refused}' "
            "BEGIN SELECT RAISE(ABORT, 'refused'); END"
        )
    else:
        await place.db.execute(
            f"ALTER TABLE arrival ADD CONSTRAINT refuse CHECK (sop_instance_uid <> '{refused}')"
        )
    arrivals = place.receive_all(objects)

    assert await place.index(at(1)) == BatchResult(new=8, quarantined=1)
    assert place.spooled() == []
    (row,) = await place.db.fetch("SELECT arrival_id, reason FROM quarantined_object")
    assert row["arrival_id"] == arrivals[4]
    assert row["reason"].startswith("the database refused its header (")
    assert await place.db.fetch_value("SELECT instance_count FROM study") == 8


async def test_object_without_patient_id_has_a_person_of_its_own(place: Place) -> None:
    for n in (1, 2):
        ds = dicom.ct(dicom.Instance(study=f"study {n}", patient_id=""))
        place.receive(ds)

    await place.index(at(1))

    assert await place.count("patient", "patient_id = '' AND unidentified_study_uid <> ''") == 2
    assert await place.count("conflict") == 0


async def test_another_patient_id_in_a_known_study_is_kept_and_raised_once(place: Place) -> None:
    place.receive(dicom.ct())
    await place.index(at(1))
    other = [dicom.ct(dicom.Instance(number=n, patient_id="ZZSENT-OTHER")) for n in (2, 3)]
    place.receive_all(other)
    await place.index(at(2))

    assert await place.db.fetch("SELECT kind FROM conflict") == [{"kind": "PATIENT_MISMATCH"}]
    assert await place.db.fetch_value("SELECT instance_count FROM study") == 3
    owner = await place.db.fetch_value(
        "SELECT p.patient_id FROM study s JOIN patient p ON p.id = s.patient_id"
    )
    assert owner == sentinel.PATIENT_ID


async def test_issuer_of_the_partition_stands_in_for_an_absent_one(place: Place) -> None:
    partition = PatientPartition(Metadata(key("default")), issuer_of_patient_id="HOSP")
    await place.apply(*HOSPITAL, partition)
    given = dicom.ct(dicom.Instance(study="study 2"))
    given.IssuerOfPatientID = "HOSP"
    place.receive_all([dicom.ct(), given])

    await place.index(at(1))

    assert await place.db.fetch("SELECT issuer FROM patient") == [{"issuer": "HOSP"}]


@pytest.mark.parametrize(("trusted", "sex"), [(False, "O"), (True, "F")])
async def test_known_person_changes_only_through_a_trusted_device(
    place: Place, trusted: bool, sex: str
) -> None:
    await place.apply(entity("ct1", update_database_from_dicom=trusted), *HOSPITAL[1:])
    place.receive(dicom.ct())
    await place.index(at(1))
    changed = dicom.ct(dicom.Instance(study="study 2"))
    changed.PatientSex, changed.PatientName = "F", sentinel.PATIENT_NAME + "^Married"
    place.receive(changed)
    await place.index(at(2))

    patient = await place.db.fetch_one("SELECT sex, search_text FROM patient")
    assert patient is not None
    assert patient["sex"] == sex
    studies = await place.db.fetch("SELECT search_text FROM study")
    assert [("married" in s["search_text"]) for s in studies] == [trusted, trusted]


async def test_what_a_trusted_device_says_leaves_the_type_of_closed_studies(place: Place) -> None:
    await place.apply(entity("ct1", update_database_from_dicom=True, document_type="Trauma"), *HOSPITAL[1:])
    place.receive(dicom.ct())
    await place.index(at(1))
    await close_due(place.db, now=at(100))
    await place.apply(entity("ct1", update_database_from_dicom=True), *HOSPITAL[1:])
    changed = dicom.ct(dicom.Instance(study="study 2"))
    changed.PatientName = sentinel.PATIENT_NAME + "^Married"
    place.receive(changed)
    await place.index(at(101))

    studies = await place.db.fetch("SELECT document_type, search_text FROM study ORDER BY id")
    assert [(s["document_type"], "married" in s["search_text"]) for s in studies] == [
        ("Trauma", True),
        ("CT", True),
    ]


async def test_arrivals_that_are_indexed_make_no_rows_anew_when_their_device_moved(place: Place) -> None:
    place.receive(dicom.ct())
    spooled = place.spooled()
    prepared, _ = prepare(place.blobs, spooled)
    await place.index_some(spooled, at(1))
    await place.apply(entity("ct1", patient_partition="north"), *HOSPITAL[1:])

    known = await load_configuration(place.db)
    async with place.db.transaction() as tx:
        assert not await write_batch(tx, prepared, known, now=at(2))
    assert [await place.count(t) for t in ("study", "patient")] == [1, 1]


async def test_document_type_is_the_first_telling_modality_or_the_devices_own(place: Place) -> None:
    report, image = dicom.ct(dicom.Instance(number=2)), dicom.ct()
    report.Modality, report.SeriesInstanceUID = "SR", dicom.uid("report")
    place.receive(report)
    await place.index(at(1))
    assert await place.db.fetch_value("SELECT document_type FROM study") == "SR"
    place.receive(image)
    await place.index(at(2))
    assert await place.db.fetch_value("SELECT document_type FROM study") == "CT"

    await place.apply(entity("ct1", document_type="Trauma"), *HOSPITAL[1:])
    place.receive(dicom.ct(dicom.Instance(number=3)))
    await place.index(at(3))
    assert await place.db.fetch_value("SELECT document_type FROM study") == "Trauma"


async def test_what_a_removed_device_sent_is_indexed_by_its_last_values(place: Place) -> None:
    await place.apply(entity("ct1", location_code="ER", patient_partition="north"), *HOSPITAL[1:])
    place.receive(dicom.ct())
    await place.apply(*HOSPITAL[1:])

    await place.index(at(1))

    assert await place.db.fetch("SELECT partition, location_code FROM study") == [
        {"partition": "default/north", "location_code": "ER"}
    ]


async def test_single_images_are_enqueued_with_their_rows(place: Place) -> None:
    ultrasound = dicom.us()
    place.receive(ultrasound, "us1")
    await place.index(at(1))
    place.receive(ultrasound, "us1")
    await place.index(at(2))

    (delivery,) = await place.deliveries()
    assert (delivery["destination"], delivery["level"], delivery["instances_total"]) == (
        "default/ws1",
        Level.IMAGE.value,
        1,
    )


async def test_own_object_coming_back_is_stored_and_never_routed(place: Place) -> None:
    place.receive(dicom.us(), "us1")
    await place.index(at(1))
    await place.db.execute("UPDATE delivery SET started_at = $1", T0)
    place.receive(dicom.us(), "pacs")
    marked = dicom.ct()
    item = dicom.Dataset()
    item.ModifyingSystem = "aegate"
    marked.OriginalAttributesSequence = [item]
    place.receive(marked)

    await place.index(at(2))

    rows = await place.db.fetch("SELECT ae, routable FROM arrival ORDER BY id")
    assert [(r["ae"], bool(r["routable"])) for r in rows] == [
        ("default/us1", True),
        ("default/pacs", False),
        ("default/ct1", False),
    ]
    assert await place.count("close_unit") == 1


async def test_arrival_that_another_indexer_took_is_passed_over(place: Place) -> None:
    place.receive_all(dicom.ct_study("study 1", 2))
    spooled = place.spooled()
    remove(spooled[0])

    assert await index_batch(place.db, place.blobs, spooled, now=at(1)) == BatchResult(new=1)
