"""Devices that send without end: dcmtk's storescu and `aegate send`, each with its own record of what was acknowledged.

What was not acknowledged is sent again, as devices do. The record is the first judge of a proof: it knows nothing of
what the system under proof wrote.
"""

from __future__ import annotations

import json
import random
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from pydicom.dataset import Dataset

from tests.dicom import Instance, ct, write
from tests.integration.cli.installations import AEGATE
from tests.integration.peers import dcmtk
from tests.integration.scu.clinic import data_digest

SEND_S = 60
TRIES = 40
MOST_OUTSTANDING = 400
PAUSE_S = 0.05

Send = Callable[[Sequence[Path]], list[Path]]
"""Send files and return those that were acknowledged with 0x0000."""


def storescu(port: int, title: str) -> Send:
    """Return a sender that is dcmtk's."""

    def send(files: Sequence[Path]) -> list[Path]:
        command = [
            dcmtk("storescu"),
            "-v",
            "-to",
            "10",
            "-aet",
            title,
            "-aec",
            "AEGATE",
            "127.0.0.1",
            str(port),
        ]
        said = subprocess.run(
            [*command, *files], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=SEND_S
        )
        return _acknowledged(said.stdout)

    return send


def _acknowledged(output: str) -> list[Path]:
    done, current = [], None
    for line in output.splitlines():
        if line.startswith("I: Sending file: "):
            current = Path(line.removeprefix("I: Sending file: "))
        elif line.startswith("I: Received Store Response (Success)") and current is not None:
            done.append(current)
            current = None
    return done


def aegate_send(port: int, title: str) -> Send:
    """Return a sender that is ours."""

    def send(files: Sequence[Path]) -> list[Path]:
        command = [*AEGATE, "send", f"127.0.0.1:{port}", "--calling", title, "--called", "AEGATE", "--json"]
        said = subprocess.run(
            [*command, *map(str, files)], capture_output=True, text=True, timeout=SEND_S, check=False
        )
        answers = [json.loads(line) for line in said.stdout.splitlines() if line.startswith("{")]
        return [Path(a["path"]) for a in answers if a["status"] == 0]

    return send


class Modality(threading.Thread):
    """One device. It sends until `finish`, then what is still owed, and ends."""

    def __init__(self, name: str, send: Send, folder: Path, seed: int) -> None:
        super().__init__(name=name, daemon=True)
        self._send = send
        self._folder = folder
        self._dice = random.Random(seed)
        self._finishing = threading.Event()
        self.acknowledged: dict[str, str] = {}
        """SOP Instance UID → SHA-256 of the data set."""
        self.is_sending = False
        self.gave_up = 0
        self.outstanding: Callable[[], int] = lambda: 0
        """How many were acknowledged and are not at their destination: it sends nothing new above a limit."""

    def finish(self) -> None:
        """Begin no new study."""
        self._finishing.set()

    def run(self) -> None:
        """Send study after study."""
        number = 0
        while not self._finishing.is_set():
            if self.outstanding() > MOST_OUTSTANDING:
                self._finishing.wait(PAUSE_S)
                continue
            number += 1
            self._send_study(self._study(number))

    def make(self, instance: Instance) -> Dataset:
        """Return the object that this device makes."""
        return ct(instance)

    def _study(self, number: int) -> dict[Path, tuple[str, str]]:
        files = {}
        for n in range(1, self._dice.randint(4, 16) + 1):
            side = self._dice.choice((16, 64, 128))
            ds = self.make(Instance(study=f"{self.name} {number}", number=n, rows=side, columns=side))
            path = write(ds, self._folder / f"{self.name}-{number}-{n}.dcm")
            files[path] = (str(ds.SOPInstanceUID), data_digest(path))
        return files

    def _send_study(self, files: dict[Path, tuple[str, str]]) -> None:
        left = dict(files)
        for _ in range(TRIES):
            self.is_sending = True
            try:
                done = self._send(list(left))
            finally:
                self.is_sending = False
            for path in done:
                uid, digest = left.pop(path)
                self.acknowledged[uid] = digest
            if not left:
                break
            self._finishing.wait(PAUSE_S * 4)
        self.gave_up += len(left)
        for path in files:
            path.unlink()
