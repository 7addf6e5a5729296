"""The process beyond loopback: TLS, a certificate that is renewed, people of a provider, local tokens."""

from __future__ import annotations

import shutil
import ssl
import sys
from pathlib import Path

import httpx

from aegate_core.health import ProcessState, read_state
from aegate_graphql_api.tokens import create_token
from tests.integration.cli.installations import aegate
from tests.integration.identities import Authority
from tests.integration.identity.provider import MAPPING, provider
from tests.integration.processes import process
from tests.integration.waiting import eventually

VIEWER = {"query": "{ viewer { name permissions partitions namespaces } }"}


def _ready(path: Path) -> ProcessState | None:
    said = read_state(path)
    return said if said is not None and said.state == "ready" else None


def test_people_come_in_over_tls(sqlite_template: Path, tmp_path: Path) -> None:
    shutil.copyfile(sqlite_template, tmp_path / "aegate.sqlite3")
    (tmp_path / "mapping.yaml").write_text(MAPPING)
    authority = Authority.make(tmp_path / "authority")
    served = authority.issue(tmp_path / "served")
    local = create_token(tmp_path / "tokens.json", "local", ["AE_EDITOR"])
    with provider(tmp_path) as people:
        environ = {
            "AEGATE_DATA": str(tmp_path),
            "AEGATE_DATABASE_URL": f"sqlite://{tmp_path / 'aegate.sqlite3'}",
            "AEGATE_HTTP_LISTEN": "0.0.0.0:0",
            "AEGATE_HTTP_TLS_CERT": str(served.certificate),
            "AEGATE_HTTP_TLS_KEY": str(served.key),
            "AEGATE_TOKENS": str(tmp_path / "tokens.json"),
            "AEGATE_STATE_FILE": str(tmp_path / "state.json"),
            "AEGATE_OIDC_ISSUER": people.issuer,
            "AEGATE_OIDC_AUDIENCE": "aegate",
            "AEGATE_OIDC_MAPPING": str(tmp_path / "mapping.yaml"),
            "AEGATE_LOG_FORMAT": "json",
        }
        with process([sys.executable, "-m", "aegate_graphql_api"], log=tmp_path / "api.log", environ=environ):
            ready = eventually(lambda: _ready(tmp_path / "state.json"), deadline_s=60)
            url = f"https://localhost:{ready.port}/graphql"
            trusting = ssl.create_default_context(cafile=str(served.ca))

            def ask(token: str) -> httpx.Response:
                headers = {"Authorization": f"Bearer {token}"}
                return httpx.post(url, json=VIEWER, headers=headers, verify=trusting, timeout=30)

            token = people.token("radiographer")
            assert ask(token).json()["data"]["viewer"] == {
                "name": "oidc:radiographer",
                "permissions": ["DICOM_QUEUE"],
                "partitions": ["radiology/main"],
                "namespaces": [],
            }
            assert ask(local).json()["data"]["viewer"]["name"] == "local"
            assert ask(token[:-4] + "AAAA").status_code == 401
            (tmp_path / "token").write_text(local)
            command = (
                "ae",
                "list",
                "--server",
                f"https://localhost:{ready.port}",
                "--token-file",
                tmp_path / "token",
            )
            assert aegate(*command, "--ca", served.ca).stderr == "no Application Entities found\n"
            untrusted = aegate(*command)
            assert untrusted.returncode == 3
            assert "expected a certificate for https://localhost:" in untrusted.stderr
            before = ssl.get_server_certificate(("localhost", ready.port))
            authority.issue(tmp_path / "served")
            eventually(lambda: ssl.get_server_certificate(("localhost", ready.port)) != before, deadline_s=60)
            assert ask(token).status_code == 200
    log = (tmp_path / "api.log").read_text()
    assert token not in log
    assert "token.refused" in log


def test_without_a_provider_nobody_knows_yet_the_answer_says_so(
    sqlite_template: Path, tmp_path: Path
) -> None:
    shutil.copyfile(sqlite_template, tmp_path / "aegate.sqlite3")
    (tmp_path / "mapping.yaml").write_text(MAPPING)
    with provider(tmp_path) as people:
        token = people.token("radiographer")
    environ = {
        "AEGATE_DATA": str(tmp_path),
        "AEGATE_DATABASE_URL": f"sqlite://{tmp_path / 'aegate.sqlite3'}",
        "AEGATE_HTTP_LISTEN": "127.0.0.1:0",
        "AEGATE_STATE_FILE": str(tmp_path / "state.json"),
        "AEGATE_OIDC_ISSUER": people.issuer,
        "AEGATE_OIDC_AUDIENCE": "aegate",
        "AEGATE_OIDC_MAPPING": str(tmp_path / "mapping.yaml"),
        "AEGATE_LOG_FORMAT": "json",
    }
    with process([sys.executable, "-m", "aegate_graphql_api"], log=tmp_path / "api.log", environ=environ):
        ready = eventually(lambda: _ready(tmp_path / "state.json"), deadline_s=60)
        headers = {"Authorization": f"Bearer {token}"}
        answer = httpx.post(
            f"http://127.0.0.1:{ready.port}/graphql", json=VIEWER, headers=headers, timeout=30
        )
        assert answer.status_code == 503
        assert answer.json()["errors"][0]["extensions"]["code"] == "UNAVAILABLE"
    assert "identity.away" in (tmp_path / "api.log").read_text()
