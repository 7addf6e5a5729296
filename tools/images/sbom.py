"""The bill of materials of an image, CycloneDX 1.6: its Debian packages and its Python distributions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import Distribution, distributions
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense, License
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from tools.images.debian import RELEASE, packages

DATED = datetime(1970, 1, 1, tzinfo=UTC)
"""Equal images have equal bills: nothing in one says when it was written."""
_LICENCE = re.compile(r"^License:[ \t]*(\S.*)$", re.MULTILINE)


def bill_of_materials(name: str, version: str, root: Path, sites: list[Path]) -> str:
    """Return the JSON of an image's bill: of its root file system (a tar) and its folders of Python distributions."""
    image = Component(
        name=name, version=version, type=ComponentType.CONTAINER, purl=PackageURL("oci", name=name)
    )
    components = [*_debian(root), *_python(sites)]
    for component in (image, *components):
        component.bom_ref.value = str(component.purl)  # else a random one
    bom = Bom(components=components)
    bom.metadata.component = image
    bom.register_dependency(image, bom.components)
    known = ",".join(sorted(str(c.purl) for c in bom.components))
    bom.serial_number = uuid5(NAMESPACE_URL, f"{name}@{version}:{known}")
    bom.metadata.timestamp = DATED
    return str(JsonV1Dot6(bom).output_as_string(indent=2)) + "\n"


def _debian(root: Path) -> Iterator[Component]:
    for control, copyright in packages(root):
        name, version = control["Package"], control["Version"]
        qualifiers = {"arch": control["Architecture"], "distro": RELEASE}
        yield Component(
            name=name,
            version=version,
            type=ComponentType.LIBRARY,
            description=control["Description"].splitlines()[0],
            licenses=[DisjunctiveLicense(name=found) for found in _licence_names(name, copyright)],
            purl=PackageURL("deb", "debian", name, version, qualifiers),
        )


def _licence_names(package: str, copyright: str) -> list[str]:
    """Return the short names of a machine-readable copyright file (DEP 5), else where to read the other kind."""
    names = sorted(set(_LICENCE.findall(copyright))) if copyright.startswith("Format:") else []
    return names or [f"see /usr/share/doc/{package}/copyright"]


def _python(sites: list[Path]) -> Iterator[Component]:
    found = {d.name: d for d in distributions(path=[str(site) for site in sites])}
    for name, distribution in sorted(found.items()):
        yield Component(
            name=name,
            version=distribution.version,
            type=ComponentType.LIBRARY,
            description=distribution.metadata["Summary"],
            licenses=_licences(distribution),
            purl=PackageURL("pypi", name=name.lower(), version=distribution.version),
        )


def _licences(distribution: Distribution) -> list[License]:
    said = distribution.metadata
    stated = [*said.get_all("License-Expression", []), *said.get_all("License", [])]
    if stated and "\n" not in stated[0]:
        return [LicenseFactory().make_from_string(stated[0])]
    classifiers = [c for c in said.get_all("Classifier", []) if c.startswith("License :: ")]
    return [DisjunctiveLicense(name=c.rpartition(" :: ")[2]) for c in sorted(classifiers)]
