"""``AEGATE_S3_*``: which bucket holds the images; what cannot be is refused when a process starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from aegate_core.errors import InvalidValue
from aegate_core.settings import Bucket, DataFolder, data_folder

LEAST = {"AEGATE_S3_BUCKET": "images", "AEGATE_S3_SECRET": "/etc/aegate/bucket"}
ROOT = Path("/var/lib/aegate")


def test_without_a_bucket_there_is_a_folder() -> None:
    assert data_folder({"AEGATE_S3_ENDPOINT": "https://s3:9000"}, ROOT) == DataFolder(ROOT)


def test_least_is_its_name_and_where_the_credentials_are() -> None:
    assert data_folder(LEAST, ROOT) == DataFolder(ROOT, Bucket("images", Path("/etc/aegate/bucket")))


def test_all_of_it_is_read() -> None:
    environ = LEAST | {
        "AEGATE_S3_ENDPOINT": "https://s3.example.org:9000/",
        "AEGATE_S3_REGION": "eu-central-1",
        "AEGATE_S3_PREFIX": "hospital/pacs",
        "AEGATE_S3_SCRATCH_BYTES": "67108864",
    }
    assert data_folder(environ, ROOT).bucket == Bucket(
        "images",
        Path("/etc/aegate/bucket"),
        "https://s3.example.org:9000",
        "eu-central-1",
        "hospital/pacs/",
        67108864,
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AEGATE_S3_BUCKET", "s3://images"),
        ("AEGATE_S3_BUCKET", "Images"),
        ("AEGATE_S3_SECRET", ""),
        ("AEGATE_S3_ENDPOINT", "s3.example.org:9000"),
        ("AEGATE_S3_ENDPOINT", "https://user:geheim@s3.example.org"),
        ("AEGATE_S3_ENDPOINT", "https://s3.example.org/images"),
        ("AEGATE_S3_PREFIX", "/images"),
        ("AEGATE_S3_PREFIX", "a b/"),
        ("AEGATE_S3_PREFIX", "../"),
        ("AEGATE_S3_SCRATCH_BYTES", "4Gi"),
        ("AEGATE_S3_SCRATCH_BYTES", "0"),
        ("AEGATE_S3_SCRATCH_BYTES", "67108863"),
    ],
)
def test_what_cannot_be_is_refused_by_the_name_of_the_variable(name: str, value: str) -> None:
    with pytest.raises(InvalidValue, match=name) as said:
        data_folder(LEAST | {name: value}, ROOT)
    assert "geheim" not in said.value.message
