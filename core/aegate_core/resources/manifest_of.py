"""From a frozen value back to its manifest, with every default written out, as an API server shows it."""

from __future__ import annotations

from collections.abc import Mapping

from aegate_core.resources.values import (
    Ability,
    ApplicationEntity,
    CompressionMode,
    ImageRoute,
    Listener,
    Metadata,
    PatientPartition,
    Print,
    Push,
    Resource,
    RouteFrom,
)

API_VERSION = "aegate.dev/v1alpha1"


def kind_of(resource: Resource) -> str:
    """Return the kind, as the manifest spells it."""
    return type(resource).__name__


def to_manifest(resource: Resource) -> dict[str, object]:
    """Return the manifest; ``parse_resource`` of it gives an equal value (but for ``metadata.source``)."""
    return {
        "apiVersion": API_VERSION,
        "kind": kind_of(resource),
        "metadata": _metadata(resource.metadata),
        "spec": to_spec(resource),
    }


def to_spec(resource: Resource) -> dict[str, object]:
    """Return the manifest's spec alone."""
    if isinstance(resource, ApplicationEntity):
        return _application_entity(resource)
    if isinstance(resource, ImageRoute):
        return _image_route(resource)
    return _patient_partition(resource)


def _present(members: Mapping[str, object]) -> dict[str, object]:
    """Leave out what is absent: None, and empty lists and objects."""
    return {name: value for name, value in members.items() if value is not None and value not in ([], {})}


def _metadata(metadata: Metadata) -> dict[str, object]:
    return _present(
        {
            "name": metadata.key.name,
            "namespace": metadata.key.namespace,
            "uid": metadata.uid or None,
            "generation": metadata.generation,
            "labels": dict(metadata.labels),
            "creationTimestamp": metadata.created_at or None,
        }
    )


def _application_entity(ae: ApplicationEntity) -> dict[str, object]:
    return _present(
        {
            "title": ae.title.value,
            "node": ae.node,
            "port": ae.port,
            "sourceRanges": list(ae.source_ranges),
            "networkPolicy": ae.network_policy,
            "locationCode": ae.location_code,
            "patientPartition": ae.patient_partition,
            "documentType": ae.document_type,
            "routeLevel": ae.route_level.value,
            "maxConnections": ae.max_connections,
            "comment": ae.comment or None,
            "ability": ae.ability.value,
            "push": _push(ae.push) if ae.ability is Ability.PUSH else None,
            "print": _print(ae.print) if ae.ability is Ability.PRINT else None,
            "updateDatabaseFromDICOM": ae.update_database_from_dicom,
            "allowModalityWorklistQuery": ae.allow_modality_worklist_query,
            "suspend": ae.suspend,
            "enabled": ae.enabled,
            "study": {"quietPeriodSeconds": ae.study.quiet_period_s, "maxAgeSeconds": ae.study.max_age_s},
            "timeouts": {
                "connectSeconds": ae.timeouts.connect_s,
                "acseSeconds": ae.timeouts.acse_s,
                "dimseResponseSeconds": ae.timeouts.dimse_response_s,
                "networkIdleSeconds": ae.timeouts.network_idle_s,
            },
            "listener": _listener(ae.listener),
        }
    )


def _push(push: Push) -> dict[str, object]:
    tls = push.tls and _present(
        {"verifyHostname": push.tls.verify_hostname, "serverName": push.tls.server_name}
    )
    has_compression = push.compression.mode is not CompressionMode.NONE
    compression = _present({"mode": push.compression.mode.value, "quality": push.compression.quality})
    return _present(
        {
            "reconcilePatientData": push.reconcile_patient_data,
            "reconcileAccessionNumber": push.reconcile_accession_number,
            "priority": push.priority,
            "storageCommitment": push.storage_commitment,
            "callingTitle": push.calling_title and push.calling_title.value,
            "tls": tls,
            "compression": compression if has_compression else None,
        }
    )


def _print(film: Print) -> dict[str, object]:
    return _present(
        {
            "displayFormat": film.display_format,
            "filmSize": film.film_size,
            "orientation": film.orientation,
            "medium": film.medium,
            "copies": film.copies,
            "color": film.color,
            "callingTitle": film.calling_title and film.calling_title.value,
        }
    )


def _listener(listener: Listener) -> dict[str, object]:
    tls, spool = listener.tls, listener.spool
    return _present(
        {
            "mode": listener.mode and listener.mode.value,
            "pool": listener.pool,
            "serviceType": listener.service_type,
            "serviceAnnotations": dict(listener.service_annotations),
            "loadBalancerClass": listener.load_balancer_class,
            "port": listener.port,
            "nodePort": listener.node_port,
            "replicas": listener.replicas,
            "maxAssociations": listener.max_associations,
            "verifyCalledTitle": listener.verify_called_title,
            "verifyNode": listener.verify_node,
            "acknowledge": listener.acknowledge if listener.acknowledge != "Spooled" else None,
            "longestAssociationSeconds": listener.longest_association_s,
            "extraSOPClasses": list(listener.extra_sop_classes),
            "calledTitle": listener.called_title and listener.called_title.value,
            "tls": tls
            and _present(
                {
                    "secretName": tls.secret_name,
                    "clientAuth": tls.client_auth,
                    "caSecretName": tls.ca_secret_name,
                }
            ),
            "spool": spool
            and _present(
                {
                    "type": spool.type,
                    "accessMode": spool.access_mode,
                    "storageClassName": spool.storage_class_name,
                    "size": spool.size,
                }
            ),
            "pod": dict(listener.pod),
        }
    )


def _image_route(route: ImageRoute) -> dict[str, object]:
    return _present(
        {
            "from": _route_from(route.source),
            "to": list(route.to),
            "level": route.level and route.level.value,
            "priority": route.priority,
            "onDuplicate": route.on_duplicate.value,
            "enabled": route.enabled,
            "comment": route.comment or None,
        }
    )


def _route_from(source: RouteFrom) -> dict[str, object]:
    elements = [
        _present({"keyword": e.keyword, "op": e.op.value, "values": list(e.values)}) for e in source.elements
    ]
    return _present(
        {
            "aes": list(source.aes),
            "selector": {"matchLabels": dict(source.match_labels)} if source.match_labels else None,
            "partitions": list(source.partitions),
            "locations": list(source.locations),
            "documentTypes": list(source.document_types),
            "modalities": list(source.modalities),
            "elements": elements,
        }
    )


def _patient_partition(partition: PatientPartition) -> dict[str, object]:
    retention = partition.retention
    return _present(
        {
            "displayName": partition.display_name,
            "issuerOfPatientID": partition.issuer_of_patient_id,
            "retention": _present(
                {
                    "images": _present(
                        {
                            "days": retention.images_days,
                            "requireDelivered": retention.images_require_delivered,
                            "requireCommitted": retention.images_require_committed,
                        }
                    ),
                    "finishedDeliveries": {"days": retention.finished_deliveries_days},
                    "audit": _present({"days": retention.audit_days}),
                }
            ),
        }
    )
