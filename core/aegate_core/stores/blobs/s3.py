"""One bucket of S3: a connection made from its settings, and what its server's refusals mean in our words.

The only place that knows botocore. Credentials are files, read when they change: a rotated Secret is taken up by the
next request. Nothing here logs; what botocore would log is switched off, requests and signatures among it.
"""

from __future__ import annotations

import logging
import math
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    HTTPClientError,
    IncompleteReadError,
    SSLError,
)
from botocore.session import Session
from urllib3.exceptions import HTTPError

from aegate_core.errors import (
    BucketClockSkew,
    BucketCredentials,
    BucketDenied,
    BucketError,
    BucketMissing,
    BucketUnreachable,
    BucketUntrusted,
    StorageError,
    StorageFull,
)
from aegate_core.settings import Bucket

ACCESS_KEY, SECRET_KEY, CA = "access-key-id", "secret-access-key", "ca.crt"

CONNECT_S, READ_S = 5, 20
"""By feel: a store in the same house answers in milliseconds, and one that shifts its load in seconds."""
TRIES = 2
"""Of one request, within a second; then whoever asked waits longer."""
CONNECTIONS = 64

for _name in ("botocore", "urllib3"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)


class Connection:
    """A client of one bucket; threads may share it."""

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        self._lock = threading.Lock()
        self._client: Any = None
        self._made_with: tuple[bytes, ...] = ()
        self.answered_at = -math.inf
        """When the bucket did last what it was asked, on the monotonic clock."""
        self.failure: StorageError | None = None
        """What the last request failed with; None after one that did not."""

    @contextmanager
    def asking(self, what: str) -> Iterator[Any]:
        """Give botocore's client for one request, its refusals translated; ``what`` is missed then: "a blob be read".

        Raises FileNotFoundError for a key that is not there, BucketError, StorageFull.
        """
        try:
            yield self._connected()
        except (BotoCoreError, ClientError, HTTPError) as error:
            if isinstance(error, ClientError) and _code(error) == "NoSuchKey":
                self._note_answer()
                raise FileNotFoundError("no object of that key") from error
            self.failure = self._translated(what, error)
            raise self.failure from error
        except StorageError as error:
            self.failure = error
            raise
        self._note_answer()

    def _note_answer(self) -> None:
        self.failure, self.answered_at = None, time.monotonic()

    def _connected(self) -> Any:
        with self._lock:
            made_with = self._credentials()
            if made_with != self._made_with:
                self._client = self._connect(made_with)
                self._made_with = made_with
            return self._client

    def _credentials(self) -> tuple[bytes, ...]:
        """Return access key, secret and CA as they are now; '' is no CA. Raises BucketCredentials."""
        folder = self.bucket.secret
        found = {}
        for name in (ACCESS_KEY, SECRET_KEY, CA):
            try:
                found[name] = (folder / name).read_bytes().strip()
            except FileNotFoundError:
                found[name] = b""
            except OSError as error:
                raise BucketCredentials(
                    f"the credentials of {self._name} must be readable, got {error.strerror} for "
                    f"{folder / name}: mend its rights"
                ) from error
        missing = [name for name in (ACCESS_KEY, SECRET_KEY) if not found[name]]
        if missing:
            raise BucketCredentials(
                f"the credentials of {self._name} must be in {folder}, got no {' and no '.join(missing)}: "
                "put it there, or add the key to the Secret"
            )
        return found[ACCESS_KEY], found[SECRET_KEY], found[CA]

    def _connect(self, made_with: tuple[bytes, ...]) -> Any:
        access_key, secret_key, ca = made_with
        self._must_be_certificates(ca)
        config = Config(
            signature_version="s3v4",
            connect_timeout=CONNECT_S,
            read_timeout=READ_S,
            max_pool_connections=CONNECTIONS,
            retries={"mode": "standard", "total_max_attempts": TRIES},
            # We send SHA-256 of all that we put, and compare what we get with the index: no other sums are wanted.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={
                "addressing_style": "path" if self.bucket.endpoint else "auto",
                # The digest of the bytes is under the signature, which no server may leave unchecked.
                "payload_signing_enabled": True,
            },
        )
        try:
            return Session().create_client(
                "s3",
                region_name=self.bucket.region,
                endpoint_url=self.bucket.endpoint or None,
                verify=str(self.bucket.secret / CA) if ca else True,
                aws_access_key_id=access_key.decode("ascii", "replace"),
                aws_secret_access_key=secret_key.decode("ascii", "replace"),
                config=config,
            )
        except (BotoCoreError, ValueError) as error:
            raise BucketError(
                f"{self._name} must be one that can be reached, got {type(error).__name__}: mend endpoint and region"
            ) from error

    def _must_be_certificates(self, ca: bytes) -> None:
        try:
            if ca:
                ssl.create_default_context(cadata=ca.decode("ascii"))
        except (ssl.SSLError, ValueError) as error:
            raise BucketUntrusted(
                f"{CA} beside the credentials of {self._name} must hold certificates in PEM, got other content: mend it"
            ) from error

    @property
    def _name(self) -> str:
        return f"bucket {self.bucket.name!r} at {self.bucket.endpoint or 'AWS'}"

    def _translated(self, what: str, error: Exception) -> StorageError:
        if isinstance(error, ClientError):
            return refusal(f"{self._name} must let {what}", _code(error), _status(error))
        return _no_answer(self._name, error)


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


_KEYS = f"put the right {ACCESS_KEY} and {SECRET_KEY} into the Secret"
_REFUSALS: dict[str, tuple[type[StorageError], str]] = {
    "InvalidAccessKeyId": (BucketCredentials, _KEYS),
    "SignatureDoesNotMatch": (BucketCredentials, _KEYS),
    "InvalidToken": (BucketCredentials, _KEYS),
    "XAdminUserNotFound": (BucketCredentials, _KEYS),
    "AuthorizationHeaderMalformed": (BucketCredentials, "give the region that the bucket is in"),
    "IncorrectEndpoint": (BucketCredentials, "give the region that the bucket is in, and its endpoint"),
    "PermanentRedirect": (BucketCredentials, "give the region that the bucket is in, and its endpoint"),
    "AccessDenied": (
        BucketDenied,
        "permit s3:PutObject, GetObject, DeleteObject, AbortMultipartUpload, ListBucket and "
        "ListBucketMultipartUploads",
    ),
    "NoSuchBucket": (BucketMissing, "make it, or give the name of one that is there"),
    "NoSuchUpload": (BucketUnreachable, "it was completed or aborted meanwhile, and is sent again"),
    "RequestTimeTooSkewed": (
        BucketClockSkew,
        "set the clock of this machine, or of the bucket's server, right",
    ),
    "RequestExpired": (BucketClockSkew, "set the clock of this machine, or of the bucket's server, right"),
    "QuotaExceeded": (StorageFull, "raise its quota, or make room in it"),
    "XMinioStorageFull": (StorageFull, "make room on the disks of its server"),
    "InsufficientStorage": (StorageFull, "make room on the disks of its server"),
}
_BY_STATUS: dict[int, tuple[type[StorageError], str]] = {
    301: _REFUSALS["PermanentRedirect"],
    401: _REFUSALS["InvalidAccessKeyId"],
    403: _REFUSALS["AccessDenied"],
    507: _REFUSALS["InsufficientStorage"],
}
_NO_TIME = (BucketUnreachable, "it is tried again; look into the server's log where that goes on")
_UNKNOWN = (BucketError, "look into the server's log")


def refusal(expected: str, code: str, status: int) -> StorageError:
    """Return what a refusal means, by its code, or its status where the code is none that we know."""
    by_status = _NO_TIME if status >= 500 or status == 429 else _UNKNOWN
    kind, remedy = _REFUSALS.get(code) or _BY_STATUS.get(status) or by_status
    return kind(f"{expected}, got {code or 'no code'} (HTTP {status}): {remedy}")


def _no_answer(name: str, error: Exception) -> StorageError:
    if isinstance(error, SSLError):
        return BucketUntrusted(
            f"{name} must show a certificate that we trust, got another: put its CA as {CA} into the Secret, or mend "
            "the certificate"
        )
    if isinstance(error, ConnectionError | HTTPClientError | IncompleteReadError | HTTPError):
        return BucketUnreachable(
            f"{name} must answer, got {type(error).__name__}: it is tried again; mend the endpoint, the network or "
            "the server where that goes on"
        )
    return BucketError(f"{name} must answer, got {type(error).__name__}: mend endpoint and region")
