"""What a refusal of S3 means in our words: by its code, and by its status where the code is none that we know."""

from __future__ import annotations

from pathlib import Path

import pytest

from aegate_core import errors
from aegate_core.errors import StorageError
from aegate_core.stores.blobs.s3 import refusal
from aegate_core.stores.blobs.slices import Slice

MEANINGS = [
    ("InvalidAccessKeyId", 403, errors.BucketCredentials),
    ("SignatureDoesNotMatch", 403, errors.BucketCredentials),
    ("AuthorizationHeaderMalformed", 400, errors.BucketCredentials),
    ("PermanentRedirect", 301, errors.BucketCredentials),
    ("AccessDenied", 403, errors.BucketDenied),
    ("SomethingNew", 403, errors.BucketDenied),
    ("NoSuchBucket", 404, errors.BucketMissing),
    ("NoSuchUpload", 404, errors.BucketUnreachable),
    ("SomethingNew", 404, errors.BucketError),
    ("RequestTimeTooSkewed", 403, errors.BucketClockSkew),
    ("QuotaExceeded", 403, errors.StorageFull),
    ("", 507, errors.StorageFull),
    ("SlowDown", 503, errors.BucketUnreachable),
    ("TooManyRequests", 429, errors.BucketUnreachable),
    ("InternalError", 500, errors.BucketUnreachable),
    ("XAmzContentSHA256Mismatch", 400, errors.BucketError),
]


@pytest.mark.parametrize(("code", "status", "kind"), MEANINGS)
def test_a_refusal_is_said_by_its_meaning(code: str, status: int, kind: type[StorageError]) -> None:
    said = refusal("bucket 'images' must let a blob be put", code, status)
    assert type(said) is kind
    assert said.message.startswith("bucket 'images' must let a blob be put, got ")
    assert f"{code or 'no code'} (HTTP {status}): " in said.message


def test_every_trouble_of_a_bucket_has_a_code_of_its_own() -> None:
    kinds = {kind for _, _, kind in MEANINGS} | {errors.BucketUntrusted}
    assert len({kind.code for kind in kinds}) == len(kinds)


def test_each_piece_that_is_read_is_a_sign_of_life(tmp_path: Path) -> None:
    (tmp_path / "object").write_bytes(b"0123456789")
    moved: list[int] = []
    with (tmp_path / "object").open("rb") as file:
        piece = Slice(file, 2, 7, lambda: moved.append(piece.tell()))
        assert (piece.read(4), piece.read(4), piece.read(4)) == (b"2345", b"678", b"")
    assert moved == [4, 7]
