"""A patient who does not exist, whose every value must never be seen outside a DICOM object or the database.

All builders of test data (``tests.dicom``) use these values, so the autouse fixture of ``tests/conftest.py`` can
look for them after each test: in logs, in the log files of child processes, in file names, in metrics, in exceptions.
It looks for temporary and core files too, and at what was printed. Titles of processes, what answers over HTTP (metrics
and readiness, GraphQL errors) and what commands print is looked at where tests run or ask them.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from prometheus_client import REGISTRY, CollectorRegistry, generate_latest

from aegate_core.events import JSONFormatter, TerminalFormatter

PATIENT_NAME = "Zzsentinel^Quillonia"
PATIENT_ID = "ZZSENT-PID-7731"
ACCESSION_NUMBER = "ZZSENTACC7731"
PATIENT_BIRTH_DATE = "18871103"
STUDY_DESCRIPTION = "Zzsentinel study of the knee"
SERIES_DESCRIPTION = "Zzsentinel series"

TRACES = ("zzsent", "quillonia", PATIENT_BIRTH_DATE, "1887-11-03")
"""What gives a value away, in lower case. Builders may add more to a name or an id; these parts stay in it."""

TMPDIR = "tmpdir"
"""Below ``tmp_path``: what tests give to child processes as their folder of temporary files."""

CORE_FILE = re.compile(r"(.*\.)?core(\.\d+)?")

LOG_FILES = ("*.log", "*.stderr", "*.stdout")
"""Names that tests give to the output of child processes below ``tmp_path``."""


class PatientDataLeaked(AssertionError):
    """A value of the sentinel patient was seen where no patient data may be."""


def assert_absent(text: str | bytes, where: str) -> None:
    """Raise PatientDataLeaked when ``text`` (a GraphQL error, a log, a metric) gives the sentinel patient away."""
    lowered = (text.decode("latin-1") if isinstance(text, bytes) else text).lower()
    for trace in TRACES:
        at = lowered.find(trace)
        if at >= 0:
            raise PatientDataLeaked(f"patient data in {where}: …{lowered[max(0, at - 120) : at + 60]}…")


class LeftBehind(AssertionError):
    """A process left a temporary file or a core file: either may hold patient data."""


class Watch(logging.Handler):
    """Keep what the test's process says: log lines in both formats, messages of errors, metric registries."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []
        self.messages: list[str] = []
        self.registries: list[CollectorRegistry] = [REGISTRY]
        self._formatters = (JSONFormatter(), TerminalFormatter(), logging.Formatter())

    def emit(self, record: logging.LogRecord) -> None:
        """Render ``record`` in every way a process of ours or pytest would."""
        self.lines.extend(f.format(record) for f in self._formatters)

    def check(self, folder: Path | None) -> None:
        """Raise PatientDataLeaked for the first trace, LeftBehind for a temporary or a core file.

        ``folder`` is where the test's child processes wrote.
        """
        for line in self.lines:
            assert_absent(line, "a log line")
        for message in self.messages:
            assert_absent(message, "an exception's message")
        for registry in self.registries:
            assert_absent(generate_latest(registry), "the metrics")
        if folder is not None:
            _check_folder(folder)


def check_processes(pids: Iterable[int]) -> None:
    """Raise PatientDataLeaked when the title of a process gives the patient away (proc(5))."""
    for pid in pids:
        for name in ("cmdline", "comm"):
            with suppress(OSError):  # it has ended
                assert_absent(Path(f"/proc/{pid}/{name}").read_bytes(), f"the {name} of a process")


def _check_folder(folder: Path) -> None:
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        assert_absent(str(name), "a file name")
        if not path.is_file():
            continue
        if TMPDIR in name.parts or CORE_FILE.fullmatch(path.name):
            raise LeftBehind(f"the file {name} was left behind")
    for path in _files(folder, (*LOG_FILES, "run/*.json")):
        assert_absent(path.read_bytes(), f"the file {path.relative_to(folder)}")


def _files(folder: Path, patterns: Iterable[str]) -> Iterator[Path]:
    for pattern in patterns:
        yield from (p for p in folder.rglob(pattern) if p.is_file())
