"""What holds for every test: no patient data gets out, and nothing is left out where CI runs it."""

from __future__ import annotations

import gc
import logging
import os
from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path

import hypothesis
import pytest
from prometheus_client import CollectorRegistry

from aegate_core.errors import AegateError
from tests import sentinel

DATABASES = ("sqlite", "postgres")
URLS = ("database_url", "empty_database_url")
"""Fixtures by which a test runs on each of them."""
IN_CI = os.environ.get("CI") == "true"

# No deadline: a busy machine is no bug. In CI the same examples every time; at a desk new ones.
hypothesis.settings.register_profile("aegate", deadline=None, derandomize=IN_CI)
hypothesis.settings.load_profile("aegate")


@pytest.fixture(autouse=True)
def no_patient_data_gets_out(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[sentinel.Watch]:
    """Fail the test when a value of the sentinel patient shows in logs, file names, metrics or exceptions."""
    watch = sentinel.Watch()
    folder = request.getfixturevalue("tmp_path") if "tmp_path" in request.fixturenames else None
    aegate, root = logging.getLogger("aegate"), logging.getLogger()
    level = aegate.level
    aegate.setLevel(logging.DEBUG)
    _record_exceptions(watch, monkeypatch)
    _record_registries(watch, monkeypatch)
    root.addHandler(watch)
    try:
        yield watch
    finally:
        root.removeHandler(watch)
        aegate.setLevel(level)
    watch.check(folder)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Measure the coverage of what runs on both databases on PostgreSQL alone.

    But for the floor of the databases it is the same code, and to measure it takes as long as to run it.
    """
    for item in items:
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        is_twice = "sqlite" in map(parameters.get, URLS) and "integration/database/" not in item.nodeid
        if is_twice and not config.getoption(
            "no_cov", default=False
        ):  # pytest-cov fails on the mark with --no-cov
            item.add_marker("no_cover")
    # What was loaded to collect the tests stays, and is as much as all else: the collector of garbage may spare it.
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a test that passed and has printed a value of the sentinel patient, itself or through the code it called."""
    report = yield
    try:
        if report.passed and report.when == "teardown":  # all of its output is there by then
            sentinel.assert_absent(report.capstdout + report.capstderr, "what was printed")
    except sentinel.PatientDataLeaked as leak:
        report.outcome, report.longrepr = "failed", str(leak)
    return report


def _record_exceptions(watch: sentinel.Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    original = AegateError.__init__

    def recording(self: AegateError, message: str) -> None:
        watch.messages.append(message)
        original(self, message)

    monkeypatch.setattr(AegateError, "__init__", recording)


def _record_registries(watch: sentinel.Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    original = CollectorRegistry.__init__

    def recording(self: CollectorRegistry, *args: object, **kwargs: object) -> None:
        original(self, *args, **kwargs)  # type: ignore[arg-type] # handed on as it came
        watch.registries.append(self)

    monkeypatch.setattr(CollectorRegistry, "__init__", recording)


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how soon all was well after each fault, and how many tests ran on each database: equally many."""
    for line in sorted(_recoveries(terminalreporter)):
        terminalreporter.write_line(f"recovered after {line}")
    counts = _per_database(terminalreporter)
    if counts:
        numbers = ", ".join(f"{counts[name]} on {name}" for name in DATABASES)
        terminalreporter.write_line(f"tests per database: {numbers}")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Where ``CI=true``, a skip or an xfail fails the run: what is not run proves nothing."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or not IN_CI:
        return
    reporter.ensure_newline()
    left_out = [r.nodeid for kind in ("skipped", "xfailed", "xpassed") for r in reporter.stats.get(kind, ())]
    if left_out:
        reporter.write_line(f"FAILED: left out in CI: {', '.join(left_out)}", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    counts = _per_database(reporter)
    if counts and exitstatus == 0 and len({counts[name] for name in DATABASES}) > 1:
        reporter.write_line(f"FAILED: not the same tests on each database: {dict(counts)}", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _recoveries(reporter: pytest.TerminalReporter) -> list[str]:
    passed = [r for r in reporter.stats.get("passed", ()) if r.when == "call"]
    return [str(value) for r in passed for name, value in r.user_properties if name == "recovery"]


def _per_database(reporter: pytest.TerminalReporter) -> Counter[str]:
    ran = [r for kind in ("passed", "failed") for r in reporter.stats.get(kind, ()) if r.when == "call"]
    return Counter(name for r in ran for name in DATABASES if name in Path(r.nodeid).name.partition("[")[2])
