"""A pod's volumes as folders of this machine, ConfigMaps and Secrets kept up to date in them.

Files are exchanged as kubelet does it: all of a volume at once, by renaming the link ``..data``, so whoever
watches files sees what it would see on a cluster.
"""

from __future__ import annotations

import base64
import itertools
import os
import shutil
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster.lab.local_node.specs import Manifest, NotYet, Sources, field_value, localized

DATA = "..data"
_numbers = itertools.count(1)

Files = dict[str, bytes]


@dataclass(frozen=True, slots=True)
class Outside:
    """What volumes need that lies in no ConfigMap or Secret."""

    claim_folder: Callable[[str], Awaitable[Path]]
    """Where the volume bound to a claim of the pod's namespace lies."""
    token: Callable[[Manifest], Awaitable[str]]
    """A token of the pod's service account, as a projected source wants it."""


def decoded(secret: Manifest) -> dict[str, str]:
    """Return a Secret's data as text; bytes that are none survive by surrogates."""
    data = secret.get("data") or {}
    return {k: base64.b64decode(v).decode("utf-8", "surrogateescape") for k, v in data.items()}


class Volumes:
    """The volumes of one pod."""

    def __init__(self, folder: Path, sources: Sources, outside: Outside) -> None:
        self._folder = folder
        self._sources = sources
        self._outside = outside
        self._places: dict[str, Path] = {}
        self._tokens: dict[str, bytes] = {}

    @property
    def _spec(self) -> Manifest:
        spec: Manifest = self._sources.pod["spec"]
        return spec

    async def prepare(self) -> None:
        """Make all folders and write what goes into them. Raises NotYet; may be repeated."""
        places = {}
        for volume in self._spec.get("volumes", []):
            places[volume["name"]] = await self._place(volume)
            await self._ask_for_tokens(volume)
        self._places = places  # all at once: a ConfigMap may change while this waits
        self.refresh()

    def mounts(self, container: Manifest) -> dict[str, Path]:
        """Return mount paths of a container, and the folders (or files, by subPath) that they are here."""
        return {
            mount["mountPath"].rstrip("/") or "/": self._places[mount["name"]] / mount.get("subPath", "")
            for mount in container.get("volumeMounts", [])
        }

    def refresh(self) -> None:
        """Write ConfigMaps, Secrets and fields again where they have changed. Raises NotYet when one is missing."""
        for volume in self._spec.get("volumes", []) if self._places else []:
            if (files := self._files(volume)) is not None:
                _exchange(self._places[volume["name"]], files)

    async def _place(self, volume: Manifest) -> Path:
        if claim := volume.get("persistentVolumeClaim"):
            return await self._outside.claim_folder(claim["claimName"])
        path = Path(volume["hostPath"]["path"]) if "hostPath" in volume else self._folder / volume["name"]
        path.mkdir(parents=True, exist_ok=True)
        return path

    async def _ask_for_tokens(self, volume: Manifest) -> None:
        for source in volume.get("projected", {}).get("sources", []):
            if wanted := source.get("serviceAccountToken"):
                name = f"{volume['name']}/{wanted['path']}"
                self._tokens[name] = (await self._outside.token(wanted)).encode()

    def _files(self, volume: Manifest) -> Files | None:
        """None: a volume whose files are not ours."""
        if "projected" in volume:
            found: Files = {}
            for source in volume["projected"]["sources"]:
                found |= self._source(source, volume["name"])
            return found
        if any(kind in volume for kind in ("configMap", "secret", "downwardAPI")):
            return self._source(volume, volume["name"])
        return None

    def _source(self, source: Manifest, volume: str) -> Files:
        if reference := source.get("configMap"):
            texts = self._selected(self._sources.config_map(reference["name"]), reference, reference["name"])
            return {k: localized(v, self._all_mounts()).encode() for k, v in texts.items()}
        if reference := source.get("secret"):
            name = reference.get("secretName") or reference["name"]
            texts = self._selected(self._sources.secret(name), reference, name)
            return {k: v.encode("utf-8", "surrogateescape") for k, v in texts.items()}
        if fields := source.get("downwardAPI"):
            pod = self._sources.pod
            return {i["path"]: field_value(pod, i["fieldRef"]["fieldPath"]).encode() for i in fields["items"]}
        path = source["serviceAccountToken"]["path"]
        return {path: self._tokens[f"{volume}/{path}"]}

    @staticmethod
    def _selected(data: Mapping[str, str] | None, reference: Manifest, name: str) -> dict[str, str]:
        if data is None:
            if reference.get("optional"):
                return {}
            raise NotYet("ContainerCreating", f'MountVolume.SetUp failed: "{name}" not found')
        if items := reference.get("items"):
            missing = [i["key"] for i in items if i["key"] not in data]
            if missing and not reference.get("optional"):
                raise NotYet("ContainerCreating", f"references non-existent key of {name}: {missing[0]}")
            return {i["path"]: data[i["key"]] for i in items if i["key"] in data}
        return dict(data)

    def _all_mounts(self) -> dict[str, Path]:
        containers: list[Any] = [*self._spec.get("initContainers", []), *self._spec["containers"]]
        return {path: place for c in containers for path, place in self.mounts(c).items()}


def _exchange(folder: Path, files: Files) -> None:
    current = folder / DATA
    if current.exists() and {p.name: p.read_bytes() for p in current.iterdir()} == files:
        return
    before = current.resolve() if current.exists() else None
    new = folder / f"..{os.getpid()}-{next(_numbers)}"
    new.mkdir()
    for name, content in files.items():
        (new / name).write_bytes(content)
    link = folder / "..data_tmp"
    link.symlink_to(new.name)
    link.rename(current)
    for name in files:
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(Path(DATA) / name)
    for entry in folder.iterdir():
        if entry.is_symlink() and entry.name not in files and entry.name != DATA:
            entry.unlink()
    if before:
        shutil.rmtree(before)
