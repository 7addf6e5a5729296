"""Application Entities changed through the API where they are kept: the YAML files of a folder."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from aegate_core.database import as_json
from aegate_core.resources.validation import validate_manifests
from aegate_core.services.entities import apply_configuration
from aegate_core.services.manifests.folder import FolderManifests
from aegate_core.stores.index.freshness import seen
from tests.integration.api.clients import API, signed_in, writing_to
from tests.integration.api.editing import Editor

CT = """\
# the scanner in room 4
apiVersion: aegate.dev/v1alpha1
kind: ApplicationEntity
metadata: {name: ct1}
spec:
  title: CT1
  node: 10.1.2.3 # its address
  port: 104
"""
PACS = """\
apiVersion: aegate.dev/v1alpha1
kind: ApplicationEntity
metadata:
  name: pacs
  labels: {aegate.dev/managed-in: git}
spec: {title: PACS, node: 10.1.2.4, port: 104}
---
apiVersion: aegate.dev/v1alpha1
kind: ImageRoute
metadata: {name: to-pacs}
spec: {from: {aes: [ct1]}, to: [pacs]}
"""


@dataclass
class Folder(Editor):
    """The API over a folder of files."""

    api: API
    path: Path

    async def apply(self) -> None:
        """Do what the supervisor does when a file changed."""
        read = validate_manifests([str(self.path)])
        assert read.problems == ()
        await apply_configuration(self.api.db, read.resources, now=datetime.now(UTC))

    def files(self) -> dict[str, str]:
        return {file.name: file.read_text() for file in sorted(self.path.iterdir())}


@pytest.fixture
async def folder(empty_api: API, tmp_path: Path) -> AsyncIterator[Folder]:
    path = tmp_path / "hospital"
    path.mkdir()
    (path / "ct.yaml").write_text(CT)
    (path / "pacs.yaml").write_text(PACS)
    api = writing_to(empty_api, FolderManifests(path, empty_api.db))
    async with api.client:
        folder = Folder(api.client, api.editor, api, path)
        await folder.apply()
        yield folder


async def test_one_field_is_edited_in_its_file_and_the_rest_stays(folder: Folder) -> None:
    answer = await folder.update("ct1", 'port: 11112, comment: "room 4"')

    assert answer["__typename"] == "ApplicationEntityChanged"
    assert answer["applicationEntity"]["port"] == 11112
    assert folder.files() == {
        "ct.yaml": CT.replace("port: 104", "port: 11112") + "  comment: room 4\n",
        "pacs.yaml": PACS,
    }
    await folder.apply()
    assert {**answer["applicationEntity"], **await folder.seen("ct1")} == answer["applicationEntity"]
    await folder.update("ct1", "port: 104")
    assert folder.files()["ct.yaml"] == CT + "  comment: room 4\n"


async def test_a_change_leaves_an_intent_and_an_outcome(folder: Folder) -> None:
    await folder.update("ct1", "port: 11112")
    rows = await folder.api.db.fetch(
        "SELECT id, actor, action, target, outcome, intent_id FROM audit_event ORDER BY id"
    )
    assert [(r["actor"], r["action"], r["target"], r["outcome"]) for r in rows] == [
        ("editor-only", "updateApplicationEntity", "ApplicationEntity:default/ct1", "INTENT"),
        ("editor-only", "updateApplicationEntity", "ApplicationEntity:default/ct1", "DONE"),
    ]
    assert rows[1]["intent_id"] == rows[0]["id"]


async def test_what_no_manifest_may_say_is_refused_on_its_argument(folder: Folder) -> None:
    before = folder.files()
    for spec, field in (
        ("port: 70000", "input.spec.port"),
        ('title: "CT9"', "input.spec.title"),
        ('node: "0.0.0.0"', "input.spec.node"),
        ('push: {callingTitle: " x"}', "input.spec.push.callingTitle"),
        ('node: "ct1.example.org"', "input.spec.sourceRanges"),
    ):
        answer = await folder.update("ct1", spec)
        assert answer["__typename"] == "ValidationProblem", answer
        assert [error["field"] for error in answer["fieldErrors"]] == [field]
        assert "70000" not in answer["message"]
    assert folder.files() == before
    rows = await folder.api.audit()
    assert [(row["outcome"], as_json(row["detail"])) for row in rows] == [
        ("REFUSED", {"code": "INVALID_MANIFEST"})
    ] * 5


async def test_of_a_wish_that_is_too_long_the_audit_keeps_a_digest(folder: Folder) -> None:
    labels = {f"label-{n}": "x" * 63 for n in range(300)}
    spec = '{title: "MR_1", node: "10.1.2.9", port: 104}'
    made = await folder.change(
        "createApplicationEntity",
        f"input: {{spec: {spec}, labels: $labels}}",
        labels=("StringMap", labels),
    )

    assert made["__typename"] == "ApplicationEntityChanged"
    rows = await folder.api.audit()
    assert [row["outcome"] for row in rows] == ["INTENT", "DONE"]
    detail = as_json(rows[0]["detail"])
    assert isinstance(detail, dict)
    assert set(detail) == {"before", "digest", "takeOver"}
    assert detail["digest"]["bytes"] > 16 * 1024


async def test_a_new_one_is_a_new_file_and_no_second_of_its_name(folder: Folder) -> None:
    arguments = (
        'input: {spec: {title: "MR_1", node: "10.1.2.9", port: 104, push: {priority: 70}}, labels: $labels}'
    )
    labels = ("StringMap", {"department": "radiology"})

    made = await folder.change("createApplicationEntity", arguments, labels=labels)

    assert made["applicationEntity"]["name"] == "mr-1"
    assert made["applicationEntity"]["labels"] == {"department": "radiology"}
    assert set(folder.files()) == {"ct.yaml", "pacs.yaml", "mr-1.yaml"}
    await folder.apply()
    assert (await folder.seen("mr-1"))["version"] == made["applicationEntity"]["version"]
    again = await folder.change("createApplicationEntity", arguments, labels=labels)
    assert again["__typename"] == "ResourceConflictProblem"
    assert again["current"]["version"] == made["applicationEntity"]["version"]


async def test_one_that_is_kept_in_git_is_left_to_it(folder: Folder) -> None:
    before = folder.files()
    changed = await folder.update("pacs", "port: 11112", "takeOver: true")
    expected = {"manager": "git", "fields": ["spec.port"], "canTakeOver": False}
    assert {name: changed[name] for name in expected} == expected
    id = (await folder.seen("pacs"))["id"]
    deleted = await folder.change("deleteApplicationEntity", "input: {id: $id}", id=("ID!", id))
    assert deleted["__typename"] == "ManagedElsewhereProblem"
    assert folder.files() == before


async def test_who_saw_an_older_version_gets_the_one_of_now(folder: Folder) -> None:
    version = (await folder.seen("ct1"))["version"]
    guard = f'version: "{version}"'
    assert (await folder.update("ct1", "port: 11112", guard))["__typename"] == "ApplicationEntityChanged"

    late = await folder.update("ct1", 'comment: "mine"', guard)

    assert late["__typename"] == "ResourceConflictProblem"
    assert late["current"]["port"] == 11112
    assert folder.files()["ct.yaml"] == CT.replace("104", "11112")
    guard = f'version: "{late["current"]["version"]}"'
    assert (await folder.update("ct1", 'comment: "mine"', guard))["applicationEntity"]["port"] == 11112


async def test_many_at_once_lose_nothing(folder: Folder) -> None:
    specs = ["port: 11112", 'comment: "x"', "enabled: false", "suspend: true", "maxConnections: 9"]
    answers = await asyncio.gather(*(folder.update("ct1", spec) for spec in specs))
    assert {answer["__typename"] for answer in answers} == {"ApplicationEntityChanged"}
    lines = folder.files()["ct.yaml"].removeprefix(CT.replace("104", "11112")).splitlines()
    assert sorted(lines) == ["  comment: x", "  enabled: false", "  maxConnections: 9", "  suspend: true"]


async def test_deleting_takes_the_object_out_of_its_file_but_never_the_last(folder: Folder) -> None:
    id = (await folder.seen("ct1"))["id"]
    gone = await folder.change("deleteApplicationEntity", "input: {id: $id}", id=("ID!", id))
    assert gone["applicationEntity"]["title"] == "CT1"
    assert folder.files() == {"pacs.yaml": PACS}
    again = await folder.change("deleteApplicationEntity", "input: {id: $id}", id=("ID!", id))
    assert again["code"] == "NOT_FOUND"

    (folder.path / "pacs.yaml").unlink()
    (folder.path / "ct.yaml").write_text(CT)
    last = await folder.change("deleteApplicationEntity", "input: {id: $id}", id=("ID!", id))
    assert last["code"] == "CONFLICT"
    assert folder.files() == {"ct.yaml": CT}


async def test_switches_and_a_dry_run(folder: Folder) -> None:
    id = (await folder.seen("ct1"))["id"]
    off = await folder.change(
        "setApplicationEntityEnabled", "input: {id: $id}, enabled: false", id=("ID!", id)
    )
    assert off["applicationEntity"]["enabled"] is False
    assert folder.files()["ct.yaml"] == CT + "  enabled: false\n"
    tried = await folder.change(
        "validateApplicationEntity", "input: {update: {id: $id, spec: {port: 0}}}", id=("ID!", id)
    )
    assert tried["fieldErrors"][0]["field"] == "input.update.spec.port"
    tried = await folder.change(
        "validateApplicationEntity", "input: {update: {id: $id, spec: {port: 1}}}", id=("ID!", id)
    )
    assert (tried["dryRun"], tried["applicationEntity"]["port"]) == (True, 1)
    neither = await folder.change("validateApplicationEntity", "input: {}")
    assert neither["code"] == "INVALID_VALUE"
    assert folder.files()["ct.yaml"] == CT + "  enabled: false\n"
    assert [row["outcome"] for row in await folder.api.audit()] == ["INTENT", "DONE"]


async def test_a_file_that_a_person_broke_is_left_to_them(folder: Folder) -> None:
    (folder.path / "ct.yaml").write_text(CT + "   : [\n")
    answer = await folder.update("ct1", "port: 1")
    assert answer["__typename"] == "ResourceConflictProblem"
    assert "ct.yaml:9" in answer["message"]
    assert folder.files()["ct.yaml"] == CT + "   : [\n"


async def test_ae_editor_of_one_namespace_reaches_no_other(folder: Folder) -> None:
    before = folder.files()
    id = (await folder.seen("ct1"))["id"]
    other = signed_in(folder.api, lambda caller: replace(caller, namespaces=frozenset({"other"})))
    narrow = replace(folder, client=other.client)
    async with other.client:
        foreign = await narrow.change("deleteApplicationEntity", "input: {id: $id}", id=("ID!", id))
        absent = await narrow.change(
            "setApplicationEntityEnabled", "input: {id: $id}, enabled: true", id=("ID!", id)
        )
        assert {foreign["code"], absent["code"]} == {"NOT_FOUND"}
        assert [row["outcome"] for row in await folder.api.audit()] == ["INTENT", "REFUSED"] * 2
        spec = 'spec: {title: "X", node: "10.0.0.1", port: 1}'
        made = await narrow.change("createApplicationEntity", f"input: {{{spec}}}")
        assert made["code"] == "FORBIDDEN"
        mine = await narrow.change("createApplicationEntity", f'input: {{namespace: "other", {spec}}}')
        assert mine["__typename"] == "ApplicationEntityChanged"
    assert {**folder.files(), **before} == folder.files()
    assert set(folder.files()) - set(before) == {"x.yaml"}


async def test_without_a_place_to_write_nothing_is_promised(api: API) -> None:
    folder = Folder(api.client, api.editor, api, Path("/nowhere"))
    answer = await folder.update("ct1", "port: 1")
    assert (answer["__typename"], answer["code"]) == ("UnavailableProblem", "UNAVAILABLE")
    assert await api.audit() == []


async def test_rows_that_nobody_compares_any_more_are_shown_as_stale(folder: Folder) -> None:
    async def seen_ago(minutes: int, *namespaces: str) -> bool:
        async with folder.api.db.transaction() as tx:
            now = datetime.now(UTC) - timedelta(minutes=minutes)
            await seen(tx, namespaces, resync_s=600, now=now)
        stale = (await folder.seen("ct1"))["isStale"]
        assert isinstance(stale, bool)
        return stale

    assert (await folder.seen("ct1"))["isStale"] is False
    assert await seen_ago(19) is False
    assert await seen_ago(21) is True
    assert await seen_ago(1, "another") is True
    assert await seen_ago(1, "another", "default") is False
    written = await folder.update("ct1", "port: 1")
    assert written["applicationEntity"]["isStale"] is False


ROUTE = """
  __typename
  ... on ImageRouteChanged { imageRoute { id name to priority } }
  ... on Problem { code }
  ... on ValidationProblem { fieldErrors { field } }
"""
PARTITION = """
  __typename
  ... on PatientPartitionChanged { patientPartition { id name displayName } }
  ... on Problem { code }
"""


async def test_routes_and_partitions_are_changed_the_same_way(folder: Folder) -> None:
    ask = folder.api.ask
    made = await ask(
        'mutation { createImageRoute(input: {name: "again", spec: {from: {aes: ["ct1"], modalities: ["CT"]}, '
        f'to: ["pacs"]}}}}) {{ {ROUTE} }} }}',
        token=folder.api.queue,
    )
    route = made["createImageRoute"]["imageRoute"]
    assert (route["name"], route["to"]) == ("again", ["pacs"])
    changes = (
        f"mutation($id: ID!) {{ updateImageRoute(input: {{id: $id, spec: {{priority: 90}}}}) {{ {ROUTE} }} }}"
    )
    changed = await ask(changes, id=route["id"])
    assert changed["updateImageRoute"]["imageRoute"]["priority"] == 90
    wrong = await ask(changes.replace("priority: 90", 'to: ["ct1"]'), id=route["id"])
    assert [e["field"] for e in wrong["updateImageRoute"]["fieldErrors"]] == ["input.spec.to"]
    assert folder.files()["again.yaml"].endswith("  priority: 90\n")
    deletes = f"mutation($id: ID!) {{ deleteImageRoute(input: {{id: $id}}) {{ {ROUTE} }} }}"
    gone = await ask(deletes, id=route["id"])
    assert gone["deleteImageRoute"]["__typename"] == "ImageRouteChanged"
    assert "again.yaml" not in folder.files()

    house = await ask(
        'mutation { createPatientPartition(input: {name: "house", spec: {displayName: "Main House"}}) '
        f"{{ {PARTITION} }} }}",
        token=folder.api.editor,
    )
    assert house["createPatientPartition"]["patientPartition"]["displayName"] == "Main House"
    narrow = signed_in(folder.api, lambda caller: replace(caller, partitions=frozenset({"default/other"})))
    async with narrow.client:
        refused = await narrow.ask(deletes, id=route["id"])
        assert refused["deleteImageRoute"]["code"] == "NOT_FOUND"
        id = house["createPatientPartition"]["patientPartition"]["id"]
        foreign = await narrow.ask(
            f"mutation($id: ID!) {{ deletePatientPartition(input: {{id: $id}}) {{ {PARTITION} }} }}", id=id
        )
        assert foreign["deletePatientPartition"]["code"] == "NOT_FOUND"
    assert "house.yaml" in folder.files()


async def test_routes_and_partitions_are_judged_without_writing(folder: Folder) -> None:
    before = folder.files()
    problem = "... on ValidationProblem { code fieldErrors { field } } ... on Problem { code }"
    judge = f"""{{
      good: validateImageRoute(input: {{create: {{name: "again", spec: {{from: {{aes: ["ct1"]}}, to: ["pacs"]}}}}}}) {{
        ... on ImageRouteChanged {{ dryRun imageRoute {{ name }} }} {problem} }}
      bad: validateImageRoute(input: {{create: {{name: "Again", spec: {{from: {{aes: ["ct1"]}}, to: ["pacs"]}}}}}}) {{
        {problem} }}
      neither: validateImageRoute(input: {{}}) {{ {problem} }}
      house: validatePatientPartition(input: {{create: {{name: "house", spec: {{displayName: "Main"}}}}}}) {{
        ... on PatientPartitionChanged {{ dryRun patientPartition {{ displayName }} }} {problem} }}
      gone: validatePatientPartition(input: {{update: {{id: "UGF0aWVudFBhcnRpdGlvbjphL2I", spec: {{}}}}}}) {{
        {problem} }}
    }}"""
    told = await folder.api.ask(judge)
    assert told["good"] == {"dryRun": True, "imageRoute": {"name": "again"}}
    assert [e["field"] for e in told["bad"]["fieldErrors"]] == ["input.create.name"]
    assert told["neither"]["code"] == "INVALID_VALUE"
    assert told["house"] == {"dryRun": True, "patientPartition": {"displayName": "Main"}}
    assert told["gone"]["code"] == "NOT_FOUND"
    assert folder.files() == before
    assert await folder.api.audit() == []
