"""Check ObjectMeta as an API server does: the form of name, namespace, labels and annotations, and no other fields."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from aegate_core.resources import names
from aegate_core.resources.problems import Path, Violation, nearest, show

SET_BY_SERVER: Mapping[str, tuple[type, str]] = {
    "uid": (str, "a string"),
    "resourceVersion": (str, "a string"),
    "generation": (int, "an integer"),
    "creationTimestamp": (str, "a string"),
    "deletionTimestamp": (str, "a string"),
    "deletionGracePeriodSeconds": (int, "an integer"),
    "managedFields": (list, "a list"),
    "selfLink": (str, "a string"),
}
"""What an API server writes: let pass, because ``kubectl get -o yaml`` shows it, and not used."""
WRITTEN = frozenset(["name", "namespace", "labels", "annotations", "finalizers", "ownerReferences"])
_OWNER = frozenset(["apiVersion", "kind", "name", "uid", "controller", "blockOwnerDeletion"])
LARGEST_ANNOTATIONS_BYTES = 256 * 1024


def check_metadata(metadata: object) -> Iterator[Violation]:
    """Yield what an API server would refuse in ``metadata``."""
    if not isinstance(metadata, Mapping):
        got = show(metadata)
        yield Violation(("metadata",), "an object with a name", got, "add metadata.name", is_blocking=True)
        return
    for name, value in metadata.items():
        kind, said = SET_BY_SERVER.get(name, (object, ""))
        if name not in WRITTEN | SET_BY_SERVER.keys():
            yield _unknown(str(name))
        elif value is not None and not isinstance(value, kind):
            yield Violation(("metadata", name), said, show(value), "leave it to the server")
    yield from _check_name(
        metadata.get("name"), ("metadata", "name"), (names.dns1123_subdomain, names.SUBDOMAIN)
    )
    if metadata.get("namespace") is not None:
        expected = (names.dns1123_label, names.LABEL)
        yield from _check_name(metadata["namespace"], ("metadata", "namespace"), expected)
    yield from _check_labels(metadata.get("labels"))
    yield from _check_annotations(metadata.get("annotations"))
    yield from _check_finalizers(metadata.get("finalizers"))
    yield from _check_owners(metadata.get("ownerReferences"))


def _unknown(name: str) -> Violation:
    near = nearest(name, WRITTEN)
    advice = f"did you mean {near}?" if near else f"known are {', '.join(sorted(WRITTEN))}"
    if name == "generateName":
        advice = "a resource is known by its name; set metadata.name"
    return Violation(("metadata", name), "a field of ObjectMeta", f"the unknown field {name!r}", advice)


def _check_name(
    value: object, path: Path, form: tuple[Callable[[str], list[str]], str]
) -> Iterator[Violation]:
    check, expected = form
    if value is None:
        yield Violation(path, "a name", "nothing", f"add {path[-1]}: {expected}", is_blocking=True)
    elif not isinstance(value, str):
        yield Violation(path, "a string", show(value), "put it in quotes", is_blocking=True)
    elif check(value):
        yield Violation(path, expected, show(value), "use another name")


def _check_labels(labels: object) -> Iterator[Violation]:
    path: Path = ("metadata", "labels")
    if labels is None:
        return
    if not isinstance(labels, Mapping):
        yield Violation(path, "an object of strings", show(labels))
        return
    for key, value in labels.items():
        yield from _check_key(str(key), path)
        if value is not None and not isinstance(value, str):
            yield Violation((*path, key), "a string", show(value), "put it in quotes")
        elif names.label_value(value or ""):
            yield Violation((*path, key), names.LABEL_VALUE, show(value), "use another value")


def _check_annotations(annotations: object) -> Iterator[Violation]:
    path: Path = ("metadata", "annotations")
    if annotations is None:
        return
    if not isinstance(annotations, Mapping):
        yield Violation(path, "an object of strings", show(annotations))
        return
    size = 0
    for key, value in annotations.items():
        yield from _check_key(str(key).lower(), path)
        if isinstance(value, str):
            size += len(key.encode()) + len(value.encode())
        elif value is not None:
            yield Violation((*path, key), "a string", show(value), "put it in quotes")
    if size > LARGEST_ANNOTATIONS_BYTES:
        yield Violation(
            path, f"at most {LARGEST_ANNOTATIONS_BYTES} bytes of annotations", str(size), "remove some"
        )


def _check_finalizers(finalizers: object) -> Iterator[Violation]:
    path: Path = ("metadata", "finalizers")
    if not isinstance(finalizers, list | None):
        yield Violation(path, "a list of strings", show(finalizers))
        return
    for n, name in enumerate(finalizers or []):
        if not isinstance(name, str):
            yield Violation((*path, n), "a string", show(name), "put it in quotes")
        elif names.qualified_name(name):
            yield Violation((*path, n), names.QUALIFIED, show(name), "use the name that its owner gave it")


def _check_owners(owners: object) -> Iterator[Violation]:
    path: Path = ("metadata", "ownerReferences")
    if not isinstance(owners, list | None):
        yield Violation(path, "a list of objects", show(owners))
        return
    in_control = 0
    for n, owner in enumerate(owners or []):
        known = owner if isinstance(owner, Mapping) else {}
        for member in ("apiVersion", "kind", "name", "uid"):
            if not isinstance(known.get(member), str) or not known[member]:
                got = show(known[member]) if known.get(member) is not None else "nothing"
                yield Violation((*path, n, member), f"the owner's {member}", got, f"add its {member}")
        for member in known.keys() - _OWNER:
            got = f"the unknown field {member!r}"
            yield Violation((*path, n, member), "a field of OwnerReference", got, "remove it")
        in_control += known.get("controller") is True
    if in_control > 1:
        yield Violation(path, "one owner with controller: true", str(in_control), "leave it to one of them")


def _check_key(key: str, path: Path) -> Iterator[Violation]:
    if names.qualified_name(key):
        yield Violation((*path, key), f"{names.QUALIFIED} as key", show(key), "use another key")
