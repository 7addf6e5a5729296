"""Fixtures of the third ring: one cluster of each kind for a run, started when a test first asks, gone at its end.

``cheap_lab``: a real control plane; pods are processes of this machine. ``full_lab``: a real node; needs root.
Each test gets namespaces of its own by ``namespace``; what it breaks it heals.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator

import pytest

from tests.cluster.lab.lab import Lab
from tests.cluster.lab.starting import LabSettings, find_lab, keep_logs, running_lab

Say = Callable[[str], None]
_numbers = itertools.count(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Without ``--full`` the run takes minutes, and leaves out what is marked so."""
    parser.addoption("--full", action="store_true", help="also the tests that are marked as full")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is marked ``full``, unless it was asked for."""
    left_out = [] if config.getoption("--full") else [i for i in items if i.get_closest_marker("full")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [i for i in items if i not in left_out]


@pytest.fixture(scope="session")
def say(pytestconfig: pytest.Config) -> Say:
    """Write a line to the terminal, past the capturing of output: a cold build takes minutes."""
    reporter = pytestconfig.pluginmanager.get_plugin("terminalreporter")

    def write(text: str) -> None:
        if reporter is not None:
            reporter.ensure_newline()
            reporter.write_line(f"lab: {text}")

    return write


@pytest.fixture(scope="session")
def cheap_lab(request: pytest.FixtureRequest, say: Say) -> Iterator[Lab]:
    """A control plane, and a node that runs pods as processes of this machine."""
    with running_lab(LabSettings(), say) as lab:
        yield lab
        _report(lab, request.session, say)


@pytest.fixture(scope="session")
def full_lab(request: pytest.FixtureRequest, say: Say) -> Iterator[Lab]:
    """A control plane and one real node that has aegate's images; the one of number AEGATE_LAB where that is given."""
    if number := os.environ.get("AEGATE_LAB"):
        given = find_lab(int(number))
        assert given is not None, (
            f"there is no lab of number {number}: start it by `make cluster NUMBER={number}`"
        )
        yield given
        return
    with running_lab(LabSettings(nodes=1), say) as lab:
        yield lab
        _report(lab, request.session, say)


@pytest.fixture
def namespace() -> str:
    """A name that no other test uses for its namespace."""
    return f"test-{next(_numbers)}"


def _report(lab: Lab, session: pytest.Session, say: Say) -> None:
    if session.testsfailed:
        say(f"logs of the lab, because a test failed: {keep_logs(lab)}")
    memory = {name: size // 2**20 for name, size in lab.memory_bytes().items()}
    parts = ", ".join(f"{name} {size}" for name, size in memory.items())
    say(f"memory {sum(memory.values())} MiB: {parts}")
