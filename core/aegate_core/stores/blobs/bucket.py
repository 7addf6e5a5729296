"""Blobs in a bucket of S3: an object each at ``<prefix><key>``, acknowledged when the bucket has verified its SHA-256.

An object is there whole or not at all: a process that dies in the middle leaves an upload that nobody sees, until
`sweep` aborts it. Neither keys nor metadata say anything of a patient. Nothing large stands in memory: what is sent is
read from its file, what is fetched goes into a file without a name, which ends with its process.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import IO, Any, BinaryIO

from aegate_core.dicom.identifiers import ArrivalId
from aegate_core.errors import BucketError, BucketUnreachable, InvalidValue, StorageError, StorageFull
from aegate_core.settings import Bucket
from aegate_core.steps import Step, reached
from aegate_core.stores.blobs.keys import MARK, BlobKey, blob_key, parse_blob_key
from aegate_core.stores.blobs.s3 import Connection, refusal
from aegate_core.stores.blobs.slices import Slice

PART_BYTES = 16 << 20
"""What is larger goes in parts of that size: what a broken connection costs, and at most 10,000 of them (160 GiB)."""
PUTS_AT_ONCE = 8
"""By feel: small objects wait for the network, not for its width."""
CHUNK_BYTES = 1 << 20
MARK_BYTES = 100
ANOTHER_WAS_FASTER = (409, 412)
NO_CONDITIONS = 501
KEYS_AT_ONCE = 1000
"""Of one request to remove; the protocol's limit."""
ABANDONED_AFTER = timedelta(days=1)
"""No process of ours takes so long over an upload."""
ASK_AFTER_S = 10.0
"""So long a bucket that is not used counts as well. By feel: a request to list keys costs a cent per 2,000."""
ROOM_WAIT_S = 10.0
"""How long a copy waits for others to go; then its delivery waits in the queue instead."""


class BucketStore:
    """Blobs in one bucket (`store.BlobStore`). ``moved`` is called whenever some of an upload has gone."""

    def __init__(
        self,
        bucket: Bucket,
        scratch: Path,
        *,
        moved: Callable[[], None] = lambda: None,
        room_wait_s: float = ROOM_WAIT_S,
    ) -> None:
        self._bucket = bucket
        self._scratch = scratch
        self._moved = moved
        self._connection = Connection(bucket)
        self._room = _Room(bucket.scratch_bytes, room_wait_s)

    @property
    def place(self) -> str:
        """The bucket, and what is in front of its keys."""
        return f"bucket {self._bucket.name!r}, prefix {self._bucket.prefix!r}"

    @property
    def scratch(self) -> Path:
        """The folder where copies of blobs lie as long as they are used."""
        self._scratch.mkdir(mode=0o750, parents=True, exist_ok=True)
        return self._scratch

    def put(self, arrival_id: ArrivalId, path: Path) -> BlobKey:
        """Make ``path`` durable under the arrival's key and return that; see `put_many`."""
        return self.put_many([(arrival_id, path)])[0]

    def put_many(self, arrivals: Sequence[tuple[ArrivalId, Path]]) -> list[BlobKey]:
        """Return when the bucket has acknowledged all, each with the digest of what was sent; several at a time.

        Raises FileNotFoundError when a source is gone and its blob is not there, BucketError, StorageFull.
        """
        keys = [blob_key(arrival_id) for arrival_id, _ in arrivals]
        with ThreadPoolExecutor(PUTS_AT_ONCE, thread_name_prefix="put") as pool:
            puts = [pool.submit(self._put, k, p) for k, (_, p) in zip(keys, arrivals, strict=True)]
            wait(puts, return_when=FIRST_EXCEPTION)
            pool.shutdown(cancel_futures=True)
            for put in puts:
                if not put.cancelled():
                    put.result()
        reached(Step.BLOB_FSYNCED)
        return keys

    def _put(self, key: BlobKey, path: Path) -> None:
        try:
            with path.open("rb") as file:
                size_bytes = os.fstat(file.fileno()).st_size
                send = self._put_in_parts if size_bytes > PART_BYTES else self._put_whole
                send(self._name(key), file, size_bytes)
        except FileNotFoundError:
            if path.exists() or not self.holds_any([key]):
                raise
            # Another indexer took it out of the spool: its blob is durable.
        self._moved()
        reached(Step.BLOB_PLACED)

    def _put_whole(self, name: str, file: BinaryIO, size_bytes: int) -> None:
        whole = Slice(file, 0, size_bytes, self._moved)
        sha256 = _sha256(whole)
        whole.seek(0)
        with self._connection.asking("a blob be put") as client:
            answer = client.put_object(
                **self._at(name),
                Body=whole,
                ChecksumSHA256=_b64(sha256),
                ContentType="application/dicom",
            )
        self._must_be(_b64(sha256), answer)

    def _put_in_parts(self, name: str, file: BinaryIO, size_bytes: int) -> None:
        """Send a large object part by part; visible when the last request is acknowledged, and whole then."""
        with self._connection.asking("a large blob be begun") as client:
            upload = client.create_multipart_upload(
                **self._at(name), ChecksumAlgorithm="SHA256", ContentType="application/dicom"
            )["UploadId"]
        try:
            parts: list[dict[str, object]] = []
            total = hashlib.sha256()
            for begin in range(0, size_bytes, PART_BYTES):
                part = Slice(file, begin, min(PART_BYTES, size_bytes - begin), self._moved)
                sha256 = _sha256(part)
                total.update(sha256)
                number = len(parts) + 1
                parts.append(self._put_part(name, upload, number, part, _b64(sha256)))
                reached(Step.PART_SENT)
            with self._connection.asking("a large blob be completed") as client:
                answer = client.complete_multipart_upload(
                    **self._at(name), UploadId=upload, MultipartUpload={"Parts": parts}
                )
            self._must_be(f"{_b64(total.digest())}-{len(parts)}", answer)
        except BucketUnreachable:
            raise  # also to abort it: the sweep does
        except BaseException:
            with contextlib.suppress(StorageError, FileNotFoundError):
                self._abort(name, upload)
            raise

    def _put_part(self, name: str, upload: str, number: int, part: Slice, sha256: str) -> dict[str, object]:
        part.seek(0)
        with self._connection.asking("a part of a blob be put") as client:
            answer = client.upload_part(
                **self._at(name), UploadId=upload, PartNumber=number, Body=part, ChecksumSHA256=sha256
            )
        self._must_be(sha256, answer)
        return {"PartNumber": number, "ETag": answer["ETag"], "ChecksumSHA256": sha256}

    def _must_be(self, sha256: str, answer: dict[str, Any]) -> None:
        """Refuse an acknowledgement of other bytes. One without digest counts: it was under the signature."""
        came = answer.get("ChecksumSHA256")
        if came is not None and came != sha256:
            raise BucketError(
                f"bucket {self._bucket.name!r} must acknowledge the SHA-256 of what was sent, got another: it is sent "
                "again; look into the network and the server where that goes on"
            )

    @contextmanager
    def local(self, key: str) -> Iterator[Path]:
        """Give a copy in `scratch`, without a name and gone after the block.

        Raises InvalidValue, FileNotFoundError, BucketError; StorageFull and OSError where there is no room for it.
        """
        name = self._name(key)
        with self._connection.asking("a blob be read") as client:
            answer = client.get_object(**self._at(name))
        with (
            closing(answer["Body"]) as body,
            self._room.taken(int(answer["ContentLength"])),
            tempfile.TemporaryFile(dir=self.scratch) as copy,
        ):
            self._fetch(body, copy)
            yield Path(f"/dev/fd/{copy.fileno()}")

    def _fetch(self, body: Any, copy: IO[bytes]) -> None:
        with self._connection.asking("a blob be read to its end"):
            while chunk := body.read(CHUNK_BYTES):
                copy.write(chunk)
        copy.flush()

    def size_bytes(self, key: str) -> int:
        """Return how large a blob is. Raises InvalidValue, FileNotFoundError, BucketError."""
        return int(self._listed(key)[0]["Size"])

    def age(self, key: str) -> timedelta:
        """Return how long ago the blob was put, by the server's clock. Raises as `size_bytes` does."""
        found, answered_at = self._listed(key)
        put_at: datetime = found["LastModified"]
        return answered_at - put_at

    def _listed(self, key: str) -> tuple[dict[str, Any], datetime]:
        """Return what the bucket says of a blob, and when it said so."""
        name = self._name(key)
        # Not HEAD, whose refusals say nothing: a bucket that is not there would be one that lacks the blob.
        with self._connection.asking("its keys be listed") as client:
            answer = client.list_objects_v2(Bucket=self._bucket.name, Prefix=name, MaxKeys=1)
        for found in answer.get("Contents", ()):
            if found["Key"] == name:
                said = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
                return found, parsedate_to_datetime(said) if said else datetime.now(UTC)
        raise FileNotFoundError("no object of that key")

    def holds_any(self, keys: Sequence[str]) -> bool:
        """Say whether at least one of the blobs is there. Raises InvalidValue, BucketError."""
        for key in keys:
            with contextlib.suppress(FileNotFoundError):
                self.size_bytes(key)
                return True
        return False

    def remove_many(self, keys: Sequence[str]) -> None:
        """Remove blobs by their exact keys; safe to repeat. Where the bucket keeps versions, they stay in it.

        Raises InvalidValue, BucketError.
        """
        names = [self._name(key) for key in keys]
        for begin in range(0, len(names), KEYS_AT_ONCE):
            objects = [{"Key": name} for name in names[begin : begin + KEYS_AT_ONCE]]
            with self._connection.asking("blobs be removed") as client:
                answer = client.delete_objects(
                    Bucket=self._bucket.name, Delete={"Objects": objects, "Quiet": True}
                )
            for error in answer.get("Errors", ()):
                raise refusal(
                    f"bucket {self._bucket.name!r} must let blobs be removed", error.get("Code", ""), 0
                )

    def listing(self) -> Iterator[list[str]]:
        """Yield the names of all objects below the prefix, a thousand at a time and in order. Raises BucketError."""
        token: dict[str, str] = {}
        while True:
            with self._connection.asking("its keys be listed") as client:
                answer = client.list_objects_v2(Bucket=self._bucket.name, Prefix=self._bucket.prefix, **token)
            names = (str(f["Key"]).removeprefix(self._bucket.prefix) for f in answer.get("Contents", ()))
            if page := [n for n in names if n not in ("", MARK)]:
                yield page
            if not answer.get("IsTruncated"):
                return
            token = {"ContinuationToken": answer["NextContinuationToken"]}

    def mark(self, installation: str) -> str:
        """Make the prefix an installation's unless it is somebody's; return whose it is. Raises BucketError.

        A server that knows no conditions takes the last one: so it is read after it was put.
        """
        name = self._bucket.prefix + MARK
        with contextlib.suppress(FileNotFoundError):
            return self._read_mark(name)
        mark = {**self._at(name), "Body": f"{installation}\n".encode()}
        with self._connection.asking("the mark of its installation be put") as client:
            try:
                client.put_object(**mark, IfNoneMatch="*")
            except client.exceptions.ClientError as error:
                status = error.response["ResponseMetadata"]["HTTPStatusCode"]
                if status == NO_CONDITIONS:
                    client.put_object(**mark)
                elif status not in ANOTHER_WAS_FASTER:
                    raise
        return self._read_mark(name)

    def _read_mark(self, name: str) -> str:
        with (
            self._connection.asking("the mark of its installation be read") as client,
            closing(client.get_object(**self._at(name))["Body"]) as body,
        ):
            return str(body.read(MARK_BYTES), "ascii", "replace").strip()

    def sweep(self, *, after: timedelta = ABANDONED_AFTER) -> int:
        """Abort what processes that died a day ago had begun to put; nothing that is no blob. Raises BucketError."""
        began_before, aborted = datetime.now(UTC) - after, 0
        for name, upload, began_at in list(self._uploads()):
            if began_at < began_before and self._is_blob(name):
                with contextlib.suppress(FileNotFoundError):
                    self._abort(name, upload)
                    aborted += 1
        return aborted

    def _is_blob(self, name: str) -> bool:
        try:
            parse_blob_key(name.removeprefix(self._bucket.prefix))
        except InvalidValue:
            return False
        return True

    def _uploads(self) -> Iterator[tuple[str, str, datetime]]:
        marker: dict[str, str] = {}
        while True:
            with self._connection.asking("its unfinished uploads be listed") as client:
                answer = client.list_multipart_uploads(
                    Bucket=self._bucket.name, Prefix=self._bucket.prefix, **marker
                )
            for found in answer.get("Uploads", ()):
                yield str(found["Key"]), str(found["UploadId"]), found["Initiated"]
            if not answer.get("IsTruncated"):
                return
            marker = {
                "KeyMarker": answer["NextKeyMarker"],
                "UploadIdMarker": answer.get("NextUploadIdMarker", ""),
            }

    def _abort(self, name: str, upload: str) -> None:
        with self._connection.asking("an upload be aborted") as client:
            try:
                client.abort_multipart_upload(**self._at(name), UploadId=upload)
            except client.exceptions.NoSuchUpload:
                return  # somebody else did, or a rule of the bucket's

    def trouble(self) -> str | None:
        """Return why the bucket cannot be used, or None; one that did nothing lately is asked for a key first."""
        if (
            self._connection.failure is not None
            or time.monotonic() - self._connection.answered_at > ASK_AFTER_S
        ):
            with contextlib.suppress(StorageError), self._connection.asking("its keys be listed") as client:
                client.list_objects_v2(Bucket=self._bucket.name, Prefix=self._bucket.prefix, MaxKeys=1)
        failure = self._connection.failure
        return failure.message if failure else None

    def _name(self, key: str) -> str:
        return self._bucket.prefix + parse_blob_key(key)[0]

    def _at(self, name: str) -> dict[str, str]:
        return {"Bucket": self._bucket.name, "Key": name}


class _Room:
    """How much of a disk copies may take at once; one that is larger than all of it is let in alone."""

    def __init__(self, total_bytes: int, wait_s: float) -> None:
        self._total = total_bytes
        self._wait_s = wait_s
        self._used = 0
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, size_bytes: int) -> Iterator[None]:
        """Take room for the block. Raises StorageFull when there is none for a while."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._has(size_bytes), self._wait_s):
                raise StorageFull(
                    f"copies of blobs must take at most {self._total} bytes, got {size_bytes} more than {self._used}: "
                    "it is tried again; raise AEGATE_S3_SCRATCH_BYTES"
                )
            self._used += size_bytes
        try:
            yield
        finally:
            with self._changed:
                self._used -= size_bytes
                self._changed.notify_all()

    def _has(self, size_bytes: int) -> bool:
        return self._used == 0 or self._used + size_bytes <= self._total


def _sha256(part: Slice) -> bytes:
    digest = hashlib.sha256()
    while chunk := part.read(CHUNK_BYTES):
        digest.update(chunk)
    return digest.digest()


def _b64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()
