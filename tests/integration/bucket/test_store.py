"""The store against a server that verifies signatures and digests: what is acknowledged is there, and whole."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from aegate_core.dicom.arrival_ids import new_arrival_id
from aegate_core.errors import (
    BucketClockSkew,
    BucketCredentials,
    BucketError,
    BucketMissing,
    BucketUnreachable,
    BucketUntrusted,
    InvalidValue,
    StorageFull,
)
from aegate_core.stores.blobs import blob_key
from aegate_core.stores.blobs.bucket import KEYS_AT_ONCE, PART_BYTES, BucketStore
from tests.integration.bucket.flipping import flipping
from tests.integration.bucket_server import NAME, BucketServer, bucket_server
from tests.integration.faults.stepped_clock import HOUR_S, SteppedClock
from tests.integration.identities import Authority
from tests.integration.processes import free_port

ROOT = Path(__file__).parents[3]
MIB = 1 << 20
GROWTH_BYTES = 24 * MIB
"""Of 120 MiB."""


def object_of(folder: Path, size_bytes: int, name: str = "object") -> Path:
    path = folder / name
    path.write_bytes(os.urandom(size_bytes))
    return path


def content(store: BucketStore, key: str) -> bytes:
    with store.local(key) as path:
        return path.read_bytes()


def test_object_comes_back_as_it_was_put(store: BucketStore, server: BucketServer, tmp_path: Path) -> None:
    source, arrival = object_of(tmp_path, 1000), new_arrival_id()

    key = store.put(arrival, source)

    assert key == blob_key(arrival)
    assert server.names() == [key]
    assert (server.objects / key).read_bytes() == source.read_bytes() == content(store, key)
    assert (store.size_bytes(key), store.holds_any([key]), list(store.listing())) == (1000, True, [[key]])
    assert source.exists()


def test_putting_again_is_harmless_also_without_the_source(
    store: BucketStore, server: BucketServer, tmp_path: Path
) -> None:
    source, arrival = object_of(tmp_path, 1000), new_arrival_id()
    key = store.put(arrival, source)
    kept = source.read_bytes()

    assert store.put(arrival, source) == key
    source.unlink()
    assert store.put(arrival, source) == key
    assert (server.names(), content(store, key)) == ([key], kept)


def test_source_that_is_gone_before_its_blob_is_there_is_said(store: BucketStore, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        store.put(new_arrival_id(), tmp_path / "gone")
    assert list(store.listing()) == []


def test_many_are_put_listed_and_removed(store: BucketStore, server: BucketServer, tmp_path: Path) -> None:
    source = object_of(tmp_path, 1000)
    arrivals = [new_arrival_id() for _ in range(25)]

    keys = store.put_many([(a, source) for a in arrivals])

    assert keys == [blob_key(a) for a in arrivals]
    assert [name for page in store.listing() for name in page] == sorted(keys)
    others = [blob_key(new_arrival_id()) for _ in range(KEYS_AT_ONCE)]
    store.remove_many([*others, *keys[:20]])
    store.remove_many(keys[:20])
    assert server.names() == sorted(keys[20:])
    assert not store.holds_any(keys[:20])


def test_other_objects_of_the_bucket_are_not_ours(
    store: BucketStore, server: BucketServer, tmp_path: Path
) -> None:
    server.client().put_object(Bucket=NAME, Key="of/somebody/else", Body=b"x")
    key = store.put(new_arrival_id(), object_of(tmp_path, 10))
    assert list(store.listing()) == [[key]]


@pytest.mark.parametrize("key", ["../../x", "ab/cd/e.dcm", "00/00/01a21b360f31786c966b2e3aece3e942.dcm"])
def test_a_key_cannot_leave_the_store(store: BucketStore, key: str) -> None:
    with pytest.raises(InvalidValue), store.local(key):
        pass
    with pytest.raises(InvalidValue):
        store.remove_many([key])


def test_missing_object_is_no_trouble_of_the_bucket(store: BucketStore) -> None:
    with pytest.raises(FileNotFoundError), store.local(blob_key(new_arrival_id())):
        pass
    assert store.trouble() is None


@pytest.mark.parametrize("size_bytes", [PART_BYTES + 1, 3 * PART_BYTES])
def test_large_object_goes_in_parts_and_comes_back_whole(
    store: BucketStore, server: BucketServer, tmp_path: Path, size_bytes: int
) -> None:
    moved: list[int] = []
    store = BucketStore(server.bucket, tmp_path / "scratch", moved=lambda: moved.append(1))
    source = object_of(tmp_path, size_bytes)

    key = store.put(new_arrival_id(), source)

    assert content(store, key) == source.read_bytes()
    assert server.uploads() == []
    assert len(moved) > size_bytes >> 20, "a sign of life for each MiB, and not only for each part"


_PUT_AND_GET = """
import os, sys
from pathlib import Path
from aegate_core.dicom.arrival_ids import new_arrival_id
from aegate_core.settings import bucket
from aegate_core.stores.blobs.bucket import BucketStore
from tests.integration.processes import peak_rss_bytes
store = BucketStore(bucket(os.environ), Path(sys.argv[1]))
def peak(path):
    key = store.put(new_arrival_id(), Path(path))
    with store.local(key) as copy:
        assert copy.stat().st_size == Path(path).stat().st_size
    return peak_rss_bytes(os.getpid())
small = peak(sys.argv[2])
print(peak(sys.argv[3]) - small)
"""


def test_large_object_stands_in_memory_nowhere(server: BucketServer, tmp_path: Path) -> None:
    small, large = object_of(tmp_path, 1000), object_of(tmp_path, 120 * MIB, "large")
    command = [sys.executable, "-c", _PUT_AND_GET, tmp_path / "scratch", small, large]
    said = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **server.environ}, capture_output=True, text=True
    )
    assert (said.returncode, said.stderr) == (0, "")
    assert int(said.stdout) < GROWTH_BYTES


def test_age_is_by_the_server(server: BucketServer, store: BucketStore, tmp_path: Path) -> None:
    [key] = store.put_many([(new_arrival_id(), object_of(tmp_path, 1000))])
    assert timedelta(seconds=-1) <= store.age(key) < timedelta(minutes=10)
    long_ago = 1_700_000_000
    os.utime(server.objects / key, (long_ago, long_ago))  # what this server goes by
    assert store.age(key) > timedelta(days=365)
    with pytest.raises(FileNotFoundError):
        store.age(blob_key(new_arrival_id()))


def test_copies_end_with_their_block_and_take_no_more_room_than_they_may(
    server: BucketServer, tmp_path: Path
) -> None:
    scratch = tmp_path / "scratch"
    store = BucketStore(replace(server.bucket, scratch_bytes=1500), scratch, room_wait_s=0.1)
    one, other = store.put_many([(new_arrival_id(), object_of(tmp_path, n, str(n))) for n in (1000, 2000)])

    with store.local(one):
        with pytest.raises(StorageFull, match="at most 1500 bytes"), store.local(other):
            pass
        assert list(scratch.iterdir()) == []  # a copy has no name
    assert len(content(store, other)) == 2000  # alone it may be larger


_PUT = """
import os, sys
from pathlib import Path
from aegate_core.errors import StorageError
from aegate_core.settings import bucket
from aegate_core.stores.blobs.bucket import BucketStore
store = BucketStore(bucket(os.environ), Path(sys.argv[1]))
try:
    store.put(sys.argv[2], Path(sys.argv[3]))
except StorageError as error:
    print(error.code, error.message)
"""


def test_killed_in_mid_part_leaves_nothing_to_be_seen_and_the_next_one_puts_it(
    server: BucketServer, tmp_path: Path, store: BucketStore
) -> None:
    source, arrival = object_of(tmp_path, 3 * PART_BYTES), new_arrival_id()
    command = [sys.executable, "-c", _PUT, tmp_path / "scratch", arrival, source]
    environ = {**os.environ, **server.environ, "AEGATE_DIE_AT": "PART_SENT:2"}

    assert subprocess.run(command, env=environ).returncode == -9

    assert (server.names(), len(server.uploads()), store.sweep()) == ([], 1, 0)
    key = store.put(arrival, source)
    assert (server.names(), content(store, key)) == ([key], source.read_bytes())
    assert (store.sweep(after=timedelta(0)), server.uploads(), server.names()) == (1, [], [key])


def test_uploads_of_others_below_the_prefix_are_not_swept(store: BucketStore, server: BucketServer) -> None:
    server.client().create_multipart_upload(Bucket=NAME, Key=f"{server.prefix}of/somebody/else")
    assert (store.sweep(after=timedelta(0)), len(server.uploads())) == (0, 1)


@pytest.mark.parametrize("size_bytes", [1000, PART_BYTES + 1000])
def test_bytes_that_changed_on_their_way_are_not_acknowledged(
    server: BucketServer, tmp_path: Path, size_bytes: int
) -> None:
    source = object_of(tmp_path, size_bytes)
    last = source.read_bytes()[-64:]
    with flipping(server.port, last) as port:
        store = BucketStore(replace(server.bucket, endpoint=f"http://127.0.0.1:{port}"), tmp_path / "scratch")
        with pytest.raises(BucketError, match="must let a (part of a )?blob be put, got .*(SHA256|Digest)"):
            store.put(new_arrival_id(), source)
    assert (server.names(), server.uploads()) == ([], [])


def test_answer_that_breaks_off_gives_no_half_object(server: BucketServer, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    key = BucketStore(server.bucket, scratch).put(new_arrival_id(), object_of(tmp_path, MIB))
    with flipping(server.port, b"", cut_after=MIB // 2) as port:
        store = BucketStore(replace(server.bucket, endpoint=f"http://127.0.0.1:{port}"), scratch)
        with pytest.raises(BucketUnreachable, match="must answer"), store.local(key):
            raise AssertionError("half an object was given")
    assert list(scratch.iterdir()) == []


def test_what_is_wrong_is_said_and_mended_live(
    store: BucketStore, server: BucketServer, tmp_path: Path
) -> None:
    source = object_of(tmp_path, 1000)
    assert store.trouble() is None

    server.give(secret_key="not the secret of anybody")
    with pytest.raises(
        BucketCredentials, match="put the right access-key-id and secret-access-key into"
    ) as said:
        store.put(new_arrival_id(), source)
    assert "got SignatureDoesNotMatch" in str(store.trouble())
    assert "secret of anybody" not in said.value.message
    server.give(access_key="NOBODY")
    with pytest.raises(BucketCredentials):
        store.put(new_arrival_id(), source)
    (server.secret / "access-key-id").unlink()
    with pytest.raises(BucketCredentials, match="got no access-key-id"):
        store.put(new_arrival_id(), source)
    assert server.names() == []

    server.give()
    assert store.trouble() is None
    assert [store.put(new_arrival_id(), source)] == server.names()


def test_missing_bucket_and_missing_server_are_told_apart(server: BucketServer, tmp_path: Path) -> None:
    source = object_of(tmp_path, 1000)
    elsewhere = replace(server.bucket, name="nowhere")
    nobody = replace(server.bucket, endpoint=f"http://127.0.0.1:{free_port()}")
    key = blob_key(new_arrival_id())

    with pytest.raises(BucketMissing, match="bucket 'nowhere' at .* NoSuchBucket .*: make it"):
        BucketStore(elsewhere, tmp_path).put(new_arrival_id(), source)
    with pytest.raises(BucketMissing):
        BucketStore(elsewhere, tmp_path).size_bytes(key)
    with pytest.raises(BucketUnreachable, match="must answer"):
        BucketStore(nobody, tmp_path).put(new_arrival_id(), source)
    with pytest.raises(BucketUnreachable):
        BucketStore(nobody, tmp_path).holds_any([key])


def test_clock_that_is_wrong_by_an_hour_is_said(server: BucketServer, tmp_path: Path) -> None:
    clock = SteppedClock.build(tmp_path / "clock")
    clock.step(HOUR_S)
    command = [sys.executable, "-c", _PUT, tmp_path / "scratch", new_arrival_id(), object_of(tmp_path, 1000)]
    said = subprocess.run(
        command, env={**os.environ, **server.environ, **clock.environ}, capture_output=True, text=True
    )
    assert said.stdout.startswith(f"{BucketClockSkew.code} "), said
    assert "set the clock of this machine" in said.stdout
    assert server.names() == []


def test_tls_is_by_the_ca_that_lies_beside_the_credentials(tmp_path: Path) -> None:
    authority, stranger = Authority.make(tmp_path / "ours"), Authority.make(tmp_path / "other")
    identity = authority.issue(tmp_path / "identity")
    with bucket_server(tmp_path / "s3", identity) as server:
        store, source = BucketStore(server.bucket, tmp_path / "scratch"), object_of(tmp_path, 1000)
        with pytest.raises(BucketUntrusted, match="put its CA as ca.crt into the Secret"):
            store.put(new_arrival_id(), source)
        (server.secret / "ca.crt").write_bytes((stranger.folder / "ca.crt").read_bytes())
        with pytest.raises(BucketUntrusted):
            store.put(new_arrival_id(), source)
        (server.secret / "ca.crt").write_text("no certificate")
        with pytest.raises(BucketUntrusted, match="must hold certificates in PEM"):
            store.put(new_arrival_id(), source)
        (server.secret / "ca.crt").write_bytes(identity.ca.read_bytes())
        assert [store.put(new_arrival_id(), source)] == server.names()
