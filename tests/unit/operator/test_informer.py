"""Lists and events, lost ones and late ones: what is known in the end, and what is looked at again."""

from __future__ import annotations

from typing import Any

import pytest

from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.resources.crds import load_crds
from aegate_core.resources.reference import ResourceRef
from aegate_core.stores.cluster.client import Listing, Manifest
from aegate_core.stores.cluster.kinds import (
    APPLICATION_ENTITY,
    IMAGE_ROUTE,
    PATIENT_PARTITION,
    POD,
    SERVICE,
    VOLUME_CLAIM,
    Kind,
)
from aegate_operator.cache import Cache, frozen
from aegate_operator.declared import Declared
from aegate_operator.informer import Informer, Scope
from aegate_operator.manifests.child import AE_LABEL

KEY = ResourceKey("radiology", "ct1")
REF = ResourceRef("ApplicationEntity", KEY)
CRDS = load_crds()
OWNERLESS = (POD, VOLUME_CLAIM)
OWNER = {"kind": "ApplicationEntity", "name": "ct1", "uid": "1", "controller": True}


class Known:
    def __init__(self) -> None:
        self.asked: list[ResourceRef] = []
        self.cache, self.declared = Cache(), Declared(CRDS)
        self.informer = Informer(self.cache, self.declared, self.asked.append)

    def again(self) -> list[ResourceRef]:
        """What was asked to be looked at since the last question."""
        asked, self.asked[:] = list(self.asked), []
        return asked


@pytest.fixture
def known() -> Known:
    return Known()


def manifest(kind: Kind, version: int, *, uid: str = "1", name: str = "ct1", **members: Any) -> Manifest:
    metadata = {"namespace": "radiology", "name": name, "uid": uid, "resourceVersion": str(version)}
    metadata |= members.pop("metadata", {})
    return {"apiVersion": kind.api_version, "kind": kind.name, "metadata": metadata, **members}


def an_ae(version: int = 1, *, uid: str = "1", name: str = "ct1", **spec: Any) -> Manifest:
    filled = {"title": name.upper(), "node": "10.1.2.3", "port": 104, **spec}
    return manifest(APPLICATION_ENTITY, version, uid=uid, name=name, spec=filled)


def a_child(kind: Kind, version: int, *, uid: str = "2") -> Manifest:
    labels = {"labels": {AE_LABEL: "ct1"}, "ownerReferences": [OWNER] if kind not in OWNERLESS else []}
    return manifest(kind, version, uid=uid, name="ae-ct1", metadata=labels)


def test_an_ae_its_child_and_its_pod_lead_to_it(known: Known) -> None:
    for kind, value in (
        (APPLICATION_ENTITY, an_ae(1)),
        (SERVICE, a_child(SERVICE, 2)),
        (POD, a_child(POD, 3)),
    ):
        known.informer.saw(kind, "ADDED", value)
        assert known.again() == [REF]
    known.informer.saw(SERVICE, "DELETED", a_child(SERVICE, 4))
    assert known.again() == [REF]
    assert list(known.cache.children(ResourceKey("radiology", "ct1"))) == []
    assert set(known.cache.pods(ResourceKey("radiology", "ct1"))) == {"2"}


@pytest.mark.parametrize("labels", [{}, {AE_LABEL: "mr1"}])
@pytest.mark.parametrize("kind", [SERVICE, VOLUME_CLAIM], ids=str)
def test_a_child_whose_label_was_taken_away_leads_to_its_entity(
    known: Known, kind: Kind, labels: dict[str, str]
) -> None:
    known.informer.saw(APPLICATION_ENTITY, "ADDED", an_ae(1))
    known.informer.saw(kind, "ADDED", a_child(kind, 2))
    known.again()
    edited = a_child(kind, 3)
    edited["metadata"]["labels"] = labels  # type: ignore[index,call-overload]
    known.informer.saw(kind, "MODIFIED", edited)
    assert known.again() == [REF]
    assert known.cache.families() == [KEY]
    known.informer.saw(kind, "DELETED", edited)
    assert known.again() == [REF]
    assert list(known.cache.children(KEY)) == []


def test_a_child_of_nobody_leads_nowhere(known: Known) -> None:
    known.informer.saw(SERVICE, "ADDED", a_child(SERVICE, 1))
    assert known.again() == []


def test_versions_only_go_forward(known: Known) -> None:
    known.informer.saw(SERVICE, "ADDED", a_child(SERVICE, 5))
    assert known.cache.put(SERVICE, a_child(SERVICE, 4)) is False
    assert known.cache.put(SERVICE, a_child(SERVICE, 5)) is False
    assert known.cache.put(SERVICE, a_child(SERVICE, 6)) is True


def test_the_end_of_an_earlier_life_does_not_end_the_present_one(known: Known) -> None:
    known.informer.saw(APPLICATION_ENTITY, "ADDED", an_ae(1, uid="old"))
    known.informer.saw(APPLICATION_ENTITY, "ADDED", an_ae(9, uid="new"))
    known.again()
    known.informer.saw(APPLICATION_ENTITY, "DELETED", an_ae(8, uid="old"))
    assert known.again() == []
    assert known.declared.get(REF) is not None


def test_a_list_drops_what_it_does_not_hold(known: Known) -> None:
    for version, name in enumerate(("ct1", "mr1", "us1"), start=1):
        known.informer.saw(APPLICATION_ENTITY, "ADDED", an_ae(version, uid=name, name=name))
    known.again()
    ghosts = known.informer.listed(
        Scope(APPLICATION_ENTITY), Listing((frozen(an_ae(2, uid="mr1", name="mr1")),), "10")
    )
    assert ghosts == 2
    assert {ref.key.name for ref in known.again()} == {"ct1", "us1"}
    assert [ref.key.name for ref in known.informer.everything()] == ["mr1"]


def test_a_list_knows_nothing_of_what_came_after_it(known: Known) -> None:
    known.informer.saw(APPLICATION_ENTITY, "ADDED", an_ae(11))
    assert known.informer.listed(Scope(APPLICATION_ENTITY), Listing((), "10")) == 0
    assert known.informer.listed(Scope(APPLICATION_ENTITY), Listing((), "11")) == 1


def test_a_list_of_one_namespace_says_nothing_of_another(known: Known) -> None:
    known.informer.saw(APPLICATION_ENTITY, "ADDED", an_ae(1))
    assert known.informer.listed(Scope(APPLICATION_ENTITY, "cardiology"), Listing((), "10")) == 0
    assert known.informer.listed(Scope(APPLICATION_ENTITY, "radiology"), Listing((), "10")) == 1


def test_a_ghost_of_a_pod_leads_to_its_ae(known: Known) -> None:
    known.informer.saw(APPLICATION_ENTITY, "ADDED", an_ae(1))
    known.informer.saw(POD, "ADDED", a_child(POD, 2))
    known.again()
    assert known.informer.listed(Scope(POD), Listing((), "10")) == 1
    assert known.again() == [REF]
    assert known.cache.pods(KEY) == {}


def test_one_of_another_life_in_a_list_replaces_the_one_known(known: Known) -> None:
    known.informer.saw(APPLICATION_ENTITY, "ADDED", an_ae(1, uid="old"))
    assert (
        known.informer.listed(Scope(APPLICATION_ENTITY), Listing((frozen(an_ae(7, uid="new")),), "10")) == 0
    )
    resource = known.declared.get(REF)
    assert resource is not None
    assert resource.metadata.uid == "new"


def test_a_partition_leads_to_those_that_name_it(known: Known) -> None:
    known.informer.saw(APPLICATION_ENTITY, "ADDED", an_ae(1, patientPartition="imaging"))
    known.informer.saw(APPLICATION_ENTITY, "ADDED", an_ae(2, uid="2", name="mr1"))
    spec = {"to": ["mr1"], "from": {"partitions": ["imaging"]}}
    known.informer.saw(IMAGE_ROUTE, "ADDED", manifest(IMAGE_ROUTE, 3, uid="3", name="r", spec=spec))
    known.again()
    known.informer.saw(
        PATIENT_PARTITION, "ADDED", manifest(PATIENT_PARTITION, 4, uid="4", name="imaging", spec={})
    )
    assert {str(ref) for ref in known.again()} == {
        "ApplicationEntity radiology/ct1",
        "ImageRoute radiology/r",
        "PatientPartition radiology/imaging",
    }


def test_what_cannot_be_read_keeps_its_last_good_version(known: Known) -> None:
    known.informer.saw(APPLICATION_ENTITY, "ADDED", an_ae(1))
    broken = an_ae(2, port="a hundred")
    known.informer.saw(APPLICATION_ENTITY, "MODIFIED", broken)
    assert known.declared.error(REF, broken) == "spec.port must be an integer, got a string"
    assert known.declared.wrong() == {REF: "spec.port must be an integer, got a string"}
    assert [ae.port for ae in known.declared.entities()] == [104]
    assert known.declared.right() == []
    known.informer.saw(APPLICATION_ENTITY, "MODIFIED", an_ae(3))
    assert known.declared.wrong() == {}
