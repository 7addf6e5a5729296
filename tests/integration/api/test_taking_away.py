"""What an operator on call takes away: queue items, and Application Entities; said before, and only once agreed to."""

from __future__ import annotations

from pathlib import Path

from tests.integration.api.shell import CT1, US1, Shell
from tests.integration.api.snapshots import snapshot


async def states(shell: Shell) -> dict[str, str]:
    items = await shell.shown("queue", "list", "--all")
    return {item["destinationAe"].removeprefix("default/"): item["state"] for item in items}


async def item_of(shell: Shell, name: str) -> str:
    (row,) = (await shell.type("queue", "list", "--all", "--to", name)).stdout.splitlines()[1:]
    return row.split()[0]


async def test_items_are_canceled_once_somebody_agrees(shell: Shell) -> None:
    item = await item_of(shell, "pacs")
    before = await snapshot(shell.api.db)
    tried = await shell.type("queue", "cancel", item, "--dry-run")
    assert tried.stdout == "1 found: 1 would be canceled\n"
    for arguments, found in (
        ((item,), "what was named is 1 items"),
        (("--to", "pacs"), "the filter finds 1 items"),
    ):
        asked = await shell.type("queue", "cancel", *arguments, code=2)
        assert (
            f"{found} and nobody can be asked: give --expect 1 to change just those, or --yes" in asked.stderr
        )
    stale = await shell.type("queue", "cancel", item, "--expect", "2", code=1)
    assert "expectedCount is 2, but 1 items match now" in stale.stderr
    assert (
        "DICOM_QUEUE"
        in (await shell.type("queue", "cancel", item, "--yes", token=shell.api.editor, code=4)).stderr
    )
    assert await snapshot(shell.api.db) == before

    done = await shell.type("queue", "cancel", item, "--yes", "--reason", "wrong patient")
    assert done.stdout == "1 found: 1 canceled\n"
    assert await states(shell) == {"pacs": "CANCELED", "ws1": "SCHEDULED"}
    (audit,) = await shell.api.audit()
    assert (audit["action"], "wrong patient" in str(audit["detail"])) == ("cancelQueueItems", True)


async def test_why_an_item_is_not_canceled_is_said_in_words(shell: Shell) -> None:
    pacs, ws1 = await item_of(shell, "pacs"), await item_of(shell, "ws1")
    await shell.api.db.execute("UPDATE delivery SET state = 'COMPLETED' WHERE id = $1", int(pacs[1:]))
    done = await shell.type("queue", "cancel", pacs, ws1, "q999", "--yes", code=1)
    assert done.stdout == "3 found: 1 canceled, 2 left as they were\n"
    assert sorted(done.stderr.splitlines()) == sorted(
        [
            f"{pacs} left: COMPLETED, it was delivered",
            "q999 left: NOT_FOUND, there is no such item, or none that your token may see",
        ]
    )
    assert await states(shell) == {"pacs": "COMPLETED", "ws1": "CANCELED"}


async def test_an_ae_is_deleted_once_somebody_agrees(shell: Shell, tmp_path: Path) -> None:
    folder = tmp_path / "manifests"
    (folder / "us1.yaml").write_text(US1)
    before = await snapshot(shell.api.db)
    tried = await shell.type("ae", "delete", "CT1", "default/us1", "ct1", "--dry-run")
    assert tried.stdout == (
        "default/ct1 (title CT1): its listener ends, its images stay, 0 queue items for it are held: would be deleted\n"
        "default/us1 (title US1): its listener ends, its images stay, 0 queue items for it are held: would be deleted\n"
    )
    asked = await shell.type("ae", "delete", "ct1", code=2)
    assert (
        "to delete this Application Entity somebody must agree and nobody can be asked: give --yes"
        in asked.stderr
    )
    assert "there is no such" in (await shell.type("ae", "delete", "ct1", "nobody", "--yes", code=1)).stderr
    forbidden = await shell.type("ae", "delete", "ct1", "--yes", token=shell.api.queue, code=4)
    assert "AE_EDITOR" in forbidden.stderr
    assert await snapshot(shell.api.db) == before
    assert (folder / "ct1.yaml").read_text() == CT1

    editor = await shell.type("ae", "delete", "ct1", "--dry-run", token=shell.api.editor)
    assert "what waits in the queue for it is held: would be deleted" in editor.stdout
    assert (await shell.type("ae", "delete", "ct1", "--yes")).stdout == "default/ct1 deleted\n"
    assert "ct1" not in "".join(file.read_text() for file in folder.iterdir())


async def test_if_one_ae_cannot_go_none_does(shell: Shell, tmp_path: Path) -> None:
    folder = tmp_path / "manifests"
    owned = US1.replace("name: us1", "name: us1\n  labels: {aegate.dev/managed-in: git}")
    (folder / "us1.yaml").write_text(owned)
    for more in (("--yes",), ("--dry-run",), ("--yes", "--take-over")):
        refused = await shell.type("ae", "delete", "ct1", "us1", *more, code=1)
        assert refused.stdout == ""
        assert "default/us1 refused: git owns" in refused.stderr
        assert refused.stderr.endswith("nothing was deleted\n")
    assert [(folder / f"{name}.yaml").read_text() for name in ("ct1", "us1")] == [CT1, owned]
