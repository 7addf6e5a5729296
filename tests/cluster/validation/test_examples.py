"""What people copy from is accepted by an API server as it stands, and together with the policy among it."""

from __future__ import annotations

import http.client

import pytest

from tests.cluster.validation.api_server import PLURALS, ApiServer
from tests.cluster.validation.installing import (
    READY_S,
    ROOT,
    OldObjects,
    install_policies,
    read_yaml,
    remove_policies,
)
from tests.crd_cases.table import Manifest
from tests.examples import MANIFESTS
from tests.integration.waiting import eventually

EXAMPLES = {
    f"{file.relative_to(ROOT / 'examples')} {number}": document
    for file in MANIFESTS
    for number, document in enumerate(read_yaml(file), 1)
}


def test_there_is_one_of_every_kind() -> None:
    assert {document["kind"] for document in EXAMPLES.values()} == set(PLURALS)


@pytest.mark.parametrize("name", EXAMPLES)
def test_accepted(api: ApiServer, stored: OldObjects, name: str) -> None:
    answer = api.create(EXAMPLES[name], dryRun="All")
    assert answer.is_accepted, answer.message


def test_the_policy_lets_the_one_with_tls_pass_and_no_other(api: ApiServer, stored: OldObjects) -> None:
    def answers() -> dict[str, int]:
        entities = {n: d for n, d in EXAMPLES.items() if d["kind"] == "ApplicationEntity" and "/" not in n}
        return {name: api.create(document, dryRun="All").status for name, document in entities.items()}

    policy: Manifest = EXAMPLES["aepolicy.yaml 1"]
    remove_policies(api)
    install_policies(api)
    try:
        assert api.create(policy).is_accepted
        expected = {
            "applicationentity-tls.yaml 1": http.client.CREATED,
            "applicationentity.yaml 1": http.client.FORBIDDEN,
        }
        eventually(lambda: answers() == expected, deadline_s=READY_S, what="the policy in force")
    finally:
        remove_policies(api)
    eventually(
        lambda: set(answers().values()) == {http.client.CREATED}, deadline_s=READY_S, what="the policy gone"
    )
