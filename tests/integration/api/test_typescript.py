"""The TypeScript example: typed by the schema, compiled, and run under Node against a served API."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from aegate_graphql_api.documents import TrustedDocuments
from aegate_graphql_api.policy import Policy
from tests import sentinel
from tests.integration.api.clients import API
from tests.integration.api.serving import Served, served_api
from tests.integration.nodejs.program import node, path_of

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "examples" / "typescript"
ITEMS = "{ queueItems(orderBy: OLDEST) { nodes { id state destinationAe } } }"


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example's program, built as its reader builds it: types from the schema, then the compiler."""
    folder = tmp_path_factory.mktemp("typescript")
    for part in ("package.json", "tsconfig.json", "codegen.ts"):
        shutil.copyfile(EXAMPLE / part, folder / part)
    shutil.copytree(EXAMPLE / "src", folder / "src", ignore=shutil.ignore_patterns("gql"))
    (folder / "node_modules").symlink_to(EXAMPLE / "node_modules")
    schema = {"AEGATE_SCHEMA": str(ROOT / "graphql_api" / "schema.graphql")}
    # As `npm run build` does it; npm itself is the system's, and may not run by this Node.
    built = subprocess.run(
        ["sh", "-c", json.loads((EXAMPLE / "package.json").read_text())["scripts"]["build"]],
        cwd=folder,
        env={**os.environ, **path_of(folder / "node_modules"), **schema},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return folder / "build" / "main.js"


async def start(
    program: Path, served: Served, *words: str, token: str | None = None
) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        node(),
        program,
        served.http,
        *words,
        env={**os.environ, "AEGATE_TOKEN": served.api.both if token is None else token},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def run(program: Path, served: Served, *words: str, token: str | None = None) -> tuple[int, list[str]]:
    """Return how it ended, and the lines that it wrote, to whichever stream."""
    child = await start(program, served, *words, token=token)
    out, err = await child.communicate()
    assert child.returncode is not None
    return child.returncode, (out + err).decode().splitlines()


async def test_it_finds_holds_and_is_told_what_is_refused(program: Path, api: API, served: Served) -> None:
    first, second = (await api.ask(ITEMS))["queueItems"]["nodes"]
    assert await run(program, served, "find", "modality:CT") == (
        0,
        [f"CT {sentinel.STUDY_DESCRIPTION}: 3 images"],
    )
    assert await run(program, served, "hold", first["id"], "being mended") == (
        0,
        [f"{first['id']} is HELD, version 2"],
    )
    assert await run(program, served, "hold", first["id"]) == (0, [f"{first['id']} was left: HELD"])
    code, [told] = await run(program, served, "hold", second["id"], "x" * 257)
    assert (code, told) == (
        0,
        "refused: reason may have 256 characters and no NUL: shorten it",
    )
    states = [(i["id"], i["state"]) for i in (await api.ask(ITEMS))["queueItems"]["nodes"]]
    assert states == [(first["id"], "HELD"), (second["id"], "SCHEDULED")]


async def test_a_server_that_runs_trusted_documents_alone_takes_what_the_build_wrote(program: Path) -> None:
    written = program.parents[1] / "src" / "gql" / "persisted-documents.json"
    trusted = TrustedDocuments(Policy(documents=written, only_trusted=True))
    trusted.load()
    for id, text in json.loads(written.read_text()).items():
        assert trusted.text_of({"documentId": id}) == text


async def test_an_error_keeps_its_code(program: Path, served: Served) -> None:
    code, [told] = await run(program, served, "find", "modality:CT", token=served.api.editor)
    assert code == 1
    assert told.startswith("FORBIDDEN: ")
    code, [told] = await run(program, served, "find", "nofield:CT")
    assert code == 1
    assert told.startswith("BAD_SEARCH: ")


async def test_a_watcher_with_a_wrong_token_is_told_so(program: Path, served: Served) -> None:
    assert await run(program, served, "watch", "1", token="wrong") == (
        1,
        ["UNAUTHENTICATED: the token is not valid (unknown, expired or revoked): ask for another"],
    )


async def test_it_goes_on_at_its_cursor_when_the_server_comes_back(program: Path, api: API) -> None:
    [first, second] = (await api.ask(ITEMS))["queueItems"]["nodes"]
    hold = "mutation($id: ID!) { holdQueueItems(selection: {ids: [$id]}) { __typename } }"
    async with served_api(api) as served:
        child = await start(program, served, "watch", "3")
        assert child.stdout is not None
        assert (await child.stdout.readline()).startswith(b"now: ")
    await api.ask(hold, id=first["id"])
    async with served_api(api, port=served.port):
        assert (await child.stdout.readline()).decode() == f"then: {first['destinationAe']} HELD\n"
        await api.ask(hold, id=second["id"])
        assert (await child.stdout.readline()).decode() == f"then: {second['destinationAe']} HELD\n"
        assert await child.wait() == 0


async def test_it_watches(program: Path, api: API, served: Served) -> None:
    [first, second] = (await api.ask(ITEMS))["queueItems"]["nodes"]
    child = await start(program, served, "watch", "2")
    assert child.stdout is not None
    both = sorted(f"{i['destinationAe']} SCHEDULED" for i in (first, second))
    assert (await child.stdout.readline()).decode() == f"now: {', '.join(both)}\n"
    await api.ask(
        "mutation($id: ID!) { holdQueueItems(selection: {ids: [$id]}) { __typename } }", id=first["id"]
    )
    assert (await child.stdout.readline()).decode() == f"then: {first['destinationAe']} HELD\n"
    assert await child.wait() == 0
