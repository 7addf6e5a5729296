"""An operator on call with nothing but the `aegate` command, a served API, and tokens that may and may not."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path

import pytest

from aegate_core.resources.manifest_of import to_manifest
from aegate_core.resources.values import Metadata, PatientPartition, RouteFrom
from aegate_core.resources.yaml_text import block
from aegate_core.services.studies import close_due
from aegate_graphql_api.operating import operate
from tests import sentinel
from tests.dicom import ct_study
from tests.integration.api.clients import API, BEFORE
from tests.integration.api.losing import losing
from tests.integration.api.many_items import copy_item
from tests.integration.api.serving import rules_of, served_api
from tests.integration.api.shell import CT1, US1, Shell
from tests.integration.api.snapshots import snapshot
from tests.integration.cli.installations import ROUTE, device
from tests.integration.intake.hospital import HOSPITAL, entity, key, route

DOCUMENTS = Path(__file__).parents[3] / "cli/aegate_cli/api/documents"
PAGE = Path(__file__).parents[3] / "docs/operations/on-call.md"
ACCESSION = sentinel.ACCESSION_NUMBER


async def states(shell: Shell) -> list[tuple[str, str]]:
    items = await shell.shown("queue", "list", "--all")
    return sorted((item["destinationAe"], item["state"]) for item in items)


async def test_the_queue_is_listed_held_resumed_retried_and_bumped(shell: Shell) -> None:
    listed = await shell.type("queue", "list", "--order", "oldest")
    lines = listed.stdout.splitlines()
    assert lines[0].split()[:5] == ["item", "state", "from", "to", "accession"]
    to_pacs = next(line.split()[0] for line in lines if " default/pacs " in line)
    assert re.fullmatch(r"q\d+", to_pacs)
    assert listed.stderr == ""

    assert (await shell.type("queue", "hold", to_pacs, "--reason", "look")).stdout == "1 found: 1 held\n"
    held = await shell.shown("queue", "list", "--state", "held", "--to", "PACS")
    assert [(i["holdReason"], i["whyNotMoving"]["code"]) for i in held] == [("look", "HELD")]
    again = await shell.type("queue", "hold", to_pacs, code=1)
    assert again.stdout == "1 found: 0 held, 1 left as they were\n"
    assert again.stderr == f"{to_pacs} left: HELD, it is held\n"
    assert (await shell.type("queue", "resume", "--to", "pacs", "--yes")).stdout == "1 found: 1 resumed\n"
    assert await states(shell) == [("default/pacs", "SCHEDULED"), ("default/ws1", "SCHEDULED")]

    assert (await shell.type("queue", "bump", to_pacs)).stdout == "1 found: 1 bumped\n"
    first = await shell.shown("queue", "list", "--order", "next", "--limit", "1")
    assert [(i["destinationAe"], i["bumpedAt"] is not None) for i in first] == [("default/pacs", True)]

    await shell.api.db.execute("UPDATE delivery SET state = 'FAILED', error_code = 'REFUSED'")
    retried = await shell.type("queue", "retry", "--state", "failed", "--from", "ct1", "--expect", "1")
    assert retried.stdout == "1 found: 1 retried\n"
    assert await states(shell) == [("default/pacs", "SCHEDULED"), ("default/ws1", "FAILED")]


async def test_a_filter_changes_nothing_until_somebody_agrees(shell: Shell) -> None:
    before = await snapshot(shell.api.db)
    refused = await shell.type("queue", "hold", "--state", "scheduled", code=2)
    assert "the filter finds 2 items and nobody can be asked: give --expect 2" in refused.stderr
    stale = await shell.type("queue", "hold", "--state", "scheduled", "--expect", "3", code=1)
    assert "expectedCount is 3, but 2 items match now" in stale.stderr
    tried = await shell.type("queue", "hold", "--state", "scheduled", "--dry-run")
    assert tried.stdout == "2 found: 2 would be held\n"
    none = await shell.type("queue", "retry", "--state", "failed")
    assert (none.stdout, none.stderr) == ("", "no queue items found: nothing changed\n")
    assert "expected which items, got none" in (await shell.type("queue", "bump", code=2)).stderr
    both = await shell.type("queue", "bump", "q1", "--to", "pacs", code=2)
    assert "expected items such as q17, or studies and a filter, got both" in both.stderr
    assert await snapshot(shell.api.db) == before


async def test_studies_with_a_filter_are_none_of_another_partition(shell: Shell) -> None:
    place = shell.api.place
    await place.apply(
        *HOSPITAL,
        PatientPartition(Metadata(key("other"))),
        entity("ct2", patient_partition="other"),
        entity("ws2", patient_partition="other"),
        route("ct2-to-ws2", ["ws2"], RouteFrom(aes=("ct2",))),
    )
    place.receive_all([*ct_study("one", 1), *ct_study("two", 1)], "ct2", BEFORE)
    await place.index(BEFORE)
    await place.db.execute("UPDATE indexer_state SET scanned_at = $1", datetime.now(UTC))
    await close_due(place.db, now=BEFORE + timedelta(minutes=30))
    (one,) = await shell.shown("study", "find", "--from", "ct1")
    others = await shell.shown("study", "find", "--from", "ct2")
    (two,) = [study for study in others if study["studyInstanceUid"] != one["studyInstanceUid"]]
    assert len(others) == 2
    held = await shell.type("queue", "hold", one["id"], two["id"], "--state", "scheduled", "--yes")
    assert held.stdout == "2 found: 2 held\n"
    left = await place.db.fetch("SELECT partition, unit_uid FROM delivery WHERE state = 'SCHEDULED'")
    assert ("default/other", one["studyInstanceUid"]) in [(r["partition"], r["unit_uid"]) for r in left]
    assert len(left) == 2


async def test_words_come_from_standard_input_and_an_empty_line_changes_nothing(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    (item,) = await shell.shown("queue", "list", "--to", "pacs")
    monkeypatch.setattr(sys, "stdin", StringIO(f"accession:{ACCESSION} ae:ct1\n" * 2 + "\n"))
    assert [found["id"] for found in await shell.shown("queue", "list", "-")] == [item["id"]]
    held = await shell.type("queue", "hold", "--search", "-", "--state", "scheduled", "--yes")
    assert held.stdout == "1 found: 1 held\n"
    before = await snapshot(shell.api.db)
    refused = await shell.type("queue", "resume", "--search", "-", "--state", "held", "--yes", code=2)
    assert "expected words to search for, got none" in refused.stderr
    assert await snapshot(shell.api.db) == before


async def test_what_may_mean_two_things_is_refused_and_an_accession_number_may_look_like_anything(
    shell: Shell,
) -> None:
    (study,) = await shell.shown("study", "find", "--from", "ct1")
    (item,) = await shell.shown("queue", "list", "--to", "pacs")
    name = (await shell.type("queue", "list", "--to", "pacs")).stdout.splitlines()[1].split()[0]
    before = await snapshot(shell.api.db)

    async def renumber(number: str) -> None:
        await shell.api.db.execute(
            "UPDATE study SET accession_number = $1 WHERE source_ae = 'default/ct1'", number
        )

    await renumber(name)
    for command in (("hold",), ("explain",)):
        refused = await shell.type("queue", *command, name, code=1)
        assert f"write {item['id']} for the one, AE/{name} for the other" in refused.stderr
    for one in ((item["id"], item["id"]), (f"ct1/{name}",)):
        assert (await shell.type("queue", "hold", *one, "--dry-run")).stdout == "1 found: 1 would be held\n"
    row = (await shell.type("study", "find", "--from", "ct1")).stdout.splitlines()[1].split()[0]
    await renumber(row)
    assert (
        "is the short form of an id and an accession number"
        in (await shell.type("study", "send", row, "--to", "ws1", code=1)).stderr
    )
    for number in ("q999", "s999", "1.2.34", "1.2.826.0.1.3680043.8.498.1"):
        await renumber(number)
        tried = await shell.type("queue", "hold", number, "--dry-run")
        assert tried.stdout == "1 found: 1 would be held\n"
    await renumber(study["accessionNumber"])
    after = await snapshot(shell.api.db)
    assert after["delivery"] == before["delivery"]


async def test_a_destination_is_held_and_let_go_by_its_name(shell: Shell) -> None:
    assert (await shell.type("queue", "hold", "--destination", "PACS")).stdout == "default/pacs held\n"
    twice = await shell.type("queue", "hold", "--destination", "default/pacs")
    assert twice.stdout == "default/pacs was so already: nothing changed\n"
    (item,) = await shell.shown("queue", "list", "--to", "pacs")
    explained = await shell.type("queue", "explain", item["id"])
    assert "held by both since" in explained.stdout
    assert (await shell.type("queue", "resume", "--destination", "pacs")).stdout == "default/pacs resumed\n"
    absent = await shell.type("queue", "hold", "--destination", "nowhere", code=1)
    assert absent.stderr.startswith("aegate: there is no destination of this name")


async def test_studies_are_found_sent_and_explained_by_what_people_call_them(shell: Shell) -> None:
    found = await shell.shown("study", "find", "quillonia", "--modality", "ct")
    assert [(s["instanceCount"], s["sourceAe"]) for s in found] == [(3, "default/ct1")]
    uid = found[0]["studyInstanceUid"]
    table = await shell.type("study", "find", "quillonia", "--limit", "1")
    name = table.stdout.splitlines()[1].split()[0]
    assert (
        table.stderr == "1 of 2 studies shown, there are more: narrow it, or raise --limit (1000 at most)\n"
    )
    assert re.fullmatch(r"s\d+", name)
    assert (await shell.type("study", "find", "nobody-of-this-name")).stderr == "no studies found\n"

    several = await shell.type("study", "send", ACCESSION, "--to", "ws1", code=1)
    assert re.search(r"several studies are meant: write one of s\d+ \(from default/", several.stderr)
    narrowed = await shell.type("study", "send", f"ct1/{ACCESSION}", "--to", "ws1", "--dry-run")
    assert narrowed.stdout == "1 queue items would be made, to default/ws1\n"
    sent = [await shell.shown("study", "send", uid, "--to", "WS1", "--key", "k") for _ in range(2)]
    assert sent[0] == sent[1]
    assert [item["destinationAe"] for item in sent[0]["items"]] == ["default/ws1"]
    assert len(await states(shell)) == 3

    explained = (await shell.type("queue", "explain", uid)).stdout
    assert re.search(r"^queue     q\d+ to default/ws1 SCHEDULED 0/3", explained, re.MULTILINE)
    assert "route     default/ct-to-pacs fits what default/ct1 sent → default/pacs" in explained
    assert "route     default/us-to-ws does not fit what default/ct1 sent" in explained
    assert (await shell.type("queue", "explain", "A-no-such", code=1)).stderr.startswith(
        "aegate: there is no such study"
    )
    assert (await shell.type("queue", "bump", uid, "--to", "ws1", "--yes")).stdout == "1 found: 1 bumped\n"


async def test_what_a_token_may_not_do_is_said_and_changes_nothing(shell: Shell) -> None:
    before = await snapshot(shell.api.db)
    for arguments, permission in (
        (("queue", "list"), "DICOM_QUEUE"),
        (("queue", "hold", "q1"), "DICOM_QUEUE"),
        (("study", "find"), "DICOM_QUEUE"),
    ):
        refused = await shell.type(*arguments, token=shell.api.editor, code=4)
        assert permission in refused.stderr
        assert "ask for a token that has it" in refused.stderr
    assert "AE_EDITOR" in (await shell.type("ae", "list", token=shell.api.queue, code=4)).stderr
    unknown = await shell.type("queue", "list", token="aegate_nobody", code=4)
    assert "the token is not valid" in unknown.stderr
    assert await snapshot(shell.api.db) == before


async def test_an_ae_goes_out_as_a_manifest_and_comes_back(shell: Shell, tmp_path: Path) -> None:
    kept, manifest = tmp_path / "manifests" / "ct1.yaml", tmp_path / "ct1.yaml"
    listed = (await shell.type("ae", "list")).stdout.splitlines()
    assert listed[0].split()[:4] == ["name", "title", "node", "port"]
    assert listed[1].split()[:4] == ["default/ct1", "CT1", "127.0.0.1", "104"]
    printed = (await shell.type("ae", "get", "CT1")).stdout
    manifest.write_text(printed)
    same = await shell.type("ae", "apply", "-f", manifest)
    assert (same.stdout, same.stderr) == ("ApplicationEntity default/ct1 unchanged\n", "")

    manifest.write_text(printed.replace("port: 104", "port: 11112"))
    tried = await shell.type("ae", "apply", "-f", manifest, "--dry-run")
    assert tried.stdout == "ApplicationEntity default/ct1 changed\n"
    assert kept.read_text() == CT1
    manifest.write_text(manifest.read_text() + "---" + device("mr1") + "---" + ROUTE)
    done = await shell.type("ae", "apply", "-f", manifest)
    assert done.stdout == (
        "ApplicationEntity default/ct1 changed\nApplicationEntity default/mr1 created\n"
        "ImageRoute default/to-pacs created\n"
    )
    assert kept.read_text() == CT1.replace("port: 104", "port: 11112")
    written = "".join(file.read_text() for file in kept.parent.iterdir() if file != kept)
    assert "title: MR1" in written
    assert "kind: ImageRoute" in written


async def test_labels_that_stand_as_in_the_file_are_no_change(shell: Shell, tmp_path: Path) -> None:
    labelled = (
        PatientPartition(Metadata(key("main"), labels={"house": "main"})),
        replace(route("ct-to-ws", ["ws1"]), metadata=Metadata(key("ct-to-ws"), labels={"house": "main"})),
    )
    await shell.api.place.apply(*HOSPITAL, *labelled)
    manifest = tmp_path / "labelled.yaml"
    manifest.write_text("---\n".join(block(to_manifest(resource), 0) for resource in labelled))
    same = await shell.type("ae", "apply", "-f", manifest)
    assert same.stdout == "PatientPartition default/main unchanged\nImageRoute default/ct-to-ws unchanged\n"


async def test_what_a_file_leaves_out_stays_until_it_is_pruned(shell: Shell, tmp_path: Path) -> None:
    kept, manifest = tmp_path / "manifests" / "us1.yaml", tmp_path / "us1.yaml"
    kept.write_text(US1)
    manifest.write_text(device("us1"))
    stays = await shell.type("ae", "apply", "-f", manifest)
    assert stays.stdout == "ApplicationEntity default/us1 unchanged\n"
    assert stays.stderr.endswith(
        ": not in the file, and stays without --prune: spec.routeLevel, spec.study.maxAgeSeconds\n"
    )
    assert kept.read_text() == US1
    pruned = await shell.type("ae", "apply", "-f", manifest, "--prune")
    assert (pruned.stdout, pruned.stderr) == ("ApplicationEntity default/us1 changed\n", "")
    assert "port: 104" in kept.read_text()
    assert "routeLevel" not in kept.read_text()
    assert "maxAgeSeconds" not in kept.read_text()


async def test_what_cannot_be_applied_is_said_with_its_line_and_changes_nothing(
    shell: Shell, tmp_path: Path
) -> None:
    kept, manifest = tmp_path / "manifests" / "ct1.yaml", tmp_path / "wrong.yaml"
    manifest.write_text(device("ct1", 70000))
    wrong = await shell.type("ae", "apply", "-f", manifest, code=2)
    assert "wrong.yaml:9: ApplicationEntity default/ct1 spec.port: expected" in wrong.stderr
    assert "nothing was changed: 1 problems, each named above" in wrong.stderr
    manifest.write_text(device("ct1", 105).replace("name: ct1", 'name: ct1\n  resourceVersion: "1"'))
    stale = await shell.type("ae", "apply", "-f", manifest, code=1)
    assert "ApplicationEntity default/ct1 refused: it is not as it was" in stale.stderr
    manifest.write_text(device("ct9").replace("title: CT9", "title: ANOTHER"))
    named = await shell.type("ae", "apply", "-f", manifest, code=2)
    assert "wrong.yaml" in named.stderr
    manifest.write_text(device("ct1", 105))
    forbidden = await shell.type("ae", "apply", "-f", manifest, token=shell.api.queue, code=4)
    assert "AE_EDITOR" in forbidden.stderr
    assert kept.read_text() == CT1


async def test_what_git_owns_is_named_and_left_alone(shell: Shell, tmp_path: Path) -> None:
    kept, manifest = tmp_path / "manifests" / "ct1.yaml", tmp_path / "changed.yaml"
    owned = CT1.replace("name: ct1", "name: ct1\n  labels: {aegate.dev/managed-in: git}")
    kept.write_text(owned)
    manifest.write_text(owned.replace("port: 104", "port: 105"))
    for more in ((), ("--take-over",)):
        refused = await shell.type("ae", "apply", "-f", manifest, *more, code=1)
        assert "ApplicationEntity default/ct1 refused: git owns" in refused.stderr
        assert "change it there" in refused.stderr
    assert kept.read_text() == owned


async def test_a_change_of_many_is_followed_to_its_end(shell: Shell) -> None:
    for dry_run in ("true", "false"):
        begun = await shell.api.ask(
            "mutation { holdQueueItems(selection: {where: {state: {eq: SCHEDULED}}}, guard: {expectedCount: 2, "
            f"asOperation: true, dryRun: {dry_run}}}) {{ ... on OperationStarted {{ operation {{ id }} }} }} }}"
        )
        assert begun["holdQueueItems"]["operation"]["id"]
    async with operating(shell), losing(shell.port) as way:
        way.word, way.losses = b"AegateOperation", 2
        tried = await shell.type("queue", "wait", "o1", "--server", f"http://127.0.0.1:{way.port}")
    async with operating(shell):
        followed = await shell.type("queue", "wait", "o2")
    assert tried.stdout == "o1 COMPLETED: 2 found, 2 would be changed, 0 being sent, 0 left\n"
    assert followed.stdout == "o2 COMPLETED: 2 found, 2 changed, 0 being sent, 0 left\n"
    assert await states(shell) == [("default/pacs", "HELD"), ("default/ws1", "HELD")]
    assert "there is no such operation" in (await shell.type("queue", "wait", "o77", code=1)).stderr


@asynccontextmanager
async def operating(shell: Shell) -> AsyncIterator[None]:
    """Carry on with what goes on by itself, as the API's process does."""
    working = asyncio.create_task(operate(shell.api.db, 1))
    try:
        yield
    finally:
        working.cancel()


async def test_more_than_a_dry_run_tries_at_once_are_counted_all_the_same(shell: Shell) -> None:
    await copy_item(shell.api.db, 5_000)
    refused = await shell.type("queue", "hold", "--to", "pacs", code=2)
    assert "the filter finds 5001 items and nobody can be asked: give --expect 5001" in refused.stderr
    begun = await shell.type("queue", "hold", "--to", "pacs", "--dry-run", "--no-wait")
    assert re.fullmatch(r"5001 found: begun as (o\d+); `aegate queue wait \1` follows it\n", begun.stdout)
    ended = await shell.api.db.fetch("SELECT state FROM operation ORDER BY id")
    assert [row["state"] for row in ended] == ["CANCELED", "SCHEDULED"]
    assert await shell.api.place.count("delivery", "state <> 'SCHEDULED'") == 0


async def test_more_than_are_sent_at_once_are_followed_to_their_end(shell: Shell) -> None:
    (study, *_) = await shell.shown("study", "find", "--from", "ct1")
    wanted = [study["id"]] * 26, ["--to", "ws1"] * 20
    async with operating(shell):
        sent = await shell.type("study", "send", *wanted[0], *wanted[1])
    assert sent.stdout == "o1 COMPLETED: 1 found, 1 changed, 0 being sent, 0 left\n"
    assert await states(shell) == [("default/pacs", "SCHEDULED"), *[("default/ws1", "SCHEDULED")] * 2]


async def test_what_was_sent_without_an_answer_is_sent_once_when_it_is_repeated_as_told(shell: Shell) -> None:
    async with losing(shell.port) as way:
        way.word, way.losses = b"sendStudies", 1
        send = (
            "study",
            "send",
            f"ct1/{ACCESSION}",
            "--to",
            "ws1",
            "--server",
            f"http://127.0.0.1:{way.port}",
        )
        lost = await shell.type(*send, code=3)
        told = re.search(
            r"it may have been done: repeat with --key ([0-9a-f-]{36}), which sends", lost.stderr
        )
        assert told
        again = await shell.type(*send, "--key", told[1])
        assert again.stdout.startswith("1 queue items made, to default/ws1\n")
        way.losses = 1
        tried = await shell.type(*send, "--dry-run", code=3)
    assert "--key" not in tried.stderr
    assert await shell.api.place.count("delivery", "requested_by = 'person:both'") == 1


async def test_the_page_for_people_on_call_does_what_it_shows(shell: Shell, tmp_path: Path) -> None:
    studies = await shell.shown("study", "find", "--from", "ct1")
    (item,) = await shell.shown("queue", "list", "--to", "pacs")
    blocks = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    script = "".join(block for block in blocks if "export" not in block)
    script = script.replace("q17", item["id"]).replace("A4711", studies[0]["studyInstanceUid"])
    command = [
        "bash",
        "-euo",
        "pipefail",
        "-c",
        f'aegate() {{ "{sys.executable}" -m aegate_cli "$@"; }}\n{script}',
    ]
    done = await asyncio.to_thread(subprocess.run, command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "no queue items found\n")
    assert "port: 11112" in (tmp_path / "manifests" / "ct1.yaml").read_text()
    assert await states(shell) == [
        ("default/pacs", "SCHEDULED"),
        ("default/ws1", "SCHEDULED"),
        ("default/ws1", "SCHEDULED"),
    ]


async def test_an_api_of_trusted_documents_takes_the_commands_once_it_has_theirs(
    api: API, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    laid_down, token = tmp_path / "documents", tmp_path / "token"
    laid_down.mkdir()
    (laid_down / "other.graphql").write_text("query Other { viewer { name } }")
    monkeypatch.setenv("AEGATE_TOKEN_FILE", str(token))
    for folder, code in ((laid_down, 1), (DOCUMENTS, 0)):
        async with served_api(api, rules=rules_of(api, documents=folder, only_trusted=True)) as here:
            monkeypatch.setenv("AEGATE_SERVER", f"http://127.0.0.1:{here.port}")
            said = await Shell(api, token, here.port).type("queue", "list", code=code)
        assert ("lay down the documents of this command" in said.stderr) == bool(code)
