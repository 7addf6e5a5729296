"""The short commands, and what each says to bad input."""

from __future__ import annotations

import json
import socketserver
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file

from aegate_cli.data_folder import hold_data_folder
from aegate_cli.demo.modality import data_set_digest
from tests.integration.cli.installations import AEGATE, aegate, device
from tests.integration.peers import store_scp
from tests.integration.processes import free_port, is_listening, process
from tests.integration.waiting import eventually

CT = Path(str(get_testdata_file("CT_small.dcm")))
JPEG = Path(str(get_testdata_file("JPEG2000.dcm")))


def test_echo_is_answered(tmp_path: Path) -> None:
    with store_scp(tmp_path) as peer:
        result = aegate("echo", "127.0.0.1", str(peer.port), "--called", "STORESCP")
    assert result.returncode == 0
    assert result.stdout.startswith(f"STORESCP at 127.0.0.1:{peer.port} answered 0x0000 in ")


def test_echo_says_that_nobody_answers() -> None:
    port = free_port()
    result = aegate("echo", "127.0.0.1", str(port))
    assert result.returncode == 1
    assert f"ANY-SCP at 127.0.0.1:{port} does not answer" in result.stderr


def test_echo_finds_an_ae_by_its_name(tmp_path: Path) -> None:
    with store_scp(tmp_path, title="PACS") as peer:
        (tmp_path / "pacs.yaml").write_text(device("pacs", peer.port))
        result = aegate("echo", "pacs", "--in", tmp_path / "pacs.yaml")
    assert result.returncode == 0
    assert result.stdout.startswith("PACS at 127.0.0.1:")


def test_send_tells_each_status_and_goes_on_after_what_is_not_dicom(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "a-letter.dcm").write_text("Dear Sir or Madam")
    (folder / "b-ct.dcm").write_bytes(CT.read_bytes())
    (folder / "c-jpeg.dcm").write_bytes(JPEG.read_bytes())
    sink, port = tmp_path / "sink", free_port()
    with process([*AEGATE, "sink", sink, "--port", str(port)], log=tmp_path / "sink.log"):
        eventually(lambda: is_listening(port), deadline_s=20)
        result = aegate("send", f"127.0.0.1:{port}", folder, "--json")
    outcomes = {Path(o["path"]).name: o for o in map(json.loads, result.stdout.splitlines())}
    assert result.returncode == 1
    assert {name: o["status"] for name, o in outcomes.items()} == {
        "a-letter.dcm": None,
        "b-ct.dcm": 0,
        "c-jpeg.dcm": 0,
    }
    assert "expected DICM at byte 128" in outcomes["a-letter.dcm"]["problem"]
    assert "2 of 3 stored" in result.stderr
    received = {dcmread(p).file_meta.TransferSyntaxUID: data_set_digest(p) for p in sink.iterdir()}
    assert received == {dcmread(p).file_meta.TransferSyntaxUID: data_set_digest(p) for p in (CT, JPEG)}


@contextmanager
def rejecting(result: int, source: int, reason: int) -> Iterator[int]:
    """Answer every association request with this A-ASSOCIATE-RJ (PS3.8 9.3.4)."""

    class Peer(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(1 << 16)
            self.request.sendall(bytes((3, 0, 0, 0, 0, 4, 0, result, source, reason)))
            self.request.recv(1)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Peer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()


@pytest.mark.parametrize(
    ("answer", "advice"),
    [((1, 1, 3), "it must know the calling title AEGATE"), ((2, 3, 2), "try again later")],
)
def test_send_says_what_a_rejection_asks_for(answer: tuple[int, int, int], advice: str) -> None:
    with rejecting(*answer) as port:
        result = aegate("send", f"127.0.0.1:{port}", CT)
    assert result.returncode == 1
    assert f"127.0.0.1:{port} rejected the association (" in result.stderr
    assert advice in result.stderr
    assert ("titles" in result.stderr or "calling title" in result.stderr) == (answer[0] == 1)


def test_send_names_the_refused_instance(tmp_path: Path) -> None:
    sink, port = tmp_path / "sink", free_port()
    command = [*AEGATE, "sink", sink, "--port", str(port), "--refuse-nth", "1"]
    with process(command, log=tmp_path / "sink.log"):
        eventually(lambda: is_listening(port), deadline_s=20)
        result = aegate("send", f"127.0.0.1:{port}", CT)
    assert result.returncode == 1
    assert result.stdout.splitlines() == [f"0xA900 {CT}"]
    assert list(sink.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["up", "nowhere"], "DIR must be a folder of resources, got nothing at nowhere"),
        (["up", "{tmp}", "--http-listen", "0.0.0.0:8080"], "--http-listen must be a loopback address"),
        (["up", "{tmp}", "--http-listen", "8080"], "--http-listen must be ADDRESS:PORT"),
        (
            ["up", "{tmp}", "--title", "SEVENTEEN_LETTERS"],
            "--title: AE title must be 1 to 16 characters, got 17",
        ),
        (["up", "{tmp}", "--database", "mysql://x"], "database URL must start with sqlite:// or postgres://"),
        (["up", "{tmp}", "--workers", "2"], "--workers must be 1 on SQLite"),
        (["up", "{tmp}", "--data", "/sys/aegate"], "data folder /sys/aegate"),
        (["echo", "pacs"], "expected HOST:PORT, or the name of an AE with --in DIR"),
        (["echo", "127.0.0.1", "99999"], "PORT must be 1 to 65535, got 99999"),
        (["send", "127.0.0.1:104", "no-such-file"], "got nothing at no-such-file"),
        (["send", "127.0.0.1:104", "{tmp}"], "PATH must hold files to send"),
        (["send", "127.0.0.1:x", "{tmp}"], "must be ADDRESS:PORT"),
        (["sink", "{tmp}", "--title", "SEVENTEEN_LETTERS"], "--title: AE title must be 1 to 16 characters"),
        (["token", "list", "--data", "{tmp}"], "expected a data folder of aegate, got none"),
        (["demo", "{tmp}"], "expected the example hospital"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_2(tmp_path: Path, arguments: list[str], said: str) -> None:
    result = aegate(*(a.format(tmp=tmp_path) for a in arguments), XDG_DATA_HOME=str(tmp_path / "xdg"))
    assert result.returncode == 2
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_up_refuses_a_folder_without_resources(tmp_path: Path) -> None:
    (tmp_path / "h").mkdir()
    ports = ["--dicom-port", str(free_port()), "--http-listen", f"127.0.0.1:{free_port()}"]
    result = aegate("up", tmp_path / "h", "--data", tmp_path / "d", *ports)
    assert result.returncode == 2
    assert "no resource in" in result.stderr
    assert "aegate validate" in result.stderr


def test_tokens_are_made_listed_and_revoked(tmp_path: Path) -> None:
    with hold_data_folder(tmp_path / "d"):
        made = aegate("token", "create", "reporting", "--permission", "DICOM_QUEUE", "--data", tmp_path / "d")
        listed = aegate("token", "list", "--data", tmp_path / "d")
        wrong = aegate("token", "create", "x", "--permission", "ALL", "--data", tmp_path / "d")
        revoked = aegate("token", "revoke", "reporting", "--data", tmp_path / "d")
        left = aegate("token", "list", "--data", tmp_path / "d")
    assert made.stdout.startswith("aegate_")
    assert listed.stdout == "reporting\tDICOM_QUEUE\tfor ever\n"
    assert wrong.returncode == 2
    assert "permission must be one of" in wrong.stderr
    assert revoked.stdout == "revoked reporting\n"
    assert left.stdout == ""
    assert stat.S_IMODE((tmp_path / "d" / "run" / "tokens.json").stat().st_mode) == 0o600


def test_token_file_of_its_own_needs_no_data_folder(tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    made = aegate("token", "create", "reporting", "--permission", "DICOM_QUEUE", "--file", file)
    assert made.returncode == 0, made.stderr
    assert file.stat().st_mode & 0o777 == 0o600
    assert made.stdout.strip() not in file.read_text()
    assert "reporting\tDICOM_QUEUE" in aegate("token", "list", "--file", file).stdout
    assert aegate("token", "revoke", "reporting", "--file", file).returncode == 0
    assert aegate("token", "list", "--file", file).stdout == ""


def test_every_command_has_help_with_an_example() -> None:
    for command in ("up", "validate", "echo", "send", "sink", "demo", "version", "token create"):
        result = aegate(*command.split(), "--help")
        assert result.returncode == 0
        assert "Example: " in result.stdout
    assert aegate("version").stdout.startswith("aegate 0.1.0 ")
