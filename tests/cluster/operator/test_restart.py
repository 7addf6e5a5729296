"""A restart with 300 AEs: the operator reads what there is, and the API server's audit log holds no write of it."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.stores.cluster.kinds import APPLICATION_ENTITY, IMAGE_ROUTE, PATIENT_PARTITION
from tests.cluster.operator.operating import Ward
from tests.integration.waiting import eventually_async, take_s

COUNT = 300
AT_ONCE = 16
DEADLINE_S = 400
LOOK_S = 0.5
"""Between looks at all of them: each is a list of 300."""


@pytest.mark.timeout(900)
async def test_a_restart_with_three_hundred_aes_writes_nothing(ward: Ward, radiology: str) -> None:
    metadata = {"namespace": radiology, "name": "imaging"}
    await ward.admin.apply(PATIENT_PARTITION, {"metadata": metadata, "spec": {}})
    route = {"to": ["ct0"], "from": {"aes": ["ct1"]}}
    await ward.admin.apply(IMAGE_ROUTE, {"metadata": {**metadata, "name": "r1"}, "spec": route})
    began = time.monotonic()
    async with ward.operating():
        await _add_all(ward, radiology)
        await _until_all_ready(ward, radiology)
    print(f"{COUNT} AEs are Ready after {time.monotonic() - began:.1f} s")
    before, began = len(ward.writes()), time.monotonic()
    async with ward.operating() as operator:

        async def is_at_rest() -> bool:
            metrics = operator.metrics.registry
            looks = metrics.get_sample_value("aegate_operator_reconcile_total", {"result": "unchanged"})
            return operator.projection_is_current() and (looks or 0) >= COUNT + 2

        await eventually_async(is_at_rest, deadline_s=DEADLINE_S)
    print(f"a restart has looked at all of them after {time.monotonic() - began:.1f} s")
    assert ward.writes()[before:] == []


async def _add_all(ward: Ward, namespace: str) -> None:
    turns = asyncio.Semaphore(AT_ONCE)

    async def add(number: int) -> ResourceKey:
        async with turns:
            return await ward.add_ae(namespace, f"ct{number}", patientPartition="imaging")

    await asyncio.gather(*map(add, range(COUNT)))


async def _until_all_ready(ward: Ward, namespace: str) -> None:
    async def are_ready() -> bool:
        await take_s(LOOK_S)
        listing = await ward.admin.list(APPLICATION_ENTITY, namespace=namespace)
        return sum(map(_is_ready, listing.items)) == COUNT

    await eventually_async(are_ready, deadline_s=DEADLINE_S, what=f"{COUNT} AEs are Ready")


def _is_ready(manifest: Any) -> bool:
    conditions = manifest.get("status", {}).get("conditions", [])
    return any((c["type"], c["status"]) == ("Ready", "True") for c in conditions)
