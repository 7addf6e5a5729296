"""Tokens of local mode: a file of SHA-256 digests, read again when it changes. A token is shown once, never kept.

The file is mode 0600; one that others can read is refused, since it tells who may do what. Writers take a lock beside
it and replace it in one step.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from aegate_core.errors import Conflict, InvalidInput, InvalidValue, NotFound
from aegate_graphql_api.permission import GRANTABLE, Permission
from aegate_graphql_api.reach import EVERYWHERE, Reach, reach_of

PREFIX = "aegate_"
VERSION = 1
_LISTS = ("permissions", "partitions", "namespaces")


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """What the file knows of a token."""

    name: str
    sha256: str
    permissions: tuple[str, ...]
    created_at: str
    expires_at: str | None = None
    partitions: tuple[str, ...] | None = None
    namespaces: tuple[str, ...] | None = None
    """How far the permissions reach, as in `reach.py`; a file without them is of a release that did not know them."""

    def is_valid(self, now: datetime) -> bool:
        """Whether it has not expired."""
        return self.expires_at is None or datetime.fromisoformat(self.expires_at) > now


def create_token(
    path: Path,
    name: str,
    permissions: Iterable[Permission | str],
    *,
    expires_at: datetime | None = None,
    reach: Reach = EVERYWHERE,
) -> str:
    """Add a token to the file at ``path`` (made when absent) and return it; it cannot be read again.

    Raises InvalidValue for a name or permission that cannot be, Conflict when the name is taken.
    """
    if not 1 <= len(name) <= 64 or not name.isprintable() or name != name.strip():
        raise InvalidValue(
            f"a token's name must be 1 to 64 printable characters, got {len(name)}: choose another"
        )
    if expires_at is not None and expires_at.tzinfo is None:
        raise InvalidValue("a token's expiry must be a time with time zone, got a naive one: add +00:00")
    token = PREFIX + secrets.token_urlsafe(32)
    record = TokenRecord(
        name=name,
        sha256=digest(token),
        permissions=tuple(p.value for p in _permissions(permissions)),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        expires_at=expires_at.astimezone(UTC).isoformat(timespec="seconds") if expires_at else None,
        partitions=_listed(reach.partitions),
        namespaces=_listed(reach.namespaces),
    )
    with _locked(path):
        records = list_tokens(path)
        if any(r.name == name for r in records):
            raise Conflict(f"there is a token named {name!r}: revoke it first, or choose another name")
        _write(path, [*records, record])
    return token


def list_tokens(path: Path) -> list[TokenRecord]:
    """Return all tokens of the file, none when it is absent.

    Raises InvalidInput for a file that is not a token file, or that others than its owner can read.
    """
    try:
        mode = path.stat().st_mode & 0o777
        text = path.read_text()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeError) as error:
        raise InvalidInput(
            f"the token file {path} cannot be read ({type(error).__name__}): restore it, or delete it and make new ones"
        ) from error
    if mode & 0o077:
        raise InvalidInput(f"the token file must have mode 0600, got {mode:04o}: chmod 600 {path}")
    try:
        document = json.loads(text)
        if document["version"] != VERSION:
            raise InvalidInput(
                f"the token file must be of version {VERSION}, got another: make the tokens again"
            )
        return [_record(entry) for entry in document["tokens"]]
    except (ValueError, KeyError, TypeError, AttributeError, InvalidValue) as error:
        raise InvalidInput(
            f"the token file {path} cannot be read: restore it, or delete it and make new tokens"
        ) from error


def revoke_token(path: Path, name: str) -> None:
    """Take the token ``name`` out of the file; running servers refuse it at once. Raises NotFound."""
    with _locked(path):
        records = list_tokens(path)
        left = [r for r in records if r.name != name]
        if len(left) == len(records):
            raise NotFound(f"there is no token named {name!r}: `aegate token list` shows them")
        _write(path, left)


def digest(token: str) -> str:
    """Return what the file keeps of a token: SHA-256 suffices, its 256 random bits cannot be guessed."""
    return hashlib.sha256(token.encode()).hexdigest()


def _permissions(wanted: Iterable[Permission | str]) -> list[Permission]:
    known = {p.value: p for p in GRANTABLE}
    found = []
    for one in wanted:
        if str(one) not in known:
            raise InvalidValue(
                f"permission must be one of {', '.join(known)}, got another: check the spelling"
            )
        found.append(known[str(one)])
    return sorted(set(found))


def _listed(names: frozenset[str] | None) -> tuple[str, ...] | None:
    return None if names is None else tuple(sorted(names))


def _record(entry: dict[str, object]) -> TokenRecord:
    lists = {name: tuple(cast("list[str]", entry[name])) for name in _LISTS if entry.get(name) is not None}
    record = TokenRecord(**{**entry, **lists})  # type: ignore[arg-type] # JSON; a wrong key raises TypeError
    reach_of(record.partitions, record.namespaces)
    if record.expires_at is not None and datetime.fromisoformat(record.expires_at).tzinfo is None:
        raise ValueError("naive expiry")
    if not isinstance(record.name, str) or not set(record.permissions) <= set(GRANTABLE):
        raise ValueError("another form")
    return record


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(path.with_name(path.name + ".lock"), os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _entry(record: TokenRecord) -> dict[str, object]:
    """Return it without limits that it has not: the release before reads no others, and lets nobody in by them."""
    unlimited = {name for name in ("partitions", "namespaces") if getattr(record, name) is None}
    return {name: value for name, value in asdict(record).items() if name not in unlimited}


def _write(path: Path, records: list[TokenRecord]) -> None:
    part = path.with_name(path.name + ".part")
    descriptor = os.open(part, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump({"version": VERSION, "tokens": [_entry(r) for r in records]}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)  # else a power loss would bring a revoked token back to life
    finally:
        os.close(folder)
