"""Images in a bucket: the pods of a listener wait for its Secret in their namespace, and the AE says so."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.stores.cluster import ClusterClient, from_kubeconfig
from aegate_operator.installation import ImageBucket
from tests.cluster.operator.conftest import operators_lab
from tests.cluster.operator.operating import DEADLINE_S, INSTALLATION, Listeners, Ward, apply_all, store
from tests.integration.waiting import eventually_async

SPACE = "radiology"
BUCKET = ImageBucket("images", "aegate-bucket", "https://s3.example.org")


def secret(**values: str) -> dict[str, Any]:
    metadata = {"namespace": SPACE, "name": BUCKET.secret}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": values}


@pytest.fixture
async def ward(say: Callable[[str], None], tmp_path: Path, sqlite_template: Path) -> AsyncIterator[Ward]:
    """A lab whose pods are processes: what is only said to run waits for nothing."""
    with operators_lab(2, say) as lab:
        [_, _, database] = store(SPACE)
        apply_all(lab, [{"kind": "Namespace", "metadata": {"name": SPACE}}, database])  # no claim of images
        async with ClusterClient(from_kubeconfig(lab.kubeconfig), manager="kubectl") as admin:
            yield Ward(lab, admin, Listeners(admin), tmp_path / "aegate.sqlite3", sqlite_template)


async def test_a_missing_secret_of_the_bucket_is_said_and_heals(ward: Ward) -> None:
    async with ward.operating(replace(INSTALLATION, bucket=BUCKET)):
        key = await ward.add_ae(SPACE)
        await ward.until(key, "ResolvedRefs", "False", "StoreNotFound")
        assert "Secret 'aegate-bucket' is not in namespace radiology" in await ward.message(
            key, "ResolvedRefs"
        )
        apply_all(ward.lab, [secret(**{"secret-access-key": "nobody's"})])
        words = "Secret radiology/aegate-bucket has no key access-key-id"
        await eventually_async(lambda: _says(ward, key, words), deadline_s=DEADLINE_S)
        apply_all(ward.lab, [secret(**{"access-key-id": "NOBODY", "secret-access-key": "nobody's"})])
        await ward.until(key, "ResolvedRefs", "True", "ResolvedRefs")


async def _says(ward: Ward, key: ResourceKey, words: str) -> bool:
    return words in await ward.message(key, "ResolvedRefs")
