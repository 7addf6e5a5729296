"""The example page in a real browser: somebody signs in at a real provider and searches, over the API's own process."""

from __future__ import annotations

import asyncio
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from aegate_core.database import open_database
from aegate_core.health import ProcessState, read_state
from tests import sentinel
from tests.integration.api.clients import fill
from tests.integration.browser.headless import Page, browser
from tests.integration.identity.provider import Provider, provider
from tests.integration.intake.hospital import Place, spool_folder
from tests.integration.processes import free_port, process
from tests.integration.waiting import eventually

EXAMPLE = Path(__file__).parents[3] / "examples/browser-login"
MAPPING = "rules:\n  - {claim: groups, value: radiology, permissions: [DICOM_QUEUE]}\n"
CLIENT = "aegate-viewer"
STORED = "JSON.stringify({...localStorage, ...sessionStorage}) + document.cookie"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None: ...


@contextmanager
def served(folder: Path, port: int) -> Iterator[None]:
    """Serve the page's files, as any server of files does."""
    with ThreadingHTTPServer(("127.0.0.1", port), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield
        server.shutdown()


async def filled(folder: Path) -> None:
    async with open_database(f"sqlite://{folder / 'aegate.sqlite3'}") as db:
        with spool_folder(folder / "spool") as spool:
            place = Place(db, folder, spool)
            await place.apply()
            await fill(place)


@contextmanager
def running_api(folder: Path, people: Provider, origin: str) -> Iterator[str]:
    """Run the API's process for the people of a provider and the pages of an origin; give its address."""
    (folder / "mapping.yaml").write_text(MAPPING)
    state = folder / "state.json"
    environ = {
        "AEGATE_DATA": str(folder),
        "AEGATE_DATABASE_URL": f"sqlite://{folder / 'aegate.sqlite3'}",
        "AEGATE_HTTP_LISTEN": "127.0.0.1:0",
        "AEGATE_STATE_FILE": str(state),
        "AEGATE_OIDC_ISSUER": people.issuer,
        "AEGATE_OIDC_AUDIENCE": "aegate",
        "AEGATE_OIDC_MAPPING": str(folder / "mapping.yaml"),
        "AEGATE_OIDC_CLIENT_ID": CLIENT,
        "AEGATE_OIDC_SCOPES": "openid offline_access api",
        "AEGATE_ORIGINS": origin,
        "AEGATE_LOG_FORMAT": "json",
    }

    def ready() -> ProcessState | None:
        said = read_state(state)
        return said if said is not None and said.state == "ready" else None

    with process([sys.executable, "-m", "aegate_graphql_api"], log=folder / "api.log", environ=environ):
        yield f"http://127.0.0.1:{eventually(ready, deadline_s=60).port}/"


def sign_in(page: Page, person: str) -> None:
    """Press the button, and do on the provider's own pages what it asks for."""
    page.until("document.getElementById('sign-in')?.hidden === false")
    page.run("document.getElementById('sign-in').click()")
    page.until("document.querySelector('input[name=login]') !== null")
    page.run(
        f"document.querySelector('input[name=login]').value = '{person}';"
        "document.querySelector('input[name=password]').value = 'any';"
        "document.querySelector('form').submit()"
    )
    page.until("document.querySelector('input[name=prompt][value=consent]') !== null")
    page.run("document.querySelector('form').submit()")
    page.until("document.getElementById('viewer')?.textContent")


def search(page: Page, words: str) -> str:
    page.run("document.getElementById('message').textContent = ''")
    page.run(f"document.getElementById('words').value = '{words}'")
    page.run("document.getElementById('search').requestSubmit()")
    return str(page.until("document.getElementById('message').textContent"))


@pytest.fixture
def hospital(sqlite_template: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "hospital"
    folder.mkdir()
    shutil.copyfile(sqlite_template, folder / "aegate.sqlite3")
    asyncio.run(filled(folder))
    return folder


def test_somebody_signs_in_searches_stays_and_leaves_and_another_page_may_not_ask(
    hospital: Path, tmp_path: Path
) -> None:
    origin = f"http://127.0.0.1:{free_port()}"
    site = tmp_path / "site"
    shutil.copytree(EXAMPLE, site)
    client = {"redirect_uris": [f"{origin}/index.html"], "ttl": 8}
    with (
        provider(tmp_path, pages={CLIENT: client}) as people,
        running_api(hospital, people, origin) as api,
        served(site, int(origin.rpartition(":")[2])),
        browser(tmp_path) as page,
    ):
        index = site / "index.html"
        index.write_text(index.read_text().replace("http://127.0.0.1:8080/", api))
        told = httpx.get(f"{api}config.json", headers={"Origin": origin})
        assert told.json() == {
            "graphql": "graphql",
            "websocket": "graphql",
            "oidc": {
                "issuer": people.issuer,
                "clientId": CLIENT,
                "scopes": ["openid", "offline_access", "api"],
            },
        }
        assert told.headers["access-control-allow-origin"] == origin
        elsewhere = httpx.get(f"{api}config.json", headers={"Origin": "http://evil.example.org"})
        assert "access-control-allow-origin" not in elsewhere.headers

        page.open(f"{origin}/index.html")
        sign_in(page, "radiographer")
        assert page.run("document.getElementById('viewer').textContent") == "oidc:radiographer: DICOM_QUEUE"
        assert page.run("location.href") == f"{origin}/index.html", "the code is gone from the address"
        assert search(page, "quillonia") == "2 found."
        assert sentinel.PATIENT_NAME in page.text()
        assert page.run(STORED) == "{}"
        assert page.complaints(origin, api, people.issuer) == []

        first = people.grants()
        eventually(lambda: people.grants() > first, deadline_s=60)  # renewed by the page itself
        assert search(page, "nobody-of-this-name") == "0 found."
        page.run("document.getElementById('sign-out').click()")
        page.until("document.querySelector('button[name=logout]') !== null")  # on the provider's own page
        page.run("document.querySelector('button[name=logout]').click()")
        page.until("document.getElementById('sign-in')?.hidden === false")
        assert page.run("location.href") == f"{origin}/index.html"
        assert "Quillonia" not in page.text()
        sign_in(page, "radiographer")  # its session is over, too: it asks who it is
        assert page.run(STORED) == "{}"

        page.open(f"{origin}/index.html?state=forged&code=stolen")
        said = page.until("document.getElementById('message')?.textContent")
        assert said == "this answer is of another sign-in"
        assert page.run("location.search") == ""

        page.open(f"{origin.replace('127.0.0.1', 'localhost')}/index.html")  # another origin
        assert page.until("document.getElementById('message')?.textContent") == "Failed to fetch"
        ask = (
            f"fetch('{api}graphql', {{method: 'POST', headers: {{Authorization: 'Bearer t'}}, body: '{{}}'}})"
        )
        assert page.run(f"{ask}.then(() => 'read', () => 'refused')") == "refused"
    log = (hospital / "api.log").read_text()
    assert "token.refused" not in log
