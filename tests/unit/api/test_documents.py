"""Trusted documents: what may be laid down, and what changes take effect."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from aegate_core.errors import InvalidInput
from aegate_graphql_api import documents
from aegate_graphql_api.documents import TrustedDocuments, document_id
from aegate_graphql_api.http_requests import Refusal
from aegate_graphql_api.policy import Policy

WHO = "query Who { viewer { name } }"


def trusted(path: Path, *, only: bool = False) -> TrustedDocuments:
    found = TrustedDocuments(Policy(documents=path, only_trusted=only))
    found.load()
    return found


def test_a_folder_of_documents_and_a_list_of_them_give_the_same(tmp_path: Path) -> None:
    folder, listed = tmp_path / "documents", tmp_path / "documents.json"
    folder.mkdir()
    (folder / "who.graphql").write_text(WHO)
    (folder / "notes.txt").write_text("no document")
    for key in (document_id(WHO), f"sha256:{document_id(WHO)}"):
        listed.write_text(json.dumps({key: WHO}))
        for path in (folder, listed):
            found = trusted(path)
            for name in (document_id(WHO), f"sha256:{document_id(WHO)}"):
                assert found.text_of({"documentId": name}) == WHO


def test_without_trusted_documents_every_text_is_taken_and_no_id() -> None:
    found = TrustedDocuments(Policy())
    found.load()
    assert found.text_of({"query": WHO}) == WHO
    with pytest.raises(Refusal, match="DOCUMENT_NOT_FOUND"):
        found.text_of({"documentId": document_id(WHO)})


def test_only_trusted_ones_are_run_where_it_is_said(tmp_path: Path) -> None:
    (tmp_path / "who.graphql").write_text(WHO)
    found = trusted(tmp_path, only=True)
    assert found.text_of({"query": WHO}) == WHO
    with pytest.raises(Refusal, match="DOCUMENT_NOT_TRUSTED"):
        found.text_of({"query": WHO + " "})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "is not JSON"),
        ("[]", "is not an object"),
        ('{"a": 1}', "is not an object"),
        ('{"abc": "{ viewer { name } }"}', "1 documents whose id is not their SHA-256"),
    ],
)
def test_a_list_that_cannot_be_used_is_told(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "documents.json"
    path.write_text(text)
    with pytest.raises(InvalidInput, match=told):
        trusted(path)
    with pytest.raises(InvalidInput, match="No such file"):
        trusted(tmp_path / "none.json")


def test_a_change_takes_effect_and_a_broken_one_does_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "documents.json"
    path.write_text(json.dumps({document_id(WHO): WHO}))
    found = trusted(path)
    more = "query More { viewer { name permissions } }"
    both = json.dumps({document_id(text): text for text in (WHO, more)})
    path.write_text(both)
    found.load()
    assert found.text_of({"documentId": document_id(more)}) == more
    path.write_text("{")
    found._looked_at -= documents.LOOK_AGAIN_S
    assert found.text_of({"documentId": document_id(more)}) == more
    assert "cannot be used" in caplog.text
    path.write_text(json.dumps({document_id(WHO): WHO}))
    os.utime(path, ns=(1, 1))
    found._looked_at -= documents.LOOK_AGAIN_S
    with pytest.raises(Refusal, match="DOCUMENT_NOT_FOUND"):
        found.text_of({"documentId": document_id(more)})
