"""A shell in which an operator on call types `aegate` commands, and the API that they ask."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from aegate_cli.__main__ import main
from aegate_core.resources.manifest_of import to_manifest
from aegate_core.resources.yaml_text import block
from aegate_core.services.manifests.folder import FolderManifests
from tests import sentinel
from tests.integration.api.clients import API, writing_to
from tests.integration.api.serving import served_api
from tests.integration.intake.hospital import HOSPITAL

CT1, US1 = (block(to_manifest(resource), 0) for resource in HOSPITAL[:2])


@dataclass(frozen=True)
class Said:
    """What a command said."""

    code: int
    stdout: str
    stderr: str


def run(arguments: list[str]) -> Said:
    """Run the command in this process: a new one for each would take most of the time."""
    stdout, stderr = StringIO(), StringIO()
    with redirect_stdout(stdout), redirect_stderr(stderr), pytest.raises(SystemExit) as ended:
        main(arguments)
    return Said(int(ended.value.code or 0), stdout.getvalue(), stderr.getvalue())


@dataclass
class Shell:
    """Where the operator types."""

    api: API
    token: Path
    port: int

    async def type(self, *arguments: str | Path, token: str | None = None, code: int = 0) -> Said:
        """Run a command; its exit code must be ``code``, and its standard error without patient data."""
        self.token.write_text((token or self.api.both) + "\n")
        said = await asyncio.to_thread(run, [str(a) for a in arguments])
        assert said.code == code, said
        sentinel.assert_absent(said.stderr, f"what aegate {arguments[0]} says")
        return said

    async def shown(self, *arguments: str, **more: Any) -> Any:
        """Return what a command prints as JSON."""
        return json.loads((await self.type(*arguments, "-o", "json", **more)).stdout)


@asynccontextmanager
async def opened_shell(api: API, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Shell]:
    """Serve ``api`` over a folder that holds ct1, and name it to the commands."""
    folder = tmp_path / "manifests"
    folder.mkdir()
    (folder / "ct1.yaml").write_text(CT1)
    served = writing_to(api, FolderManifests(folder, api.db))
    async with served_api(served, manifests=served.manifests) as here:
        monkeypatch.setenv("AEGATE_SERVER", f"http://127.0.0.1:{here.port}")
        monkeypatch.setenv("AEGATE_TOKEN_FILE", str(tmp_path / "token"))
        yield Shell(served, tmp_path / "token", here.port)
