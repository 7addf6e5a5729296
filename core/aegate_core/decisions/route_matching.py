"""Whether an ImageRoute takes images: its parts one by one, each with the words why not.

All parts must match, an absent part matches everything. ``modalities`` and ``elements`` speak of one image: a unit
(study, series) is taken when one image in it meets them all, so that `NotIn` on a mixed study is not a trap. The
words name keywords and what the route asks for, never what the object holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from aegate_core.dicom.elements import has_element, texts
from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.resources.values import ElementMatch, ElementOp, ImageRoute, Level


@dataclass(frozen=True, slots=True)
class Source:
    """What is known of the AE that images came from, and of their study."""

    ae: ResourceKey
    level: Level
    partition: str
    """The partition's name; its namespace is the AE's."""
    labels: Mapping[str, str] = field(default_factory=dict)
    location_code: str | None = None
    document_type: str = ""


@dataclass(frozen=True, slots=True)
class Image:
    """One arrival, as routes see it. ``elements`` has a key for each keyword asked for that is there with a value."""

    arrival_id: str
    series_uid: str
    sop_instance_uid: str = ""
    modality: str = ""
    elements: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    is_new: bool = True
    """No earlier close covered it."""


def asked_keywords(routes: Iterable[ImageRoute]) -> frozenset[str]:
    """Return the keywords that any of ``routes`` looks at: only these need to be read."""
    return frozenset(e.keyword for route in routes if route.enabled for e in route.source.elements)


def image_elements(header: Mapping[str, object], keywords: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return what `Image.elements` holds, out of a header in DICOM JSON."""
    return {k: texts(header, k) for k in keywords if has_element(header, k)}


def why_not_source(route: ImageRoute, source: Source) -> str | None:
    """Return why ``route`` takes nothing from ``source``, or None when it does."""
    if route.key.namespace != source.ae.namespace:
        return f"the route is of namespace {route.key.namespace}, the AE of {source.ae.namespace}"
    if not route.enabled:
        return "the route is not enabled"
    asked = route.source
    if asked.aes and source.ae.name not in asked.aes:
        return f"{source.ae.name} is not among from.aes"
    for name, value in asked.match_labels.items():
        if source.labels.get(name) != value:
            return f"{source.ae.name} has no label {name}={value}"
    if asked.partitions and source.partition not in asked.partitions:
        return f"partition {source.partition} is not among from.partitions"
    if asked.locations and source.location_code not in asked.locations:
        return f"location {source.location_code or '(none)'} is not among from.locations"
    if asked.document_types and source.document_type not in asked.document_types:
        return f"document type {source.document_type or '(none)'} is not among from.documentTypes"
    return None


def why_not_images(route: ImageRoute, images: Sequence[Image]) -> str | None:
    """Return why ``route`` takes none of ``images``, or None when one of them meets all that it asks of an image."""
    candidates = list(images)
    if not candidates:
        return "there is no image"
    modalities = route.source.modalities
    if modalities:
        candidates = [i for i in candidates if i.modality in modalities]
        if not candidates:
            return f"no image is of modality {' or '.join(modalities)}"
    for condition in route.source.elements:
        before = len(candidates)
        candidates = [i for i in candidates if meets(condition, i.elements.get(condition.keyword))]
        if not candidates:
            alone = before == len(images)
            return f"no image {'' if alone else 'that meets the rest '}meets {words(condition)}"
    return None


def words(condition: ElementMatch) -> str:
    """Return a condition as it stands in the route."""
    return " ".join((condition.keyword, condition.op.value, " | ".join(condition.values))).rstrip()


def meets(condition: ElementMatch, found: tuple[str, ...] | None) -> bool:
    """Say whether an element's values (None: absent or empty) meet ``condition``; compared case-folded.

    An absent element meets `NotIn` and `DoesNotExist` alone, as in Kubernetes' selectors.
    """
    if condition.op is ElementOp.EXISTS:
        return found is not None
    if condition.op is ElementOp.DOES_NOT_EXIST:
        return found is None
    have = [text.casefold() for text in found or ()]
    asked = [value.casefold() for value in condition.values]
    if condition.op is ElementOp.NOT_IN:
        return not any(text in asked for text in have)
    compare = _COMPARISONS[condition.op]
    return any(compare(text, value) for text in have for value in asked)


def glob(text: str, pattern: str) -> bool:
    """Say whether ``text`` is like ``pattern``: ``*`` any characters, ``?`` one. At most len(text) × len(pattern)
    steps.

    A regular expression of many ``*`` would take minutes on a hostile description.
    """
    at = place = mark = 0
    star = -1
    while at < len(text):
        sign = pattern[place] if place < len(pattern) else ""
        if sign == "*":
            star, mark = place, at
            place += 1
        elif sign in ("?", text[at]):
            at += 1
            place += 1
        elif star >= 0:
            mark += 1
            at, place = mark, star + 1
        else:
            return False
    return not pattern[place:].strip("*")


_COMPARISONS: Mapping[ElementOp, Callable[[str, str], bool]] = {
    ElementOp.IN: lambda text, value: text == value,
    ElementOp.STARTS_WITH: lambda text, value: text.startswith(value),
    ElementOp.CONTAINS: lambda text, value: value in text,
    ElementOp.MATCHES: glob,
}
