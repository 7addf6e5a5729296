"""From paths to resources: everything an API server would check of one object, and what only files can get
wrong.

Old versions of resources may be given: then transition rules hold, such as "title is immutable".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.errors import InvalidResource
from aegate_core.resources.crds import CRD, load_crds
from aegate_core.resources.manifest_of import to_manifest
from aegate_core.resources.manifests import Manifest, Reading, read_manifests
from aegate_core.resources.object_meta import check_metadata
from aegate_core.resources.parse import parse_resource
from aegate_core.resources.problems import Problem, Violation, nearest, show
from aegate_core.resources.reference import ResourceRef, ref_of
from aegate_core.resources.rules import check_rules
from aegate_core.resources.schema import check, with_defaults
from aegate_core.resources.values import Resource
from aegate_core.resources.yaml_tree import members

DEFAULT_NAMESPACE = "default"


@dataclass(frozen=True, slots=True)
class ValidationResult:
    """What is wrong, and the resources that are right; a wrong one is not among them."""

    problems: tuple[Problem, ...] = ()
    unreadable: tuple[Problem, ...] = ()
    """Paths that could not be read at all."""
    resources: tuple[Resource, ...] = ()
    files: tuple[str, ...] = ()
    broken_files: frozenset[str] = field(default_factory=frozenset)
    """Files that could not be parsed: nobody knows which resources they hold now."""

    @property
    def is_valid(self) -> bool:
        """Whether everything could be read and nothing is wrong."""
        return not self.problems and not self.unreadable

    def source_errors(self, in_force: Iterable[Resource]) -> dict[ResourceRef, str]:
        """Return which resources in force keep their last good version, and why (`apply_configuration` takes
        it).

        Those that are wrong now. And, while anything cannot be read, parsed or told whose it is, all that are missing:
        nobody knows whether they stand there.


        """
        right = {ref_of(resource) for resource in self.resources}
        problems = [*self.unreadable, *self.problems]
        errors = {
            p.resource: str(p)
            for p in reversed(problems)
            if p.resource is not None and p.resource not in right
        }
        nobodys = next((problem for problem in problems if problem.resource is None), None)
        if nobodys is not None:
            missing = (ref_of(resource) for resource in in_force)
            errors |= {ref: str(nobodys) for ref in missing if ref not in right and ref not in errors}
        return errors


def validate_manifests(
    paths: Sequence[str],
    *,
    old: Iterable[Resource] = (),
    crds: Mapping[str, CRD] | None = None,
    stdin: Callable[[int], bytes] | None = None,
) -> ValidationResult:
    """Check all manifests below ``paths`` and return the resources that are right.

    ``old``: versions in force, for transition rules. ``crds``: `load_crds()` where not given.
    """
    reading = read_manifests(paths, stdin=stdin)
    return validate_reading(reading, old=old, crds=crds or load_crds())


def validate_reading(
    reading: Reading, *, old: Iterable[Resource], crds: Mapping[str, CRD]
) -> ValidationResult:
    """Check what was read."""
    older = {ref_of(resource): to_manifest(resource) for resource in old}
    problems = list(reading.problems)
    first: dict[ResourceRef, Manifest] = {}
    resources: list[Resource] = []
    for manifest in reading.manifests:
        found, ref = _check_manifest(manifest, older, crds)
        if ref is not None and ref in first:
            where = f"{first[ref].file}:{first[ref].place.line}"
            got = f"{ref} again (first in {where})"
            again = Violation(("metadata", "name"), "every resource once", got, "remove one")
            found.append(manifest.problem(again, resource=ref))
        if ref is not None:
            first.setdefault(ref, manifest)
        if found or ref is None:
            problems.extend(found)
        else:
            resources.extend(_parse(manifest, crds[ref.kind], problems))
    if not (resources or problems or reading.unreadable):
        for file in reading.files[:1]:
            problems.append(
                Problem(file, 0, 0, "", "at least one resource", "none", "write a manifest into it")
            )
    return ValidationResult(
        tuple(problems),
        tuple(reading.unreadable),
        tuple(resources),
        tuple(reading.files),
        frozenset(reading.broken),
    )


def _check_manifest(
    manifest: Manifest, older: Mapping[ResourceRef, Mapping[str, object]], crds: Mapping[str, CRD]
) -> tuple[list[Problem], ResourceRef | None]:
    """Return what is wrong with one manifest, and whose it is as far as that can be told."""
    kind = _kind(manifest.value, crds)
    if isinstance(kind, Violation):
        return [*_faults(manifest, None), manifest.problem(kind)], None
    value = members(manifest.value)
    ref = _reference(kind, members(value.get("metadata")))
    problems = _faults(manifest, ref)
    if not problems:
        old = older.get(ref) if ref else None
        problems = [
            manifest.problem(violation, resource=ref) for violation in _check_object(value, crds[kind], old)
        ]
    return problems, ref


def _faults(manifest: Manifest, ref: ResourceRef | None) -> list[Problem]:
    """Return what YAML had against the document; in a List, for its first item alone."""
    if manifest.root not in ((), ("items", 0)):
        return []
    return [
        manifest.problem(violation, resource=ref, at=place) for violation, place in manifest.document.faults
    ]


def _kind(value: object, crds: Mapping[str, CRD]) -> str | Violation:
    """Return the kind, or why it is none of ours."""
    if not isinstance(value, Mapping):
        return Violation(
            (), "an object with apiVersion, kind, metadata and spec", show(value), "write a manifest"
        )
    kind, known = value.get("kind"), ", ".join(crds)
    if not isinstance(kind, str):
        return Violation(
            ("kind",), f"one of {known}", "nothing" if kind is None else show(kind), "add the kind"
        )
    if kind not in crds:
        near = nearest(kind, crds)
        advice = f"did you mean {near}?" if near else "keep other resources in another folder"
        return Violation(("kind",), f"one of {known}", show(kind), advice)
    expected = crds[kind].api_version
    if value.get("apiVersion") != expected:
        got = show(value["apiVersion"]) if value.get("apiVersion") is not None else "nothing"
        return Violation(("apiVersion",), expected, got, f"write apiVersion: {expected}")
    return kind


def _reference(kind: str, metadata: Mapping[str, object]) -> ResourceRef | None:
    """Return whose manifest it is, when its metadata says so in any form."""
    name, namespace = metadata.get("name"), metadata.get("namespace")
    if not isinstance(name, str) or not name or not isinstance(namespace, str | None):
        return None
    return ResourceRef(kind, ResourceKey(namespace or DEFAULT_NAMESPACE, name))


def _check_object(value: Mapping[str, object], crd: CRD, old: Mapping[str, object] | None) -> list[Violation]:
    """Return what an API server would refuse; the rules are asked only about what the schema accepts."""
    wished = members(with_defaults(_without_status(value), crd.schema))
    violations = [*check_metadata(value.get("metadata")), *check(wished, crd.schema, ())]
    return violations or list(check_rules(wished, old, crd.schema))


def _without_status(value: Mapping[str, object]) -> dict[str, object]:
    """Leave out ``status``: an API server ignores it in what people apply."""
    return {name: member for name, member in value.items() if name != "status"}


def _parse(manifest: Manifest, crd: CRD, problems: list[Problem]) -> Iterable[Resource]:
    """Return the resource, without what only a server may set; a problem more where it cannot be had."""
    filled = members(with_defaults(_without_status(members(manifest.value)), crd.schema))
    metadata = members(filled["metadata"])
    own = {name: metadata[name] for name in ("name", "namespace", "labels") if metadata.get(name) is not None}
    try:
        return [parse_resource({**filled, "metadata": own}, source=f"{manifest.file}:{manifest.place.line}")]
    except InvalidResource as error:
        violation = Violation((), "a value that aegate can use", error.message, "change it")
        problems.append(manifest.problem(violation, resource=_reference(crd.kind, metadata)))
        return []
