"""What only all resources together show, as conditions: titles held twice, names that lead nowhere, the
summary.

Nothing here stops a listener by itself: a condition says what is wrong, and who acts reads ``Accepted``
alone. An unknown location even leaves Ready True, because images must arrive before the clinical staff has
edited its table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

from pydicom.datadict import tag_for_keyword

from aegate_core.decisions.neighbours import Neighbours
from aegate_core.decisions.without_effect import without_effect
from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.resources.conditions import Condition, ConditionType, Reason, Status
from aegate_core.resources.reference import ResourceRef, ref_of
from aegate_core.resources.values import Ability, ApplicationEntity, ImageRoute, Resource

ISCL_PORT = 2761


@dataclass(frozen=True, slots=True)
class Fault:
    """One reason why a condition is False. ``blocks``: it makes the resource not Ready."""

    reason: Reason
    message: str
    blocks: bool = True


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the resources are judged against, beside one another."""

    locations: frozenset[str] | None = None
    """Codes of the locations that exist; None where that cannot be known, and then none is missed."""
    secrets: frozenset[str] | None = None
    """Names of the secrets that exist; None where that cannot be known, and then none is missed."""
    accepted: frozenset[ResourceKey] = frozenset()
    """AEs that hold their title already: they keep it against any newcomer. Where `Neighbours` are given, they know."""
    errors: Mapping[ResourceRef, str] = field(default_factory=dict)
    """What is wrong with the newest manifest of a resource whose last good version stays in force."""
    listener_troubles: Mapping[ResourceKey, str] = field(default_factory=dict)
    """AEs whose listener does not answer (yet), and why."""
    unresolved: Mapping[ResourceKey, Fault] = field(default_factory=dict)
    """AEs whose listener has said, or shown, that something it needs is missing, wrong or too old."""
    progress: Mapping[ResourceKey, str] = field(default_factory=dict)
    """AEs whose listener is on its way to what is wished, and how far it is."""
    remarks: Mapping[ResourceKey, str] = field(default_factory=dict)
    """What people should know of a listener though nothing is wrong with it."""


def decide_conditions(
    resources: Sequence[Resource], surroundings: Surroundings
) -> dict[ResourceRef, tuple[Condition, ...]]:
    """Return the conditions of every resource, without times: `with_transition_times` adds them."""
    neighbours = Neighbours(resources, accepted=surroundings.accepted)
    return {ref_of(resource): conditions_of(resource, neighbours, surroundings) for resource in resources}


def conditions_of(
    resource: Resource, neighbours: Neighbours, surroundings: Surroundings
) -> tuple[Condition, ...]:
    """Return the conditions of one of the ``neighbours``, without times and without looking at all the others."""
    return _conditions(resource, _View(neighbours, surroundings))


def invalid_conditions(
    error: str, *, generation: int, resource: Resource | None = None
) -> tuple[Condition, ...]:
    """Return the conditions of a resource that may not be put in force: what it said before stays in force.

    ``resource``: it, where it can be read; names of another namespace, stored before the rule was, have their reason.
    """
    foreign = list(_foreign_names(resource)) if isinstance(resource, ImageRoute) else []
    refs = Condition(ConditionType.RESOLVED_REFS, Status.UNKNOWN, Reason.INVALID, error, generation)
    if foreign:
        refs = _condition(ConditionType.RESOLVED_REFS, foreign, foreign[0], generation)
    return (
        Condition(ConditionType.ACCEPTED, Status.FALSE, Reason.INVALID, error, generation),
        refs,
        Condition(ConditionType.READY, Status.FALSE, Reason.INVALID, error, generation),
        Condition(ConditionType.STALLED, Status.TRUE, Reason.INVALID, error, generation),
    )


@dataclass(frozen=True, slots=True)
class _View:
    """What one resource is judged against."""

    neighbours: Neighbours
    surroundings: Surroundings

    def is_owner(self, ae: ApplicationEntity) -> bool:
        owner = self.neighbours.owner(ae.title)
        return owner is None or owner.key == ae.key

    def unknown_locations(self, codes: Iterable[str]) -> list[str]:
        known = self.surroundings.locations
        return [] if known is None else [code for code in codes if code not in known]


def _conditions(resource: Resource, view: _View) -> tuple[Condition, ...]:
    accepted, refs, service = _faults(resource, view)
    generation = resource.metadata.generation
    blocking = next((fault for fault in [*accepted, *refs, *service] if fault.blocks), None)
    ready = Fault(*_healthy(resource, view)) if blocking is None else blocking
    conditions = [
        _condition(ConditionType.ACCEPTED, accepted, Fault(Reason.ACCEPTED, "In force."), generation),
        _condition(
            ConditionType.RESOLVED_REFS,
            refs,
            Fault(Reason.RESOLVED_REFS, "All it names is there."),
            generation,
        ),
        Condition(
            ConditionType.READY,
            Status.TRUE if blocking is None else Status.FALSE,
            ready.reason,
            ready.message,
            generation,
        ),
    ]
    error = view.surroundings.errors.get(ref_of(resource))
    if error:
        message = f"{error} (generation {generation} stays in force)"
        conditions.append(Condition(ConditionType.STALLED, Status.TRUE, Reason.INVALID, message, generation))
    progress = _progress(resource, view)
    if progress and not error:
        conditions.append(
            Condition(ConditionType.RECONCILING, Status.TRUE, Reason.ROLLING_OUT, progress, generation)
        )
    return tuple(conditions)


def _progress(resource: Resource, view: _View) -> str | None:
    is_entity = isinstance(resource, ApplicationEntity)
    return view.surroundings.progress.get(resource.key) if is_entity else None


def _condition(type: ConditionType, faults: Sequence[Fault], good: Fault, generation: int) -> Condition:
    if not faults:
        return Condition(type, Status.TRUE, good.reason, good.message, generation)
    message = " ".join(fault.message for fault in faults)
    return Condition(type, Status.FALSE, faults[0].reason, message, generation)


def _healthy(resource: Resource, view: _View) -> tuple[Reason, str]:
    if isinstance(resource, ApplicationEntity) and resource.suspend:
        return Reason.SUSPENDED, "spec.suspend is true: everything of this AE is left as it is."
    if isinstance(resource, ApplicationEntity) and not resource.enabled:
        return Reason.DISABLED, "spec.enabled is false: no listener, nothing is pushed, its queue is kept."
    if isinstance(resource, ImageRoute) and not resource.enabled:
        return Reason.DISABLED, "spec.enabled is false: the route matches nothing."
    if not isinstance(resource, ApplicationEntity):
        return Reason.READY, "Ready."
    remarks = (view.surroundings.remarks.get(resource.key, ""), without_effect(resource))
    return Reason.READY, " ".join(["Ready.", *filter(None, remarks)])


def _faults(resource: Resource, view: _View) -> tuple[list[Fault], list[Fault], list[Fault]]:
    """Return what speaks against Accepted, ResolvedRefs and Ready."""
    if isinstance(resource, ApplicationEntity):
        refs = [
            *_entity_secrets(resource, view),
            *_entity_needs(resource, view),
            *_entity_places(resource, view),
        ]
        return list(_title_faults(resource, view)), refs, list(_service_faults(resource, view))
    if isinstance(resource, ImageRoute):
        refs = [
            *_named_entities(resource, view),
            *_destinations(resource, view),
            *_selected_sources(resource, view),
            *_route_filters(resource, view),
        ]
        return [], refs, []
    return [], [], []


def _title_faults(ae: ApplicationEntity, view: _View) -> Iterable[Fault]:
    owner = view.neighbours.owner(ae.title)
    if owner is not None and owner.key != ae.key:
        yield Fault(
            Reason.TITLE_CONFLICT,
            f"The title {ae.title} belongs to {owner.key} (titles that differ in case only are one): "
            "give this device another title, or delete the other resource.",
        )


def _entity_secrets(ae: ApplicationEntity, view: _View) -> Iterable[Fault]:
    secrets, tls = view.surroundings.secrets, ae.listener.tls
    if secrets is None or tls is None:
        return
    missing = [name for name in (tls.secret_name, tls.ca_secret_name) if name and name not in secrets]
    if missing:
        yield Fault(
            Reason.SECRET_NOT_FOUND,
            f"spec.listener.tls names {_quoted(missing)}, which is not there: the TLS port stays closed "
            "until it is.",
        )


def _entity_needs(ae: ApplicationEntity, view: _View) -> Iterable[Fault]:
    fault = view.surroundings.unresolved.get(ae.key)
    if fault is not None and ae.enabled:
        yield fault


def _entity_places(ae: ApplicationEntity, view: _View) -> Iterable[Fault]:
    if not view.neighbours.has_partition(ae.key.namespace, ae.patient_partition):
        yield Fault(
            Reason.PARTITION_NOT_FOUND,
            f"spec.patientPartition {ae.patient_partition!r} is no PatientPartition of namespace "
            f"{ae.key.namespace}: images are still taken and stamped with it; create it.",
        )
    if ae.location_code is not None and view.unknown_locations([ae.location_code]):
        yield Fault(
            Reason.LOCATION_UNKNOWN,
            f"spec.locationCode {ae.location_code!r} is no known location: images are still taken and "
            "stamped with it; add it to the locations.",
            blocks=False,
        )


def _service_faults(ae: ApplicationEntity, view: _View) -> Iterable[Fault]:
    if not ae.enabled or ae.suspend:
        return
    if ae.ability is Ability.PRINT:
        yield Fault(
            Reason.PRINT_NOT_AVAILABLE,
            "Printing is not there yet: the printer is known and may be named, but nothing is printed on it.",
        )
    elif ae.port == ISCL_PORT:
        yield Fault(
            Reason.ISCL_NOT_SUPPORTED,
            "spec.port 2761 is DICOM over ISCL, which no DICOM toolkit implements: nothing can be pushed "
            "there; use 2762 with push.tls.",
        )
    trouble = view.surroundings.listener_troubles.get(ae.key)
    if trouble is not None:
        yield Fault(Reason.LISTENER_NOT_READY, trouble)


def _names_of(route: ImageRoute) -> Iterable[tuple[str, str]]:
    """Give the AEs that a route names, each with where."""
    for path, names in (("spec.to", route.to), ("spec.from.aes", route.source.aes)):
        for name in names:
            yield path, name


def _foreign_names(route: ImageRoute) -> Iterable[Fault]:
    for path, name in _names_of(route):
        if "/" in name:
            yield Fault(
                Reason.REF_NOT_PERMITTED, f"{path} names {name!r}: references stay within the namespace."
            )


def _named_entities(route: ImageRoute, view: _View) -> Iterable[Fault]:
    namespace = route.key.namespace
    known = view.neighbours.names(namespace)
    yield from _foreign_names(route)
    for path, name in _names_of(route):
        if "/" not in name and name not in known:
            yield Fault(
                Reason.ENTITY_NOT_FOUND,
                f"{path} names {name!r}, no ApplicationEntity of namespace {namespace}"
                f"{_nearest(name, known)}.",
            )


def _destinations(route: ImageRoute, view: _View) -> Iterable[Fault]:
    for name in route.to:
        ae = view.neighbours.entity(ResourceKey(route.key.namespace, name))
        if ae is None:
            continue
        if not view.is_owner(ae):
            yield Fault(Reason.TITLE_CONFLICT, f"spec.to names {name!r}, not accepted: its title is taken.")
        elif ae.ability is Ability.PRINT:
            yield Fault(
                Reason.PRINT_NOT_AVAILABLE,
                f"spec.to names {name!r}, a printer, and printing is not there yet.",
            )


def _selected_sources(route: ImageRoute, view: _View) -> Iterable[Fault]:
    wanted = route.source.match_labels
    if not wanted:
        return
    namespace = route.key.namespace
    selected = view.neighbours.selected(namespace, wanted)
    if not selected:
        labels = ", ".join(f"{name}={value}" for name, value in sorted(wanted.items()))
        yield Fault(
            Reason.NOTHING_SELECTED,
            f"spec.from.selector ({labels}) selects no ApplicationEntity of namespace {namespace}.",
            blocks=False,
        )
    both = {name for name in selected if name in route.to and name in (route.source.aes or selected)}
    if both:
        yield Fault(
            Reason.SOURCE_IS_DESTINATION,
            f"spec.from.selector selects {_quoted(sorted(both))}, which spec.to names too: an AE may not be "
            "both source and destination of a route.",
        )


def _route_filters(route: ImageRoute, view: _View) -> Iterable[Fault]:
    namespace = route.key.namespace
    partitions = [p for p in route.source.partitions if not view.neighbours.has_partition(namespace, p)]
    if partitions:
        yield Fault(
            Reason.PARTITION_NOT_FOUND,
            f"spec.from.partitions names {_quoted(partitions)}, no PatientPartition of {namespace}.",
        )
    for element in route.source.elements:
        if tag_for_keyword(element.keyword) is None:
            yield Fault(
                Reason.KEYWORD_UNKNOWN,
                f"spec.from.elements names {element.keyword!r}, no keyword of PS3.6"
                f"{_nearest(element.keyword, ROUTED_KEYWORDS)}: no image holds it.",
            )
    locations = view.unknown_locations(route.source.locations)
    if locations:
        yield Fault(
            Reason.LOCATION_UNKNOWN,
            f"spec.from.locations names {_quoted(locations)}, no known location: add it to the locations.",
            blocks=False,
        )


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names)


def _nearest(name: str, known: Iterable[str]) -> str:
    close = get_close_matches(name, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


ROUTED_KEYWORDS = (
    "AccessionNumber",
    "BodyPartExamined",
    "DeviceSerialNumber",
    "ImageType",
    "InstitutionName",
    "InstitutionalDepartmentName",
    "Laterality",
    "Manufacturer",
    "ManufacturerModelName",
    "Modality",
    "OperatorsName",
    "PatientID",
    "PatientSex",
    "PerformedStationAETitle",
    "PerformingPhysicianName",
    "PresentationIntentType",
    "ProtocolName",
    "ReferringPhysicianName",
    "RequestedProcedureDescription",
    "SOPClassUID",
    "SeriesDescription",
    "StationName",
    "StudyDescription",
    "StudyID",
    "ViewPosition",
)
"""Keywords that people route on: among them a misspelt one is looked for."""
