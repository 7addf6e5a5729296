"""From paths to resources: everything an API server would check of one object, and what only files can get
wrong.

Old versions may be given: then transition rules hold, such as "title is immutable", and what did not change is let
pass though a rule of today refuses it, as an API server does.
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
from aegate_core.resources.schema import check, unknown_fields, with_defaults, without_unknown
from aegate_core.resources.values import Resource
from aegate_core.resources.yaml_tree import members

DEFAULT_NAMESPACE = "default"

OldVersions = Mapping[ResourceRef, Mapping[str, object]]
"""The manifests in force, to compare with."""


@dataclass(frozen=True, slots=True)
class Policy:
    """An AEPolicy that is right. Only an API server acts on it, so that it stands in a list of its own."""

    ref: ResourceRef
    source: str


@dataclass(frozen=True, slots=True)
class ValidationResult:
    """What is wrong, and the resources that are right; a wrong one is not among them."""

    problems: tuple[Problem, ...] = ()
    unreadable: tuple[Problem, ...] = ()
    """Paths that could not be read at all."""
    resources: tuple[Resource, ...] = ()
    policies: tuple[Policy, ...] = ()
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


def versions_of(resources: Iterable[Resource]) -> OldVersions:
    """Return the manifests of ``resources``."""
    return {ref_of(resource): to_manifest(resource) for resource in resources}


def old_versions(reading: Reading, crds: Mapping[str, CRD]) -> tuple[OldVersions, list[Problem]]:
    """Return what was read as versions in force, and what cannot be one.

    Rules are not asked: what was stored before a rule existed is still in force.
    """
    problems, found = list(reading.problems), {}
    for manifest in reading.manifests:
        kind = _kind(manifest.value, crds)
        if isinstance(kind, Violation):
            problems.append(manifest.problem(kind))
            continue
        value = members(manifest.value)
        ref = _reference(crds[kind], members(value.get("metadata")))
        problems.extend(_faults(manifest, ref))
        if ref is None:
            nameless = Violation(("metadata", "name"), "a name", "nothing", "add the name")
            problems.append(manifest.problem(nameless))
        else:
            found[ref] = value
    return found, problems


def validate_manifests(
    paths: Sequence[str],
    *,
    old: OldVersions | None = None,
    crds: Mapping[str, CRD] | None = None,
    stdin: Callable[[int], bytes] | None = None,
) -> ValidationResult:
    """Check all manifests below ``paths`` and return the resources that are right.

    ``old``: versions in force, for transition rules. ``crds``: `load_crds()` where not given.
    """
    reading = read_manifests(paths, stdin=stdin)
    return validate_reading(reading, old=old or {}, crds=crds or load_crds())


def validate_reading(reading: Reading, *, old: OldVersions, crds: Mapping[str, CRD]) -> ValidationResult:
    """Check what was read."""
    problems = list(reading.problems)
    first: dict[ResourceRef, Manifest] = {}
    resources: list[Resource] = []
    policies: list[Policy] = []
    for manifest in reading.manifests:
        found, ref = _check_manifest(manifest, old, crds)
        if ref is not None and ref in first:
            where = f"{first[ref].file}:{first[ref].place.line}"
            got = f"{ref} again (first in {where})"
            again = Violation(("metadata", "name"), "every resource once", got, "remove one")
            found.append(manifest.problem(again, resource=ref))
        if ref is not None:
            first.setdefault(ref, manifest)
        if found or ref is None:
            problems.extend(found)
        elif crds[ref.kind].is_cluster_scoped:
            policies.append(Policy(ref, f"{manifest.file}:{manifest.place.line}"))
        else:
            resources.extend(_parse(manifest, crds[ref.kind], problems))
    if not (resources or policies or problems or reading.unreadable):
        for file in reading.files[:1]:
            problems.append(
                Problem(file, 0, 0, "", "at least one resource", "none", "write a manifest into it")
            )
    return ValidationResult(
        tuple(problems),
        tuple(reading.unreadable),
        tuple(resources),
        tuple(policies),
        tuple(reading.files),
        frozenset(reading.broken),
    )


def manifest_ref(manifest: Manifest) -> ResourceRef | None:
    """Return whose manifest it is, as far as that can be told."""
    crds = load_crds()
    kind = _kind(manifest.value, crds)
    return (
        None
        if isinstance(kind, Violation)
        else _reference(crds[kind], members(members(manifest.value).get("metadata")))
    )


def _check_manifest(
    manifest: Manifest, old: OldVersions, crds: Mapping[str, CRD]
) -> tuple[list[Problem], ResourceRef | None]:
    """Return what is wrong with one manifest, and whose it is as far as that can be told."""
    kind = _kind(manifest.value, crds)
    if isinstance(kind, Violation):
        return [*_faults(manifest, None), manifest.problem(kind)], None
    value = members(manifest.value)
    ref = _reference(crds[kind], members(value.get("metadata")))
    problems = _faults(manifest, ref)
    if not problems:
        before = old.get(ref) if ref else None
        violations = _check_object(value, crds[kind], before)
        problems = [manifest.problem(violation, resource=ref) for violation in violations]
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


def _reference(crd: CRD, metadata: Mapping[str, object]) -> ResourceRef | None:
    """Return whose manifest it is, when its metadata says so in any form."""
    name, namespace = metadata.get("name"), metadata.get("namespace")
    if not isinstance(name, str) or not name or not isinstance(namespace, str | None):
        return None
    here = "" if crd.is_cluster_scoped else namespace or DEFAULT_NAMESPACE
    return ResourceRef(crd.kind, ResourceKey(here, name))


def _check_object(value: Mapping[str, object], crd: CRD, old: Mapping[str, object] | None) -> list[Violation]:
    """Return what an API server would refuse; the rules are asked only about what has the form of the schema."""
    written = _without_status(value)
    wished = members(with_defaults(written, crd.schema))
    stored = without_unknown(with_defaults(_without_status(old), crd.schema), crd.schema) if old else None
    violations = [
        *check_metadata(value.get("metadata")),
        *check(wished, crd.schema, (), stored),
        *unknown_fields(value, crd.schema),
    ]
    if not any(violation.is_blocking for violation in violations):
        violations += check_rules(wished, stored, crd.schema)
    return violations


def _without_status(value: Mapping[str, object]) -> dict[str, object]:
    """Leave out ``status``: an API server ignores it in what people apply, but for members it does not know."""
    return {name: member for name, member in value.items() if name != "status"}


def _parse(manifest: Manifest, crd: CRD, problems: list[Problem]) -> Iterable[Resource]:
    """Return the resource, without what only a server may set; a problem more where it cannot be had."""
    filled = members(with_defaults(_without_status(members(manifest.value)), crd.schema))
    metadata = members(filled["metadata"])
    own = {name: metadata[name] for name in ("name", "namespace") if metadata.get(name) is not None}
    own["labels"] = {key: value or "" for key, value in members(metadata.get("labels")).items()}
    try:
        return [parse_resource({**filled, "metadata": own}, source=f"{manifest.file}:{manifest.place.line}")]
    except InvalidResource as error:
        violation = Violation((), "a value that aegate can use", error.message, "change it")
        problems.append(manifest.problem(violation, resource=_reference(crd, metadata)))
        return []
