"""OCI image archives, written and read without a builder or a registry: a tar of JSON files and of layers, which are
tars.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LAYER = "application/vnd.oci.image.layer.v1.tar"
CONFIG = "application/vnd.oci.image.config.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
NAME = "io.containerd.image.name"
"""The annotation by which containerd names what it imports."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file, folder or symbolic link of a layer: owned by root, dated 1970, so equal content is equal bytes."""

    path: str
    source: Path | bytes
    mode: int = 0o644

    def add_to(self, archive: tarfile.TarFile) -> None:
        """Write it."""
        info = tarfile.TarInfo(self.path.lstrip("/"))
        info.mode = self.mode
        if isinstance(self.source, bytes):
            info.size = len(self.source)
            archive.addfile(info, io.BytesIO(self.source))
        elif self.source.is_symlink():
            info.type, info.linkname = tarfile.SYMTYPE, str(self.source.readlink())
            archive.addfile(info)
        elif self.source.is_dir():
            info.type = tarfile.DIRTYPE
            archive.addfile(info)
        else:
            info.size = self.source.stat().st_size
            with self.source.open("rb") as file:
                archive.addfile(info, file)


def layer(entries: Iterable[Entry]) -> bytes:
    """Return a layer."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for entry in sorted(entries, key=lambda e: e.path):
            entry.add_to(archive)
    return buffer.getvalue()


def folder_entries(destination: str, folder: Path) -> list[Entry]:
    """Return everything below ``folder`` but byte code."""
    return [
        Entry(
            f"{destination}/{p.relative_to(folder)}",
            p,
            0o755 if p.is_dir() or os.access(p, os.X_OK) else 0o644,
        )
        for p in sorted(folder.rglob("*"))
        if "__pycache__" not in p.parts
    ]


def write_image(
    target: Path, name: str, layers: Sequence[bytes], config: Mapping[str, Any], *, base: Path | None = None
) -> None:
    """Write an archive of one image: ``layers`` over those of ``base``; ``config`` as docker's (Env, Cmd, User)."""
    blobs, inherited = _blobs_of(base) if base else ({}, {"layers": [], "diff_ids": []})
    blobs |= {_digest(content): content for content in layers}

    def put(kind: str, content: bytes) -> dict[str, Any]:
        blobs[_digest(content)] = content
        return {"mediaType": kind, "digest": _digest(content), "size": len(content)}

    rootfs = {"type": "layers", "diff_ids": [*inherited["diff_ids"], *map(_digest, layers)]}
    values = {"architecture": "amd64", "os": "linux", "config": dict(config), "rootfs": rootfs}
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": put(CONFIG, _json(values)),
        "layers": [*inherited["layers"], *(put(LAYER, content) for content in layers)],
    }
    described = put(MANIFEST, _json(manifest)) | {"annotations": {NAME: name}}
    entries = [Entry(f"blobs/{d.replace(':', '/')}", content) for d, content in blobs.items()]
    entries.append(Entry("oci-layout", _json({"imageLayoutVersion": "1.0.0"})))
    entries.append(Entry("index.json", _json({"schemaVersion": 2, "manifests": [described]})))
    unfinished = target.with_suffix(".part")
    unfinished.write_bytes(layer(entries))
    unfinished.rename(target)


def image_name(archive: Path) -> str:
    """Return the name that an archive's image gets when it is imported."""
    with tarfile.open(archive) as opened:
        return str(_read_json(opened, "index.json")["manifests"][0]["annotations"][NAME])


def _blobs_of(archive: Path) -> tuple[dict[str, bytes], dict[str, list[Any]]]:
    with tarfile.open(archive) as opened:
        described = _read_json(opened, "index.json")["manifests"][0]
        manifest = _read_json(opened, _blob(described["digest"]))
        config = _read_json(opened, _blob(manifest["config"]["digest"]))
        blobs = {d["digest"]: _read(opened, _blob(d["digest"])) for d in manifest["layers"]}
    return blobs, {"layers": manifest["layers"], "diff_ids": config["rootfs"]["diff_ids"]}


def _read(archive: tarfile.TarFile, path: str) -> bytes:
    file = archive.extractfile(path)
    if file is None:
        raise AssertionError(f"{path} must be a file of the archive {archive.name!r}")
    return file.read()


def _read_json(archive: tarfile.TarFile, path: str) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(_read(archive, path))
    return values


def _blob(identity: str) -> str:
    return f"blobs/{identity.replace(':', '/')}"


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _json(values: object) -> bytes:
    return json.dumps(values, sort_keys=True).encode()
