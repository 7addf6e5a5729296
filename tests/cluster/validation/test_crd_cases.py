"""The table of cases, told to an API server; tests/unit/cli tells it to `aegate validate`."""

from __future__ import annotations

import re

import pytest

from tests.cluster.validation.api_server import Answer, ApiServer
from tests.cluster.validation.installing import OldObjects
from tests.crd_cases.table import Case, load_cases, words_of_a_server

CASES = load_cases()


@pytest.mark.parametrize("case", [c for c in CASES if c.old is None], ids=lambda case: case.name)
def test_the_api_server_agrees(case: Case, api: ApiServer, stored: OldObjects) -> None:
    check(api.create(case.manifest, dryRun="All"), case)


@pytest.mark.parametrize("case", [c for c in CASES if c.old is not None], ids=lambda case: case.name)
def test_the_api_server_agrees_on_an_update(case: Case, api: ApiServer, stored: OldObjects) -> None:
    with stored.update_of(case) as changed:
        check(api.replace(changed, dryRun="All"), case)


def check(answer: Answer, case: Case) -> None:
    """The answer refuses the fields of the case, and no others, and says why in substance what the case says."""
    assert answer.is_accepted == (not case.refused), answer.body
    assert {place for place, _ in answer.refused} == case.refused.keys(), answer.body
    for place, words in case.refused.items():
        pattern = words_of_a_server(words, place)
        assert any(re.search(pattern, said) for at, said in answer.refused if at == place), answer.body
