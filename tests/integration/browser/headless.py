"""A headless Chromium for tests of web pages, driven by its own DevTools protocol over a WebSocket.

The browser comes from npm as compressed files, which are unpacked once beside them: so it needs no package of the
system, and is the same on each.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from websockets.sync.client import ClientConnection, connect

from tests.integration.nodejs.program import node
from tests.integration.processes import process
from tests.integration.waiting import eventually

PACKED = Path(__file__).parent / "node_modules/@sparticuz/chromium/bin"
UNPACK = """
const { brotliDecompressSync: open } = require("zlib"), fs = require("fs"), [from, to] = process.argv.slice(1);
fs.writeFileSync(`${to}/chromium`, open(fs.readFileSync(`${from}/chromium.br`)), { mode: 0o755 });
const input = open(fs.readFileSync(`${from}/al2023.tar.br`));
require("child_process").execFileSync("tar", ["-x", "-C", to], { input });
"""
OPTIONS = (
    "--headless=shell",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--remote-debugging-port=0",
)
"""Without its sandbox: that needs rights which a container has not, and only pages of the tests are opened."""


def unpacked() -> Path:
    """Return the folder with the browser; two who unpack at once do no harm."""
    folder = PACKED.parent / "unpacked"
    if not folder.is_dir():
        part = PACKED.parent / f"unpacking-{os.getpid()}"
        part.mkdir(exist_ok=True)
        subprocess.run([node(), "-e", UNPACK, str(PACKED), str(part)], check=True, timeout=120)
        try:
            part.rename(folder)
        except OSError:
            assert folder.is_dir(), "another was first"
    return folder


class Page:
    """A tab."""

    def __init__(self, socket: ClientConnection, heard: list[dict[str, Any]]) -> None:
        self._socket = socket
        self._heard = heard
        self._id = 0

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """Return what a method of the protocol answers; what is told meanwhile is kept."""
        self._id += 1
        self._socket.send(json.dumps({"id": self._id, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(30))
            if message.get("id") == self._id:
                assert "error" not in message, message
                result: dict[str, Any] = message["result"]
                return result
            self._heard.append(message)

    def open(self, url: str) -> None:
        """Go to an address."""
        self.call("Page.navigate", url=url)

    def run(self, script: str) -> Any:
        """Return what an expression of JavaScript is in the page; None where it throws, as between two pages."""
        result = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        return None if "exceptionDetails" in result else result["result"].get("value")

    def until(self, script: str) -> Any:
        """Wait until an expression is true, and return it."""
        return eventually(lambda: self.run(script), deadline_s=60)

    def text(self) -> str:
        """Return what the page shows."""
        return str(self.run("document.body.innerText"))

    def complaints(self, *about: str) -> list[str]:
        """Return what the browser said of errors: uncaught ones, and of what it loaded from these addresses."""
        self.call("Runtime.enable")  # whatever was told before is read by now
        found = []
        for message in self._heard:
            if message["method"] == "Runtime.exceptionThrown":
                found.append(str(message["params"]["exceptionDetails"]))
            elif message["method"] == "Log.entryAdded":
                entry = message["params"]["entry"]
                if entry["level"] == "error" and entry.get("url", "").startswith(about):
                    found.append(f"{entry['text']}: {entry['url']}")
        return found


@contextmanager
def browser(folder: Path) -> Iterator[Page]:
    """Run a browser with a profile of its own in ``folder``; give one tab."""
    program, profile = unpacked(), folder / "profile"
    environ = {"LD_LIBRARY_PATH": str(program / "lib"), "HOME": str(folder)}
    command = [program / "chromium", *OPTIONS, f"--user-data-dir={profile}", "about:blank"]
    with process(command, log=folder / "browser.log", environ=environ):
        port_file = profile / "DevToolsActivePort"
        port = eventually(lambda: port_file.exists() and port_file.read_text().split("\n")[0], deadline_s=60)
        (tab,) = [t for t in httpx.get(f"http://127.0.0.1:{port}/json").json() if t["type"] == "page"]
        heard: list[dict[str, Any]] = []
        with connect(tab["webSocketDebuggerUrl"], max_size=None) as socket:
            page = Page(socket, heard)
            for domain in ("Page", "Runtime", "Log"):
                page.call(f"{domain}.enable")
            yield page
