"""Tests of reactor."""

from __future__ import annotations

import threading

from aegate_scu.reactor import Checkpoint
from tests.integration.waiting import eventually


def test_a_thread_that_was_let_pass_and_did_not_leave_stays() -> None:
    checkpoint, passed = Checkpoint(), threading.Event()
    checkpoint.clear()

    def reactor() -> None:
        checkpoint.wait()
        passed.set()

    thread = threading.Thread(target=reactor)
    thread.start()
    eventually(lambda: checkpoint.is_holding)
    with checkpoint._condition:  # the thread is woken and cannot leave: the race as it was
        checkpoint._is_open = True
        checkpoint._condition.notify_all()
        checkpoint._is_open = False
    eventually(lambda: checkpoint.is_holding)
    assert not passed.is_set()
    checkpoint.set()
    assert passed.wait(5)
    thread.join()
    assert (checkpoint.is_holding, checkpoint.is_set()) == (False, True)


def test_it_holds_nobody_while_open() -> None:
    checkpoint = Checkpoint()
    assert checkpoint.wait() is True
    assert checkpoint.is_holding is False
    checkpoint.clear()
    assert checkpoint.is_holding is False
