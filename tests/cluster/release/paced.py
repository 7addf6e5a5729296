"""A device that keeps its association open and sends at its own pace, as an MR does between two sequences."""

from __future__ import annotations

import itertools
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import CTImageStorage  # type: ignore[attr-defined] # made at import

from tests.dicom import Instance, ct
from tests.integration.waiting import eventually

PACE_S = 0.2
SUCCESS = 0x0000


@dataclass
class PacedSender:
    """One open association; ``acknowledged``: the UIDs that it was told are kept."""

    association: Association
    study: str
    aborts: list[str] = field(default_factory=list)
    acknowledged: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    _is_done: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Send until it is told to stop, then release."""
        for number in itertools.count(1):
            image = ct(Instance(study=self.study, number=number))
            status = self.association.send_c_store(image)
            if "Status" not in status:
                self.refused.append("no answer")
                return
            (self.acknowledged if status.Status == SUCCESS else self.refused).append(
                str(image.SOPInstanceUID)
            )
            if self._is_done.wait(PACE_S):
                self.association.release()
                return

    def goes_on(self) -> None:
        """Return when two more images were acknowledged from here on."""
        before = len(self.acknowledged)
        eventually(
            lambda: len(self.acknowledged) >= before + 2 or self.refused or self.aborts,
            deadline_s=30,
            what=f"an open association takes images (refused: {self.refused}, aborted: {self.aborts})",
        )
        assert not self.refused and not self.aborts, (self.refused, self.aborts)

    def stop(self) -> None:
        """Let it release after the image that is on its way."""
        self._is_done.set()


@contextmanager
def paced_sender(
    address: tuple[str, int], title: str, study: str, *, tls: ssl.SSLContext | None = None
) -> Iterator[PacedSender]:
    """Associate and send during the block; released at its end. Raises AssertionError when that was not possible."""
    device = AE(ae_title=title)
    device.add_requested_context(CTImageStorage)
    device.dimse_timeout = device.acse_timeout = 60
    aborts: list[str] = []
    handlers: list[Any] = [(evt.EVT_ABORTED, lambda event: aborts.append(str(event.event.name)))]
    association = device.associate(
        *address, ae_title="AEGATE", evt_handlers=handlers, tls_args=(tls, "localhost") if tls else None
    )
    assert association.is_established, (
        f"{title} is not admitted at {address}: {association.acceptor.primitive}"
    )
    sender = PacedSender(association, study, aborts)
    thread = threading.Thread(target=sender.run)
    thread.start()
    try:
        yield sender
    finally:
        sender.stop()
        thread.join(60)
    assert association.is_released, f"the association of {title} was not released (aborted: {aborts})"
    assert not sender.refused, sender.refused
