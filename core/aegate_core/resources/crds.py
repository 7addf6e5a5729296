"""Find and load the CRDs: the one source of what a manifest may say, for an API server and for us.

They lie in ``crds/`` of the repository. The folder ``crds`` of this package holds links to them, whose place the
files themselves take in a wheel.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

import aegate_core
from aegate_core.errors import InvalidResource, NotFound
from aegate_core.resources.fields import Fields
from aegate_core.resources.rules import compile_all
from aegate_core.resources.schema import CHECKED_KEYWORDS, IGNORED_KEYWORDS, Schema, items_of, properties


@dataclass(frozen=True, slots=True)
class CRD:
    """One kind in one version, with the schema that rules it."""

    kind: str
    group: str
    version: str
    schema: Schema
    file: Path
    is_cluster_scoped: bool = False

    @property
    def api_version(self) -> str:
        """group/version, as a manifest names it."""
        return f"{self.group}/{self.version}"


def crds_folder() -> Path:
    """Return the folder of the CRDs."""
    return Path(aegate_core.__file__).parent / "crds"


def load_crds(folder: Path | None = None) -> dict[str, CRD]:
    """Return the CRDs by kind, with all their CEL rules compiled.

    Raises NotFound when there are none, InvalidResource for one that cannot be enforced here in full.
    """
    return _load_folder(folder) if folder else dict(_shipped())


@cache
def _shipped() -> Mapping[str, CRD]:
    return _load_folder(crds_folder())


def _load_folder(place: Path) -> dict[str, CRD]:
    found = {crd.kind: crd for file in sorted(place.glob("*.yaml")) for crd in _load(file)}
    if not found:
        raise NotFound(f"{place} must hold CustomResourceDefinitions (*.yaml), got none: give another folder")
    for crd in found.values():
        _refuse_unknown_keywords(crd.schema, f"{crd.file}: {crd.kind}")
        try:
            compile_all(crd.schema)
        except InvalidResource as error:
            raise InvalidResource(f"{crd.file}: {error.message}") from error
    return found


def _load(file: Path) -> Iterator[CRD]:
    try:
        documents = list(YAML(typ="safe", pure=True).load_all(file.read_text("utf-8")))
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise InvalidResource(
            f"{file} must be a CRD in YAML, got {type(error).__name__}: mend the file"
        ) from error
    for document in documents:
        if isinstance(document, Mapping) and document.get("kind") == "CustomResourceDefinition":
            yield _crd(document, file)


def _crd(document: Mapping[str, object], file: Path) -> CRD:
    spec = Fields(document.get("spec"), f"{file}: spec")
    versions = [Fields(version, f"{file}: spec.versions") for version in spec.items("versions")]
    served = next((version for version in versions if version.flag("served", False)), None)
    if served is None:
        raise InvalidResource(
            f"{file}: spec.versions must hold a served version, got none", field="spec.versions"
        )
    return CRD(
        kind=spec.child("names").required_text("kind"),
        group=spec.required_text("group"),
        version=served.required_text("name"),
        schema=served.child("schema").raw("openAPIV3Schema"),
        file=file,
        is_cluster_scoped=spec.required_text("scope") == "Cluster",
    )


def _refuse_unknown_keywords(schema: Schema, where: str) -> None:
    unknown = sorted(schema.keys() - CHECKED_KEYWORDS - IGNORED_KEYWORDS)
    if unknown:
        raise InvalidResource(
            f"{where} uses {', '.join(unknown)}, which cannot be checked without an API server"
        )
    additional = schema.get("additionalProperties")
    below = [*properties(schema).items(), ("[]", items_of(schema)), ("{}", additional)]
    for name, child in below:
        if isinstance(child, Mapping) and child:
            _refuse_unknown_keywords(child, f"{where}.{name}")
