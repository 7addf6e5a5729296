"""What a manifest means for a process of this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.lab.local_node.specs import expanded, localized

MOUNTS = {
    "/etc/aegate": Path("/pods/config"),
    "/etc/aegate/tls": Path("/pods/tls"),
    "/srv": Path("/pods/srv"),
}


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("/etc/aegate/listener.json", "/pods/config/listener.json"),
        ("--config=/etc/aegate", "--config=/pods/config"),
        ('{"key": "/etc/aegate/tls/tls.key"}', '{"key": "/pods/tls/tls.key"}'),
        ("sqlite:///srv/index.sqlite3", "sqlite:///pods/srv/index.sqlite3"),
        ("/other/etc/aegate", "/other/etc/aegate"),
        ("/etc/aegate.d /srv2", "/etc/aegate.d /srv2"),
        ("https://host/srv", "https://host/srv"),
    ],
)
def test_paths_below_a_mount_become_paths_of_this_machine(text: str, result: str) -> None:
    assert localized(text, MOUNTS) == result


@pytest.mark.parametrize(
    ("text", "result"),
    [("$(A)/$(B)", "1/$(B)"), ("$$(A)", "$(A)"), ("$A $", "$A $"), ("$$", "$")],
)
def test_variables_are_expanded_as_kubernetes_does(text: str, result: str) -> None:
    assert expanded(text, {"A": "1"}) == result
