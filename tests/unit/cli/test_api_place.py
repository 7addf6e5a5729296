"""Which API the commands of a machine ask, with a token that they make for themselves."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from aegate_cli.api.place import open_api, own_token
from aegate_cli.data_folder import hold_data_folder
from aegate_cli.token import create, revoke
from aegate_core.errors import StorageError
from aegate_core.settings import DataFolder
from aegate_graphql_api.tokens import create_token, list_tokens

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
