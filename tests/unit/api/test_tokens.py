"""Tests of tokens."""

from __future__ import annotations

import json
import multiprocessing
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from aegate_core.errors import Conflict, InvalidInput, InvalidValue, NotFound
from aegate_graphql_api.authentication import LocalTokens, refuse_exposure
from aegate_graphql_api.permission import Permission
from aegate_graphql_api.reach import reach_of
from aegate_graphql_api.settings import settings_from
from aegate_graphql_api.tokens import create_token, list_tokens, revoke_token


def test_the_file_keeps_digests_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "run" / "tokens.json"
    token = create_token(path, "alice", [Permission.DICOM_QUEUE])
    assert path.stat().st_mode & 0o777 == 0o600
    assert token not in path.read_text()
    assert token.startswith("aegate_")
    (record,) = list_tokens(path)
    assert (record.name, record.permissions, record.expires_at) == ("alice", ("DICOM_QUEUE",), None)


async def test_changes_take_effect_with_the_next_request(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    local = LocalTokens(path)
    assert await local.authenticate("aegate_x", address="127.0.0.1") is None
    token = create_token(path, "alice", ["AE_EDITOR"])
    caller = await local.authenticate(token, address="127.0.0.1")
    assert caller is not None
    assert (caller.name, caller.address) == ("alice", "127.0.0.1")
    assert caller.permissions == {Permission.TOKEN, Permission.AE_EDITOR}
    revoke_token(path, "alice")
    assert await local.authenticate(token, address="127.0.0.1") is None


async def test_a_token_may_be_of_some_partitions_and_namespaces(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    reach = reach_of(["b/main", "a/main"], [])
    token = create_token(path, "alice", ["DICOM_QUEUE"], reach=reach)
    everywhere = create_token(path, "bob", ["DICOM_QUEUE"])
    local = LocalTokens(path)
    alice, bob = [await local.authenticate(t, address="") for t in (token, everywhere)]
    assert alice is not None
    assert bob is not None
    assert (alice.partitions, alice.namespaces) == (frozenset({"a/main", "b/main"}), frozenset())
    assert (bob.partitions, bob.namespaces) == (None, None)
    first, second = json.loads(path.read_text())["tokens"]
    assert (first["partitions"], first["namespaces"]) == (["a/main", "b/main"], [])
    assert {"partitions", "namespaces"} & set(second) == set()


@pytest.mark.parametrize("partition", ["", "default", "a/", "/b", "a/b/c", "A/b", "a/b c", "*/x"])
def test_a_partition_or_namespace_that_cannot_be_is_refused(partition: str) -> None:
    with pytest.raises(InvalidValue):
        reach_of([partition], None)
    with pytest.raises(InvalidValue):
        reach_of(None, [f"{partition}/"])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b'{"version": 1, "tokens": [{"name": "a", "sha256": "b", "permissions": [], "created_at": "c", '
        b'"partitions": [1]}]}',
        b'{"version": 1, "tokens": [{"name": "a", "sha256": "b", "permissions": [], "created_at": "c", '
        b'"partitions": "a/b"}]}',
        b'{"version": 1, "tokens": [{"name": "a", "sha256": "b", "permissions": [], "created_at": "c", '
        b'"namespaces": {}, "others": []}]}',
        b"[]",
        b"{}",
        b"\xff\xfe",
        b'{"version": 2, "tokens": []}',
        b'{"version": 1, "tokens": [{}]}',
        b'{"version": 1, "tokens": [{"name": "a", "sha256": "b", "permissions": ["ROOT"], "created_at": "c"}]}',
        b'{"version": 1, "tokens": [{"name": 1, "sha256": "b", "permissions": [], "created_at": "c"}]}',
    ],
)
async def test_a_broken_file_lets_nobody_in(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "tokens.json"
    token = create_token(path, "alice", ["AE_EDITOR"])
    local = LocalTokens(path)
    assert await local.authenticate(token, address="") is not None
    path.write_bytes(content)
    assert await local.authenticate(token, address="") is None
    with pytest.raises(InvalidInput):
        list_tokens(path)


async def test_a_file_that_others_can_read_lets_nobody_in(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "tokens.json"
    token = create_token(path, "alice", ["AE_EDITOR"])
    local = LocalTokens(path)
    assert await local.authenticate(token, address="") is not None
    path.chmod(0o640)
    assert await local.authenticate(token, address="") is None
    assert await local.authenticate(token, address="") is None
    assert [r.message for r in caplog.records] == [
        "the token file cannot be used: nobody is let in until it can"
    ]
    with pytest.raises(InvalidInput, match="0600, got 0640"):
        list_tokens(path)
    path.chmod(0o600)
    assert await local.authenticate(token, address="") is not None


async def test_an_expired_token_is_none(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    soon = datetime.now(UTC) + timedelta(hours=1)
    valid = create_token(path, "a", ["AE_EDITOR"], expires_at=soon)
    expired = create_token(path, "b", ["AE_EDITOR"], expires_at=datetime.now(UTC) - timedelta(hours=1))
    local = LocalTokens(path)
    caller = await local.authenticate(valid, address="")
    assert caller is not None
    assert caller.expires_at == soon.replace(microsecond=0)
    assert await local.authenticate(expired, address="") is None


def test_what_cannot_be_a_token(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    with pytest.raises(InvalidValue):
        create_token(path, "", ["AE_EDITOR"])
    with pytest.raises(InvalidValue):
        create_token(path, "a\n", ["AE_EDITOR"])
    for wrong in ("TOKEN", "ae_editor", "ALL"):
        with pytest.raises(InvalidValue, match="DICOM_QUEUE, AE_EDITOR"):
            create_token(path, "a", [wrong])
    with pytest.raises(InvalidValue):
        create_token(path, "a", ["AE_EDITOR"], expires_at=datetime(2030, 1, 1))
    with pytest.raises(NotFound):
        revoke_token(path, "a")
    assert list_tokens(path) == []
    create_token(path, "a", ["AE_EDITOR"])
    before = path.read_bytes()
    with pytest.raises(Conflict):
        create_token(path, "a", ["DICOM_QUEUE"])
    assert path.read_bytes() == before


def _create(path: Path, name: str) -> None:
    create_token(path, name, ["AE_EDITOR"])


def test_writers_at_once_lose_no_token(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    context = multiprocessing.get_context("spawn")
    children = [context.Process(target=_create, args=(path, f"t{n}")) for n in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert sorted(r.name for r in list_tokens(path)) == ["t0", "t1", "t2", "t3"]
    assert json.loads(path.read_text())["version"] == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "localhost"])
def test_local_tokens_listen_on_loopback(tmp_path: Path, host: str) -> None:
    refuse_exposure(LocalTokens(tmp_path), host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", "localhost.example.org"])
def test_local_tokens_refuse_other_addresses(tmp_path: Path, host: str) -> None:
    with pytest.raises(InvalidValue, match="loopback"):
        refuse_exposure(LocalTokens(tmp_path), host)


def test_settings_have_defaults(tmp_path: Path) -> None:
    settings = settings_from({"AEGATE_DATA": str(tmp_path), "AEGATE_HTTP_LISTEN": "[::1]:0"})
    assert (settings.host, settings.port) == ("::1", 0)
    assert settings.tokens == tmp_path / "run" / "tokens.json"
    assert settings_from({"AEGATE_DATA": str(tmp_path)}).port == 8080


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"AEGATE_DATA": "d", "AEGATE_HTTP_LISTEN": "8080"},
        {"AEGATE_DATA": "d", "AEGATE_LOG_FORMAT": "xml"},
    ],
)
def test_settings_name_what_is_wrong(environ: dict[str, str]) -> None:
    with pytest.raises(InvalidValue, match="AEGATE_"):
        settings_from(environ)


def test_a_revocation_is_durable_before_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a power loss would bring the token back to life."""
    path, synced, fsync = tmp_path / "run" / "tokens.json", list[str](), os.fsync
    create_token(path, "lost laptop", ["DICOM_QUEUE"])
    monkeypatch.setattr(
        os, "fsync", lambda fd: (synced.append(Path(f"/proc/self/fd/{fd}").readlink().name), fsync(fd))[1]
    )

    revoke_token(path, "lost laptop")

    assert synced == ["tokens.json.part", "run"]
