"""Devices that send without end: dcmtk's storescu and `aegate send`, each with its own record of what was acknowledged.

What was not acknowledged is sent again, as devices do. The record is the first judge of a proof: it knows nothing of
what the system under proof wrote.
"""

from __future__ import annotations

import json
import random
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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

Send = Callable[[Sequence[Path]], Mapping[Path, float]]
"""Send files and return those that were acknowledged with 0x0000, with the moment on the monotonic clock."""


def storescu(port: int, title: str) -> Send:
    """Return a sender that is dcmtk's."""
    to = ["-aet", title, "-aec", "AEGATE", "127.0.0.1", str(port)]

    def send(files: Sequence[Path]) -> Mapping[Path, float]:
        return _run([dcmtk("storescu"), "-v", "-to", "10", *to, *map(str, files)], _said_by_storescu)

    return send


def _said_by_storescu(lines: Iterable[str]) -> Iterator[Path]:
    current = None
    for line in lines:
        if line.startswith("I: Sending file: "):
            current = Path(line.removeprefix("I: Sending file: ").rstrip("\n"))
        elif line.startswith("I: Received Store Response (Success)") and current is not None:
            yield current
            current = None


def aegate_send(port: int, title: str) -> Send:
    """Return a sender that is ours."""
    to = [f"127.0.0.1:{port}", "--calling", title, "--called", "AEGATE", "--json"]

    def send(files: Sequence[Path]) -> Mapping[Path, float]:
        return _run([*AEGATE, "send", *to, *map(str, files)], _said_by_aegate)

    return send


def _said_by_aegate(lines: Iterable[str]) -> Iterator[Path]:
    for line in lines:
        if line.startswith("{") and (answer := json.loads(line))["status"] == 0:
            yield Path(answer["path"])


def _run(command: Sequence[str], said: Callable[[Iterable[str]], Iterator[Path]]) -> Mapping[Path, float]:
    """Run a sender to its end, or for so long; note when it says of a file that it was acknowledged."""
    done = {}
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as child:
        assert child.stdout is not None
        end = threading.Timer(SEND_S, child.kill)
        end.start()
        try:
            for path in said(child.stdout):
                done[path] = time.monotonic()
        finally:
            end.cancel()
    return done


Files = dict[Path, tuple[str, str]]
"""The files of a study, with SOP Instance UID and SHA-256 of the data set."""


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
            self.send_study(self.study(number, self._dice.randint(4, 16)))

    def make(self, instance: Instance) -> Dataset:
        """Return the object that this device makes."""
        return ct(instance)

    def study(self, number: int, count: int) -> Files:
        """Make a study of so many images."""
        files = {}
        for n in range(1, count + 1):
            side = self._dice.choice((16, 64, 128))
            ds = self.make(Instance(study=f"{self.name} {number}", number=n, rows=side, columns=side))
            path = write(ds, self._folder / f"{self.name}-{number}-{n}.dcm")
            files[path] = (str(ds.SOPInstanceUID), data_digest(path))
        return files

    def send_study(self, files: Files) -> float:
        """Send until all is acknowledged; return when the last one was, on the monotonic clock."""
        left, last = dict(files), 0.0
        for _ in range(TRIES):
            self.is_sending = True
            try:
                done = self._send(list(left))
            finally:
                self.is_sending = False
            for path, moment in done.items():
                uid, digest = left.pop(path)
                self.acknowledged[uid] = digest
                last = moment
            if not left:
                break
            self._finishing.wait(PAUSE_S * 4)
        self.gave_up += len(left)
        for path in files:
            path.unlink()
        return last
