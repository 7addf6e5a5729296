"""Which API the commands of a machine ask, with a token that they make for themselves."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from aegate_cli.api.errors import APIUnreachable
from aegate_cli.api.place import Address, open_api, own_token
from aegate_cli.data_folder import hold_data_folder
from aegate_cli.token import create, revoke
from aegate_core.errors import InvalidInput, StorageError
from aegate_core.health import ProcessState
from aegate_core.settings import DataFolder
from aegate_graphql_api.tokens import create_token, list_tokens
from tests.integration.identities import Authority
from tests.unit.cli.answering import answering

NOW = datetime(2026, 1, 31, tzinfo=UTC)


@pytest.fixture
def data(tmp_path: Path) -> DataFolder:
    with hold_data_folder(tmp_path / "d") as held:
        return held.data


def names(data: DataFolder) -> list[str]:
    return [record.name for record in list_tokens(data.run / "tokens.json")]


@pytest.mark.parametrize(
    "command",
    [
        lambda root: open_api(None, None, None, root),
        lambda root: create("another", data=root),
        lambda root: revoke("first", data=root),
    ],
)
def test_nobody_but_the_owner_writes_tokens_into_a_data_folder(
    data: DataFolder, monkeypatch: pytest.MonkeyPatch, command: Callable[[Path], object]
) -> None:
    create_token(data.run / "tokens.json", "first", ["DICOM_QUEUE"])
    before = sorted((file.name, file.read_bytes()) for file in data.run.iterdir())
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(StorageError, match="run as its owner: `sudo -u .+ aegate …`"):
        command(data.root)
    assert sorted((file.name, file.read_bytes()) for file in data.run.iterdir()) == before


def test_the_token_of_the_command_line_is_shared_until_it_is_near_its_end(data: DataFolder) -> None:
    tokens = data.run / "tokens.json"
    token = own_token(data, NOW)
    assert [(t.name, t.expires_at) for t in list_tokens(tokens)] == [
        ("command-line", "2026-03-02T00:00:00+00:00")
    ]
    assert own_token(data, NOW + timedelta(days=26)) == token
    renewed = own_token(data, NOW + timedelta(days=28))
    assert renewed != token
    assert [t.expires_at for t in list_tokens(tokens)] == ["2026-03-30T00:00:00+00:00"]


def test_a_token_of_the_command_line_that_lasts_for_ever_is_replaced(data: DataFolder) -> None:
    old = create_token(data.run / "tokens.json", "command-line", ["DICOM_QUEUE"])
    (data.run / "command-line.token").write_text(old)
    assert own_token(data, NOW) != old
    assert names(data) == ["command-line"]


def test_a_token_that_cannot_be_kept_is_said_in_words(data: DataFolder) -> None:
    (data.run / "command-line.token").mkdir()
    with pytest.raises(StorageError, match="data folder .+ cannot be used"):
        own_token(data, NOW)
    assert names(data) == []


def says(data: DataFolder, url: str, certificate: Path | None = None, pid: int | None = None) -> None:
    """Write down what an `aegate up` of this process does."""
    Address(url, None if certificate is None else str(certificate)).write(data)
    assert ProcessState("up", pid or os.getpid(), "ready").write(data.run / "up.state")


def test_a_token_goes_to_the_process_that_holds_the_data_folder_alone(data: DataFolder) -> None:
    with answering(200, '{"data": {"operation": null}}') as (url, asked, _):
        says(data, url)
        with pytest.raises(APIUnreachable, match="got none that runs"):
            open_api(None, None, None, data.root)
        with hold_data_folder(data.root):
            assert open_api(None, None, None, data.root).ask("operation", id="x") == {"operation": None}
            says(data, url, pid=os.getppid())
            with pytest.raises(APIUnreachable, match="got none that runs"):
                open_api(None, None, None, data.root)
        assert asked == ["/graphql"]


def test_what_a_dead_process_left_of_its_lock_lets_no_token_go(data: DataFolder) -> None:
    held = (
        "import os, sys; from pathlib import Path; from aegate_cli.data_folder import hold_data_folder\n"
        "with hold_data_folder(Path(sys.argv[1])) as held:\n"
        "    os.set_inheritable(held.lock_fd, True)\n"
        "    os.fork() or os.read(0, 1)\n"
        "    os._exit(0)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", held, str(data.root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as up:
        up.wait(30)
        says(data, "http://127.0.0.1:9/graphql", pid=up.pid)
        with pytest.raises(APIUnreachable, match="got none that runs"):
            open_api(None, None, None, data.root)
    assert names(data) == []


def test_another_certificate_of_the_same_authority_gets_no_token(data: DataFolder, tmp_path: Path) -> None:
    authority = Authority.make(tmp_path / "authority")
    ours, other = (authority.issue(tmp_path / name) for name in ("ours", "other"))
    chain = tmp_path / "fullchain.pem"
    chain.write_text(ours.certificate.read_text() + ours.ca.read_text())
    with hold_data_folder(data.root):
        for identity, is_ours in ((ours, True), (other, False)):
            with answering(200, '{"data": {"operation": null}}', identity=identity) as (url, asked, _):
                says(data, url, chain)
                api = open_api(None, None, None, data.root)
                if is_ours:
                    assert api.ask("operation", id="x") == {"operation": None}
                else:
                    with pytest.raises(APIUnreachable, match="expected a certificate"):
                        api.ask("operation", id="x")
                assert len(asked) == is_ours
        chain.write_text("no certificate")
        with pytest.raises(InvalidInput, match="cannot be read: restore it"):
            open_api(None, None, None, data.root)


def test_a_token_for_a_server_does_not_go_to_this_machine(data: DataFolder, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("aegate_remote")
    with answering(200, "{}") as (url, asked, _), hold_data_folder(data.root):
        says(data, url)
        with pytest.raises(InvalidInput, match="are for --server or AEGATE_SERVER"):
            open_api(None, tmp_path / "token", None, data.root)
    assert (asked, names(data)) == ([], [])


def own_address() -> str:
    """Return an address of this machine that others reach; loopback where it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


def test_an_api_that_listens_on_an_address_is_asked_from_loopback(data: DataFolder) -> None:
    with (
        answering(200, '{"data": {"operation": null}}', own_address()) as (url, _, callers),
        hold_data_folder(data.root),
    ):
        says(data, url)
        open_api(None, None, None, data.root).ask("operation", id="x")
    assert callers == ["127.0.0.1"]
