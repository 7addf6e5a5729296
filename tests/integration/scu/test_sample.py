"""The pod of ``helm test``: a real listener's answer, and an API server of ours that says what the operator would."""

from __future__ import annotations

import json
import ssl
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from aegate_core.resources.validation import validate_manifests
from aegate_scp.sink import Sink, SinkOptions
from tests.integration.identities import Authority
from tests.integration.processes import process, stop
from tests.integration.waiting import eventually

PATH = "/apis/aegate.dev/v1alpha1/namespaces/pacs/applicationentities"


@dataclass
class APIServer:
    """Keeps one object; ``status`` is what it says of it."""

    port: int = 0
    status: dict[str, object] = field(default_factory=dict)
    refuses: bool = False
    objects: dict[str, dict[str, object]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    made: list[dict[str, object]] = field(default_factory=list)


@pytest.fixture
def api_server(tmp_path: Path) -> Iterator[APIServer]:
    said = APIServer()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else {}
            status, answer = 200, {}
            said.asked.append(f"{self.command} {self.path}")
            name = self.path.partition("?")[0].removeprefix(PATH).strip("/")
            if self.headers["Authorization"] != "Bearer the-token" or said.refuses:
                status, answer = 403, {"message": "applicationentities.aegate.dev is forbidden"}
            elif self.command == "POST":
                said.objects[body["metadata"]["name"]] = body
                said.made.append(body)
                status = 201
            elif name not in said.objects:
                status, answer = 404, {"message": "not found"}
            elif self.command == "DELETE":
                del said.objects[name]
            else:
                answer = {**said.objects[name], "status": said.status}
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        do_GET = do_POST = do_DELETE = _answer

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing."""

    account = tmp_path / "account"
    identity = Authority.make(tmp_path / "authority").issue(account)
    (account / "token").write_text("the-token")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(identity.certificate, identity.key)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
        said.port = server.server_port
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield said
        server.shutdown()
        thread.join()


def environ(server: APIServer, folder: Path, within_s: int = 60) -> dict[str, str]:
    return {
        "KUBERNETES_SERVICE_HOST": "localhost",
        "KUBERNETES_SERVICE_PORT": str(server.port),
        "AEGATE_NAMESPACE": "pacs",
        "AEGATE_NODE": "127.0.0.1",
        "AEGATE_ACCOUNT": str(folder / "account"),
        "AEGATE_WITHIN_SECONDS": str(within_s),
    }


def condition(status: str, reason: str, message: str) -> dict[str, str]:
    return {"type": "Ready", "status": status, "reason": reason, "message": message}


def run(server: APIServer, folder: Path, within_s: int = 60) -> tuple[int, str]:
    """Run it to its end; return its exit code and what it said."""
    log = folder / "sample.log"
    with process(
        [sys.executable, "-m", "aegate_scu.sample"], log=log, environ=environ(server, folder, within_s)
    ) as one:
        code = one.wait(60)
    return code, log.read_text()


def test_a_listener_that_answers_is_well_and_nothing_stays(api_server: APIServer, tmp_path: Path) -> None:
    with Sink(SinkOptions(tmp_path / "sink", title="AEGATE")) as listener:
        api_server.status = {
            "conditions": [condition("True", "Ready", "")],
            "listener": {"endpoint": f"127.0.0.1:{listener.port}"},
        }
        code, said = run(api_server, tmp_path)
    assert (code, said.splitlines()[-1]) == (0, "deleted it; all is well")
    assert f"its listener at 127.0.0.1:{listener.port} answers C-ECHO" in said
    assert api_server.objects == {}
    assert api_server.asked[0] == f"POST {PATH}?fieldValidation=Strict"
    manifest = tmp_path / "made.yaml"
    manifest.write_text(json.dumps(*api_server.made))
    assert validate_manifests([str(manifest)]).problems == ()


def test_an_entity_that_never_is_ready_fails_with_its_condition(
    api_server: APIServer, tmp_path: Path
) -> None:
    api_server.status = {"conditions": [condition("False", "ListenerNotReady", "ImagePullBackOff")]}
    code, said = run(api_server, tmp_path, within_s=1)
    assert (code, said.splitlines()[-1]) == (
        1,
        "failed: not Ready within 1 s: ListenerNotReady: ImagePullBackOff",
    )
    assert api_server.objects == {}


def test_a_refusal_is_told_in_the_servers_words(api_server: APIServer, tmp_path: Path) -> None:
    api_server.refuses = True
    code, said = run(api_server, tmp_path)
    assert code == 1
    assert "the API server answered 403: applicationentities.aegate.dev is forbidden" in said


def test_what_was_made_is_deleted_though_it_is_told_to_stop(api_server: APIServer, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "aegate_scu.sample"]
    with process(command, log=tmp_path / "sample.log", environ=environ(api_server, tmp_path)) as one:
        eventually(lambda: any(asked.startswith("GET") for asked in api_server.asked), deadline_s=60)
        assert stop(one) == 143
    assert (len(api_server.made), api_server.objects) == (1, {})
