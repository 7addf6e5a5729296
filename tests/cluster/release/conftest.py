"""One release of the chart for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.lab.lab import Lab
from tests.cluster.release.hospital import Hospital, hospital
from tests.integration.peers import StoreSCP, store_scp


@pytest.fixture(scope="package")
def installed(full_lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    """The chart is installed; nobody has declared anything."""
    with hospital(full_lab, tmp_path_factory.mktemp("hospital"), "radiology", "cardiology") as made:
        made.install()
        yield made


@pytest.fixture(scope="package")
def receivers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, StoreSCP]]:
    """The archive and the workstation of `examples/hospital`, on this machine."""
    folder = tmp_path_factory.mktemp("receivers")
    with store_scp(folder, title="PACS") as pacs, store_scp(folder, title="WS_READ_1") as workstation:
        yield {"pacs": pacs, "ws_read_1": workstation}


@pytest.fixture(scope="package")
def example(installed: Hospital, receivers: dict[str, StoreSCP]) -> Hospital:
    """`examples/hospital` is applied, and its listeners are Ready."""
    installed.apply_example(**{name: receiver.port for name, receiver in receivers.items()})
    installed.wait_until_ready("ct-er", "mr-1", "us-cardio")
    return installed
