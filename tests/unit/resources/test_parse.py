"""Manifests become values and values manifests, without loss."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aegate_core.dicom.ae_title import AETitle
from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.errors import InvalidResource
from aegate_core.resources.manifest_of import kind_of, to_manifest, to_spec
from aegate_core.resources.parse import parse_resource
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
from tests.unit.resources.builders import ae, manifest, partition, route, validate

NAMES = st.from_regex(r"[a-z]([a-z0-9]{0,6}[a-z0-9])?", fullmatch=True)
TEXTS = st.text("abcÄ 1-", max_size=8)
TITLES = st.from_regex(r"[A-Z]([A-Z0-9_]{0,6}[A-Z0-9])?", fullmatch=True).map(AETitle)
LABELS = st.dictionaries(NAMES, NAMES, max_size=2)


def sets(items: st.SearchStrategy[str], least: int = 0) -> st.SearchStrategy[tuple[str, ...]]:
    """Tuples without repetition."""
    return st.lists(items, min_size=least, max_size=3, unique=True).map(tuple)


def built(kind: type, **fields: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    """Values of one dataclass."""
    return st.builds(kind, **fields)


METADATA = built(
    Metadata,
    key=st.builds(ResourceKey, NAMES, NAMES),
    uid=st.sampled_from(["", "5f0c"]),
    generation=st.integers(1, 9),
    labels=LABELS,
    created_at=st.sampled_from(["", "2026-01-31T00:00:00+00:00"]),
)
PUSHES = built(
    Push,
    reconcile_patient_data=st.sampled_from(["None", "MR", "NameAndMR"]),
    reconcile_accession_number=st.sampled_from(["None", "EncounterID"]),
    priority=st.integers(0, 100),
    storage_commitment=st.booleans(),
    calling_title=st.none() | TITLES,
    tls=st.none() | st.builds(PushTLS, st.booleans(), st.none() | NAMES),
    compression=st.sampled_from(
        [Compression(), Compression(CompressionMode.LOSSLESS), Compression(CompressionMode.LOSSY, 90)]
    ),
)
PRINTS = built(
    Print,
    display_format=st.just("STANDARD\\2,3"),
    film_size=st.none() | st.just("8INX10IN"),
    copies=st.integers(1, 99),
    color=st.booleans(),
    calling_title=st.none() | TITLES,
)
LISTENERS = built(
    Listener,
    mode=st.none() | st.sampled_from(ListenerMode),
    pool=st.none() | NAMES,
    port=st.none() | st.integers(1, 65535),
    max_associations=st.integers(1, 500),
    verify_called_title=st.booleans(),
    verify_node=st.booleans(),
    called_title=st.none() | TITLES,
    acknowledge=st.sampled_from(["Spooled", "Indexed"]),
    longest_association_s=st.none() | st.integers(30, 86400),
    extra_sop_classes=sets(st.sampled_from(["1.2.3", "1.2.4"])),
    tls=st.none() | st.builds(ListenerTLS, NAMES, st.just("Request"), st.none() | NAMES),
    service_type=st.none() | st.just("NodePort"),
    service_annotations=LABELS,
    load_balancer_class=st.none() | NAMES,
    node_port=st.none() | st.integers(30000, 32767),
    replicas=st.none() | st.integers(1, 10),
    spool=st.none()
    | st.builds(Spool, st.just("PersistentVolumeClaim"), st.none(), st.none() | NAMES, st.just("1Gi")),
    pod=st.just({}) | st.just({"nodeSelector": {"zone": "a"}}),
)
ENTITIES = st.one_of(
    built(
        ApplicationEntity,
        metadata=METADATA,
        title=TITLES,
        node=st.just("10.1.2.3"),
        port=st.integers(1, 65535),
        source_ranges=sets(st.sampled_from(["10.0.0.0/8", "::/0"])),
        location_code=st.none() | NAMES,
        patient_partition=NAMES,
        document_type=st.none() | NAMES,
        route_level=st.sampled_from(Level),
        max_connections=st.integers(1, 64),
        comment=TEXTS,
        ability=st.just(ability),
        update_database_from_dicom=st.booleans(),
        allow_modality_worklist_query=st.booleans(),
        suspend=st.booleans(),
        enabled=st.booleans(),
        study=st.builds(StudyTimes, st.integers(1, 86400), st.integers(1, 604800)),
        timeouts=st.builds(Timeouts, *[st.integers(1, 600)] * 4),
        listener=LISTENERS,
        network_policy=st.sampled_from(["Enabled", "Disabled"]),
        **details,
    )
    for ability, details in ((Ability.PUSH, {"push": PUSHES}), (Ability.PRINT, {"print": PRINTS}))
)
ROUTES = built(
    ImageRoute,
    metadata=METADATA,
    to=sets(NAMES, least=1),
    source=built(
        RouteFrom,
        aes=sets(NAMES),
        match_labels=LABELS,
        partitions=sets(NAMES),
        locations=sets(NAMES),
        document_types=sets(NAMES),
        modalities=sets(st.sampled_from(["CT", "MR"])),
        elements=st.lists(
            st.sampled_from(
                [ElementMatch("StudyID", ElementOp.EXISTS), ElementMatch("StudyID", ElementOp.IN, ("a", "b"))]
            ),
            max_size=2,
        ).map(tuple),
    ),
    level=st.none() | st.sampled_from([Level.STUDY, Level.SERIES, Level.IMAGE]),
    priority=st.none() | st.integers(0, 100),
    on_duplicate=st.sampled_from(OnDuplicate),
    enabled=st.booleans(),
    comment=TEXTS,
)
PARTITIONS = built(
    PatientPartition,
    metadata=METADATA,
    display_name=st.none() | NAMES,
    issuer_of_patient_id=st.none() | NAMES,
    retention=built(
        Retention,
        images_days=st.none() | st.integers(1, 36500),
        images_require_delivered=st.booleans(),
        images_require_committed=st.booleans(),
        finished_deliveries_days=st.integers(1, 36500),
        audit_days=st.none() | st.integers(1, 36500),
    ),
)


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture], deadline=None)
@given(ENTITIES | ROUTES | PARTITIONS)
def test_manifest_of_a_value_is_that_value(value: Resource) -> None:
    assert parse_resource(to_manifest(value)) == value


def test_every_field_of_an_entity_takes_part_in_the_manifest() -> None:
    given_by_test = {f.name for f in dataclasses.fields(ApplicationEntity)} - {"metadata"}
    assert len(to_spec(parse_resource(ae(comment="c", locationCode="l", documentType="d")))) + 2 == len(
        given_by_test
    )


@pytest.mark.parametrize(
    ("value", "field", "words"),
    [
        ({"kind": "Pod"}, "kind", "expected aegate.dev/v1alpha1 with kind"),
        ({**ae(), "apiVersion": "aegate.dev/v9"}, "kind", "got aegate.dev/v9"),
        ({}, "manifest.kind", "is required"),
        (ae(title=None), "spec.title", "required"),
        (ae(port=None), "spec.port", "required"),
        (ae(node=None), "spec.node", "required"),
        (ae(title="x" * 17), "spec.title", "1 to 16 characters, got 17"),
        (ae(port="104"), "spec.port", "must be an integer, got a string"),
        (ae(enabled=1), "spec.enabled", "must be true or false, got an integer"),
        (ae(node=1), "spec.node", "must be a string"),
        (ae(ability="Pull"), "spec.ability", "must be one of Push, Print"),
        (ae(listener=[]), "spec.listener", "must be an object, got a list"),
        (ae(sourceRanges="x"), "spec.sourceRanges", "must be a list, got a string"),
        (ae(sourceRanges=[1]), "spec.sourceRanges", "must be a list of strings"),
        (route(to=[]), "spec.to", "at least one"),
        (route(source={"elements": [{}]}), "spec.from.elements[0].op", "required"),
        (
            route(source={"selector": {"matchLabels": {"a": 1}}}),
            "spec.from.selector.matchLabels",
            "object of strings",
        ),
        (manifest("PatientPartition", "p", {"retention": 1}), "spec.retention", "got an integer"),
    ],
)
def test_what_cannot_be_parsed_names_its_field(value: dict[str, object], field: str, words: str) -> None:
    with pytest.raises(InvalidResource) as caught:
        parse_resource(value)
    assert caught.value.field == field
    assert words in caught.value.message


def test_listener_mode_follows_the_ability() -> None:
    push, printer, none = (
        parse_resource(ae()),
        parse_resource(ae(ability="Print")),
        parse_resource(ae(listener={"mode": "None"})),
    )
    assert isinstance(push, ApplicationEntity)
    assert isinstance(printer, ApplicationEntity)
    assert isinstance(none, ApplicationEntity)
    modes = [entity.listener_mode for entity in (push, printer, none)]
    assert modes == [ListenerMode.DEDICATED, ListenerMode.NONE, ListenerMode.NONE]
    assert push.partition == ResourceKey("default", "default")


def test_kinds_are_those_of_the_crds() -> None:
    assert [kind_of(parse_resource(v)) for v in (ae(), route(), partition())] == [
        "ApplicationEntity",
        "ImageRoute",
        "PatientPartition",
    ]


def test_resource_of_a_file_knows_where_it_stood() -> None:
    (found,) = validate(ae()).resources
    assert found.metadata.source == "<stdin>:1"
