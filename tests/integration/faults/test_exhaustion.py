"""A process out of descriptors or memory: it refuses or ends, comes back by itself, loses nothing and hurts nobody."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.faults.conftest import Recovery
from tests.integration.faults.scene import SOON_S, Scene, scene
from tests.integration.waiting import eventually

WHY = "{ queueItems { nodes { whyNotMoving { text } } } }"
WORDS = "this process has no file descriptor left: raise its limit"


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """One for all: each test must leave it well for the next."""
    with scene(tmp_path_factory.mktemp("exhaustion")) as running:
        yield running


@contextmanager
def no_descriptor_left(pid: int) -> Iterator[None]:
    """Let a process open nothing more: its limit is the lowest number that is free."""
    used = {int(fd.name) for fd in Path(f"/proc/{pid}/fd").iterdir()}
    free = next(n for n in range(len(used) + 1) if n not in used)
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (free, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def no_memory_left(pid: int) -> None:
    """Let a process have no more memory than it has now, for the rest of its life."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
    size = pages * resource.getpagesize()
    resource.prlimit(pid, resource.RLIMIT_AS, (size, size))


def test_listener_without_descriptors_refuses_and_takes_up_whoever_waits(
    here: Scene, recovery: Recovery
) -> None:
    assoc, pid = here.call("ct1"), here.up.pid_of("listener")
    assert here.send(assoc) == 0x0000
    with no_descriptor_left(pid):
        assert here.send(assoc) == 0xA700
        eventually(
            lambda: [e for e in here.up.events("spool.congested") if WORDS in e["reason"]], deadline_s=SOON_S
        )
        assert here.store("us1") == "0x0000"
        here.until_delivered()
    with recovery("listener out of descriptors"):
        eventually(lambda: here.send(assoc) == 0x0000, deadline_s=SOON_S)
        here.until_stored("ct1")
        here.until_all_is_well()
    assoc.abort()
    assert here.up.pid_of("listener") == pid


def test_indexer_without_descriptors_says_so_and_goes_on(here: Scene, recovery: Recovery) -> None:
    pid = here.up.pid_of("indexer")
    with no_descriptor_left(pid):
        for ae in ("ct1", "us1"):
            assert here.store(ae) == "0x0000"
        failed = eventually(lambda: here.up.events("index.failed"), deadline_s=SOON_S)
        assert f"got EMFILE: {WORDS}" in failed[0]["error"]
    with recovery("indexer out of descriptors"):
        here.until_all_is_well()
    assert here.up.pid_of("indexer") == pid


def test_worker_without_descriptors_blames_no_receiver(here: Scene, recovery: Recovery) -> None:
    pid = here.up.pid_of("worker")
    words = "DESCRIPTORS: this worker has no file descriptor left: raise its limit"
    with no_descriptor_left(pid):
        assert here.store("ct1") == "0x0000"
        eventually(lambda: words in json.dumps(here.up.ask(WHY)), deadline_s=SOON_S)
    with recovery("worker out of descriptors"):
        here.until_all_is_well()
    assert here.up.pid_of("worker") == pid


def test_api_without_descriptors_lets_callers_wait_and_images_go(here: Scene, recovery: Recovery) -> None:
    pid = here.up.pid_of("api")
    with no_descriptor_left(pid):
        for ae in ("ct1", "us1"):
            assert here.store(ae) == "0x0000"
        here.until_delivered()
    with recovery("API out of descriptors"):
        here.until_all_is_well()
    assert here.up.pid_of("api") == pid


@pytest.mark.timeout(300)
def test_processes_without_memory_end_or_refuse_and_lose_nothing(here: Scene, recovery: Recovery) -> None:
    limited = {name: here.up.pid_of(name) for name in ("listener", "indexer", "worker", "api")}
    assert here.store("ct1") == "0x0000"
    for pid in limited.values():
        no_memory_left(pid)
    with recovery("no memory left for any process"):
        here.until_stored("us1")
        here.until_all_is_well()
    other = f"listener-port-{here.ports['us1']}"
    assert len([e for e in here.up.events("child.started") if e["process"] == other]) == 1
