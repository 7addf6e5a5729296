"""An audit row as a DICOM Audit Message (PS3.15 A.5): XML by the schema of A.5.1, codes by A.5.3 and PS3.16 CID 400.

What DICOM has an event for is told as that; the rest as Application Activity, with our own action as event type. Images
are named by study and patient id, never by the patient's name: who may read the audit need not know it.
"""

from __future__ import annotations

import base64
import ipaddress
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from xml.etree import ElementTree as ET

SUCCESS, MINOR, SERIOUS = 0, 4, 8
"""EventOutcomeIndicator, A.5.1."""

_OUTCOMES = {"DONE": SUCCESS, "INTENT": SUCCESS, "REFUSED": MINOR, "UNKNOWN": MINOR, "FAILED": SERIOUS}


@dataclass(frozen=True, slots=True)
class Peer:
    """A device, as AE title and network address."""

    title: str
    address: str = ""


@dataclass(frozen=True, slots=True)
class Images:
    """What images an event is about."""

    study_instance_uid: str
    patient_id: str = ""
    """With its issuer, as HL7 writes it: ``4711^^^HOSPITAL``; empty: not identified."""
    count: int | None = None


@dataclass(frozen=True, slots=True)
class AuditRow:
    """A row of the audit with what its keys stand for."""

    id: int
    at: datetime
    actor: str
    address: str
    action: str
    target: str
    outcome: str
    area: str | None
    detail: Mapping[str, Any] = field(default_factory=dict)
    peer: Peer | None = None
    images: Images | None = None


@dataclass(frozen=True, slots=True)
class AuditSource:
    """Who reports: A.5.1 AuditSourceIdentification."""

    id: str
    site: str = ""


@dataclass(frozen=True, slots=True)
class _Event:
    code: str
    meaning: str
    action: str
    type: tuple[str, str] | None = None


_EVENTS: Mapping[str, _Event] = {
    "acceptAssociation": _Event("110102", "Begin Transferring DICOM Instances", "E"),
    "callAssociation": _Event("110102", "Begin Transferring DICOM Instances", "E"),
    "endAssociation": _Event("110104", "DICOM Instances Transferred", "C"),
    "receiveImages": _Event("110104", "DICOM Instances Transferred", "C"),
    "sendImages": _Event("110104", "DICOM Instances Transferred", "R"),
    "remove-images": _Event("110105", "DICOM Study Deleted", "D"),
    "readPatientData": _Event("110112", "Query", "E"),
    "refuseAssociation": _Event("110113", "Security Alert", "E", ("110126", "Node Authentication")),
}
_CONFIGURED = _Event("110113", "Security Alert", "E", ("110128", "Network Configuration"))
_OTHER = _Event("110100", "Application Activity", "E")
_SOURCE = ("110153", "Source Role ID")
_DESTINATION = ("110152", "Destination Role ID")
_APPLICATION = ("110150", "Application")


def outcome_of(row: AuditRow) -> int:
    """Return the EventOutcomeIndicator."""
    return _OUTCOMES.get(row.outcome, SERIOUS)


def audit_message(row: AuditRow, source: AuditSource) -> bytes:
    """Return the message as UTF-8, without a declaration of its encoding."""
    event = _event_of(row)
    root = ET.Element("AuditMessage")
    root.append(_identification(row, event))
    for participant in _participants(row, source):
        root.append(participant)
    reporter = ET.SubElement(root, "AuditSourceIdentification", AuditSourceID=_text(source.id))
    if source.site:
        reporter.set("AuditEnterpriseSiteID", _text(source.site))
    ET.SubElement(reporter, "AuditSourceTypeCode", {"csd-code": "4"})
    for thing in _objects(row):
        root.append(thing)
    return bytes(ET.tostring(root, encoding="utf-8", xml_declaration=False))


def _event_of(row: AuditRow) -> _Event:
    if row.action == "endAssociation" and not row.detail.get("instances"):
        return _OTHER  # a C-ECHO: nothing was transferred
    return _EVENTS.get(row.action) or (_CONFIGURED if row.area == "ENTITIES" else _OTHER)


def _identification(row: AuditRow, event: _Event) -> ET.Element:
    found = ET.Element(
        "EventIdentification",
        EventActionCode=event.action,
        EventDateTime=row.at.astimezone(UTC).isoformat(timespec="milliseconds"),
        EventOutcomeIndicator=str(outcome_of(row)),
    )
    found.append(_coded("EventID", event.code, event.meaning))
    if event.type is not None:
        found.append(_coded("EventTypeCode", *event.type))
    found.append(_coded("EventTypeCode", row.action, row.action, system="aegate"))
    reason = row.detail.get("reason") or row.detail.get("error") or row.detail.get("how")
    if reason and row.outcome != "DONE":
        ET.SubElement(found, "EventOutcomeDescription").text = _text(str(reason))
    return found


def _participants(row: AuditRow, source: AuditSource) -> list[ET.Element]:
    ours = Peer(source.id)
    if row.peer is None:
        if row.address or row.area in ("QUEUE", "ENTITIES", "ACCESS"):
            return [
                _participant(Peer(row.actor, row.address), None, requestor=True),
                _participant(ours, _APPLICATION),
            ]
        return [_participant(ours, _APPLICATION, requestor=True)]
    if row.action in ("sendImages", "callAssociation"):
        return [_participant(ours, _SOURCE, requestor=True), _participant(row.peer, _DESTINATION)]
    return [_participant(row.peer, _SOURCE, requestor=True), _participant(ours, _DESTINATION)]


def _participant(who: Peer, role: tuple[str, str] | None, *, requestor: bool = False) -> ET.Element:
    found = ET.Element(
        "ActiveParticipant", UserID=_text(who.title), UserIsRequestor="true" if requestor else "false"
    )
    if who.address:
        found.set("NetworkAccessPointID", _text(who.address))
        found.set("NetworkAccessPointTypeCode", "2" if _is_ip(who.address) else "1")
    if role is not None:
        found.append(_coded("RoleIDCode", *role))
    return found


def _objects(row: AuditRow) -> list[ET.Element]:
    if row.images is None:
        return [_object(row)]
    study = ET.Element(
        "ParticipantObjectIdentification",
        ParticipantObjectID=_text(row.images.study_instance_uid),
        ParticipantObjectTypeCode="2",
        ParticipantObjectTypeCodeRole="3",
    )
    study.append(_coded("ParticipantObjectIDTypeCode", "110180", "Study Instance UID"))
    ET.SubElement(study, "ParticipantObjectName").text = _text(row.target)
    if row.images.count is not None:
        description = ET.SubElement(study, "ParticipantObjectDescription")
        ET.SubElement(description, "SOPClass", NumberOfInstances=str(row.images.count))
    if not row.images.patient_id:
        return [study]
    patient = ET.Element(
        "ParticipantObjectIdentification",
        ParticipantObjectID=_text(row.images.patient_id),
        ParticipantObjectTypeCode="1",
        ParticipantObjectTypeCodeRole="1",
    )
    patient.append(_coded("ParticipantObjectIDTypeCode", "2", "Patient Number", system="RFC-3881"))
    ET.SubElement(patient, "ParticipantObjectName").text = _text(row.images.patient_id)
    return [study, patient]


def _object(row: AuditRow) -> ET.Element:
    """Return what the row is about as its kind and keys, with all that is known of it."""
    kind = row.target.partition(":")[0] or "Target"
    is_query = row.action == "readPatientData"
    found = ET.Element(
        "ParticipantObjectIdentification",
        ParticipantObjectID=_text(row.target or kind),
        ParticipantObjectTypeCode="2",
        ParticipantObjectTypeCodeRole="24" if is_query else "20",
    )
    found.append(_coded("ParticipantObjectIDTypeCode", kind, kind, system="aegate"))
    detail = base64.b64encode(json.dumps(dict(row.detail), sort_keys=True).encode()).decode()
    if is_query:
        ET.SubElement(found, "ParticipantObjectQuery").text = detail
    else:
        ET.SubElement(found, "ParticipantObjectName").text = _text(row.target or kind)
        ET.SubElement(found, "ParticipantObjectDetail", type="detail", value=detail)
    return found


def _coded(element: str, code: str, meaning: str, *, system: str = "DCM") -> ET.Element:
    attributes = {"csd-code": _text(code), "codeSystemName": system, "originalText": _text(meaning)}
    return ET.Element(element, attributes)


def _is_ip(address: str) -> bool:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return False
    return True


def _text(value: str) -> str:
    """Return ``value`` as XML 1.0 may hold it: without control characters; one that is empty as a dash."""
    return "".join(c for c in value if c in "\t\n\r" or _is_character(c)) or "-"


def _is_character(c: str) -> bool:
    return " " <= c < "\ud800" or "\ue000" <= c < "\ufffe" or c > "\uffff"
