"""Trusted documents: operations that an administrator has laid down, asked for by the SHA-256 of their text.

The request names one as the GraphQL-over-HTTP appendix on persisted documents does: ``documentId: "sha256:…"``. With
``only_trusted`` nothing else is run, so a stolen token cannot ask what no page asks. Each file is read again when it
changes; while it cannot be used the documents of before go on.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from aegate_core.errors import AegateError, InvalidInput
from aegate_core.events import DOCUMENTS_READ, DOCUMENTS_REFUSED, Log
from aegate_graphql_api.http_requests import Refusal
from aegate_graphql_api.policy import Policy

log = Log("api")

LOOK_AGAIN_S = 2.0
ENDINGS = (".graphql", ".gql")
MOST = 10_000
MOST_BYTES = 16 * 1024 * 1024


class TrustedDocuments:
    """The documents of a policy, by id."""

    def __init__(self, policy: Policy) -> None:
        self._path = policy.documents
        self._only = policy.only_trusted
        self._by_id: Mapping[str, str] = {}
        self._seen: tuple[object, ...] = ()
        self._looked_at = 0.0

    def load(self) -> None:
        """Read them, or keep those of before when nothing has changed. Raises InvalidInput for what cannot be used."""
        self._looked_at = time.monotonic()
        if self._path is None:
            return
        files = _files(self._path)
        seen = tuple(_looks(file) for file in files)
        if seen == self._seen:
            return
        self._by_id = _read(files)
        self._seen = seen
        log(DOCUMENTS_READ, count=len(self._by_id))

    def text_of(self, operation: Mapping[str, Any]) -> str:
        """Return the document that ``operation`` means. Raises Refusal for one that is unknown or not trusted."""
        self._look_again()
        named = operation.get("documentId")
        if named is not None:
            text = self._by_id.get(named.removeprefix("sha256:"))
            if text is None:
                raise Refusal(
                    400,
                    "DOCUMENT_NOT_FOUND",
                    "no trusted document has this id: check that it is sha256: and 64 digits, and that it is laid down",
                )
            return text
        text = str(operation["query"])
        if self._only and document_id(text) not in self._by_id:
            raise Refusal(
                400,
                "DOCUMENT_NOT_TRUSTED",
                "this server runs trusted documents alone: send the documentId of one, or have yours laid down",
            )
        return text

    def _look_again(self) -> None:
        if self._path is None or time.monotonic() - self._looked_at < LOOK_AGAIN_S:
            return
        try:
            self.load()
        except AegateError as error:
            log(DOCUMENTS_REFUSED, error=error.message)


def document_id(text: str) -> str:
    """Return the id of a document, without ``sha256:``."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def _files(path: Path) -> list[Path]:
    try:
        found = sorted(f for f in path.iterdir() if f.suffix in ENDINGS) if path.is_dir() else [path]
    except OSError as error:
        raise _unusable(path.name, error.strerror or "cannot be read") from error
    if len(found) > MOST:
        raise _unusable(path.name, f"has more than {MOST} documents")
    return found


def _looks(file: Path) -> tuple[object, ...]:
    try:
        status = file.stat()
    except OSError as error:
        raise _unusable(file.name, error.strerror or "cannot be read") from error
    return file, status.st_mtime_ns, status.st_size, status.st_ino


def _read(files: list[Path]) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for file in files:
        try:
            if file.stat().st_size > MOST_BYTES:
                raise _unusable(file.name, f"has more than {MOST_BYTES} bytes")
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise _unusable(file.name, "cannot be read as UTF-8") from error
        if file.suffix in ENDINGS:
            found[document_id(text)] = text
        else:
            found.update(_listed(file.name, text))
    return found


def _listed(name: str, text: str) -> Mapping[str, str]:
    """Return the documents of a JSON object of texts by their SHA-256, as GraphQL code generators write it."""
    try:
        listed = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise _unusable(name, "is not JSON") from error
    if not isinstance(listed, dict) or not all(isinstance(value, str) for value in listed.values()):
        raise _unusable(name, "is not an object of texts by their SHA-256")
    found = {key.removeprefix("sha256:"): str(value) for key, value in listed.items()}
    if wrong := [key for key, value in found.items() if document_id(value) != key]:
        raise _unusable(name, f"has {len(wrong)} documents whose id is not their SHA-256")
    return found


def _unusable(name: str, why: str) -> InvalidInput:
    return InvalidInput(
        f"the trusted documents in {name} cannot be used ({why}): lay down a folder of .graphql files, "
        "or a JSON object of texts by their SHA-256"
    )
