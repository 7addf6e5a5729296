"""From a manifest to a frozen value: what the decisions take. The way back is in ``manifest_of``.

The manifest is one that the schema accepted, so its defaults are filled in; where they are not, the values'
own defaults (the same ones, a test compares them) stand in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.errors import InvalidResource
from aegate_core.resources.fields import Fields
from aegate_core.resources.manifest_of import API_VERSION, kind_of, to_manifest
from aegate_core.resources.values import (
    Ability,
    ApplicationEntity,
    Compression,
    CompressionMode,
    ElementMatch,
    ElementOp,
    ImageRoute,
    Level,
    Listener,
    ListenerMode,
    ListenerTLS,
    Metadata,
    OnDuplicate,
    PatientPartition,
    Print,
    Push,
    PushTLS,
    Resource,
    Retention,
    RouteFrom,
    Spool,
    StudyTimes,
    Timeouts,
)

__all__ = ["API_VERSION", "kind_of", "parse_metadata", "parse_resource", "to_manifest"]


def parse_resource(manifest: Mapping[str, object], *, source: str = "") -> Resource:
    """Return the resource that ``manifest`` describes; ``source`` says where it came from, as file:line.

    Raises InvalidResource, with the field's path.
    """
    top = Fields(manifest, "manifest")
    kind = top.required_text("kind")
    version = top.text("apiVersion", API_VERSION)
    if kind not in _PARSERS or version != API_VERSION:
        known = ", ".join(_PARSERS)
        raise InvalidResource(f"expected {API_VERSION} with kind {known}, got {version} {kind}", field="kind")
    metadata = parse_metadata(Fields(manifest.get("metadata"), "metadata"), source=source)
    return _PARSERS[kind](metadata, Fields(manifest.get("spec"), "spec"))


def parse_metadata(metadata: Fields, *, source: str = "") -> Metadata:
    """Return what decisions read of ObjectMeta; an absent namespace is ``default``."""
    return Metadata(
        key=ResourceKey(metadata.text("namespace", "default"), metadata.required_text("name")),
        uid=metadata.text("uid", ""),
        generation=metadata.integer("generation", 1),
        labels=metadata.mapping("labels"),
        created_at=metadata.text("creationTimestamp", ""),
        source=source,
    )


def _application_entity(metadata: Metadata, spec: Fields) -> ApplicationEntity:
    title = spec.title("title")
    port = spec.optional_integer("port")
    if title is None or port is None:
        missing = "spec.title" if title is None else "spec.port"
        raise InvalidResource(f"{missing} is required: add it", field=missing)
    study, timeouts = spec.child("study"), spec.child("timeouts")
    return ApplicationEntity(
        metadata=metadata,
        title=title,
        node=spec.required_text("node"),
        port=port,
        source_ranges=spec.texts("sourceRanges"),
        location_code=spec.optional_text("locationCode"),
        patient_partition=spec.text("patientPartition", "default"),
        document_type=spec.optional_text("documentType"),
        route_level=spec.choice("routeLevel", Level.STUDY),
        max_connections=spec.integer("maxConnections", 4),
        comment=spec.text("comment", ""),
        ability=spec.choice("ability", Ability.PUSH),
        push=_push(spec.child("push")),
        print=_print(spec.child("print")),
        update_database_from_dicom=spec.flag("updateDatabaseFromDICOM", False),
        allow_modality_worklist_query=spec.flag("allowModalityWorklistQuery", False),
        suspend=spec.flag("suspend", False),
        enabled=spec.flag("enabled", True),
        study=StudyTimes(study.integer("quietPeriodSeconds", 60), study.integer("maxAgeSeconds", 5400)),
        timeouts=Timeouts(
            connect_s=timeouts.integer("connectSeconds", 10),
            acse_s=timeouts.integer("acseSeconds", 30),
            dimse_response_s=timeouts.integer("dimseResponseSeconds", 120),
            network_idle_s=timeouts.integer("networkIdleSeconds", 600),
        ),
        listener=_listener(spec.child("listener")),
        network_policy=spec.text("networkPolicy", "Enabled"),
    )


def _push(push: Fields) -> Push:
    tls, compression = push.child("tls"), push.child("compression")
    return Push(
        reconcile_patient_data=push.text("reconcilePatientData", "None"),
        reconcile_accession_number=push.text("reconcileAccessionNumber", "None"),
        priority=push.integer("priority", 50),
        storage_commitment=push.flag("storageCommitment", False),
        calling_title=push.title("callingTitle"),
        tls=PushTLS(tls.flag("verifyHostname", True), tls.optional_text("serverName"))
        if "tls" in push
        else None,
        compression=Compression(
            compression.choice("mode", CompressionMode.NONE), compression.optional_integer("quality")
        ),
    )


def _print(film: Fields) -> Print:
    return Print(
        display_format=film.text("displayFormat", "STANDARD\\1,1"),
        film_size=film.optional_text("filmSize"),
        orientation=film.text("orientation", "PORTRAIT"),
        medium=film.optional_text("medium"),
        copies=film.integer("copies", 1),
        color=film.flag("color", False),
        calling_title=film.title("callingTitle"),
    )


def _listener(listener: Fields) -> Listener:
    return Listener(
        mode=listener.optional_choice("mode", ListenerMode),
        pool=listener.optional_text("pool"),
        port=listener.optional_integer("port"),
        max_associations=listener.integer("maxAssociations", 25),
        verify_called_title=listener.flag("verifyCalledTitle", False),
        verify_node=listener.flag("verifyNode", True),
        called_title=listener.title("calledTitle"),
        acknowledge=listener.text("acknowledge", "Spooled"),
        longest_association_s=listener.optional_integer("longestAssociationSeconds"),
        extra_sop_classes=listener.texts("extraSOPClasses"),
        tls=_listener_tls(listener),
        service_type=listener.optional_text("serviceType"),
        service_annotations=listener.mapping("serviceAnnotations"),
        load_balancer_class=listener.optional_text("loadBalancerClass"),
        node_port=listener.optional_integer("nodePort"),
        replicas=listener.optional_integer("replicas"),
        spool=_spool(listener),
        pod=listener.raw("pod"),
    )


def _listener_tls(listener: Fields) -> ListenerTLS | None:
    if "tls" not in listener:
        return None
    tls = listener.child("tls")
    return ListenerTLS(
        tls.required_text("secretName"), tls.text("clientAuth", "Require"), tls.optional_text("caSecretName")
    )


def _spool(listener: Fields) -> Spool | None:
    if "spool" not in listener:
        return None
    spool = listener.child("spool")
    return Spool(
        spool.required_text("type"),
        spool.optional_text("accessMode"),
        spool.optional_text("storageClassName"),
        spool.optional_text("size"),
    )


def _image_route(metadata: Metadata, spec: Fields) -> ImageRoute:
    to = spec.texts("to")
    if not to:
        raise InvalidResource("spec.to is required: name at least one ApplicationEntity", field="spec.to")
    source = spec.child("from")
    return ImageRoute(
        metadata=metadata,
        to=to,
        source=RouteFrom(
            aes=source.texts("aes"),
            match_labels=source.child("selector").mapping("matchLabels"),
            partitions=source.texts("partitions"),
            locations=source.texts("locations"),
            document_types=source.texts("documentTypes"),
            modalities=source.texts("modalities"),
            elements=tuple(
                _element(Fields(item, f"spec.from.elements[{n}]"))
                for n, item in enumerate(source.items("elements"))
            ),
        ),
        level=spec.optional_choice("level", Level),
        priority=spec.optional_integer("priority"),
        on_duplicate=spec.choice("onDuplicate", OnDuplicate.IGNORE),
        enabled=spec.flag("enabled", True),
        comment=spec.text("comment", ""),
    )


def _element(element: Fields) -> ElementMatch:
    op = element.optional_choice("op", ElementOp)
    if op is None:
        raise InvalidResource(f"{element.path}.op is required: add it", field=f"{element.path}.op")
    return ElementMatch(element.required_text("keyword"), op, element.texts("values"))


def _patient_partition(metadata: Metadata, spec: Fields) -> PatientPartition:
    retention = spec.child("retention")
    images = retention.child("images")
    return PatientPartition(
        metadata=metadata,
        display_name=spec.optional_text("displayName"),
        issuer_of_patient_id=spec.optional_text("issuerOfPatientID"),
        retention=Retention(
            images_days=images.optional_integer("days"),
            images_require_delivered=images.flag("requireDelivered", True),
            images_require_committed=images.flag("requireCommitted", False),
            finished_deliveries_days=retention.child("finishedDeliveries").integer("days", 90),
            audit_days=retention.child("audit").optional_integer("days"),
        ),
    )


_PARSERS: Mapping[str, Callable[[Metadata, Fields], Resource]] = {
    "ApplicationEntity": _application_entity,
    "ImageRoute": _image_route,
    "PatientPartition": _patient_partition,
}
