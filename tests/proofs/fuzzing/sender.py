"""The sender under fuzzing: processes that call as `aegate send` and the workers do, answered by mutants."""

from __future__ import annotations

import json
import queue
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from pydicom import dcmread

from tests.integration.processes import free_port, stop
from tests.integration.waiting import eventually
from tests.proofs.fuzzing.calling import Statuses
from tests.proofs.fuzzing.conversations import ABORT, DATA, RELEASE_RP, RELEASE_RQ, RQ, is_whole, split
from tests.proofs.fuzzing.observed import transitions
from tests.proofs.fuzzing.reading import C_STORE_RQ, RESPONSE, Message, accepted_contexts, read
from tests.proofs.fuzzing.script import LONGEST_S, Played, Player, Script
from tests.proofs.fuzzing.vitals import Vitals, complaints
from tests.state_table import Cell

SETTLE_S = 30
C_ECHO_RQ = 0x0030


class SenderUnderFuzz:
    """Plays scripts of acceptors against several callers at once."""

    def __init__(self, callers: list[_Caller], files: list[Path], notes: Path) -> None:
        self._callers = callers
        self._free: queue.SimpleQueue[_Caller] = queue.SimpleQueue()
        self._uids = [str(dcmread(path, specific_tags=["SOPInstanceUID"]).SOPInstanceUID) for path in files]
        self._notes = notes
        self.reported = 0
        """Objects that our side said were stored."""
        for caller in callers:
            caller.ask({"job": "worker", "port": free_port()})
            caller.settle_down()
            self._free.put(caller)

    def play(self, script: Script) -> tuple[Played, list[str]]:
        """Let a caller call the script; return what became of it and what is wrong with that."""
        caller = self._free.get()
        try:
            with socket.create_server(("127.0.0.1", 0)) as server:
                server.settimeout(LONGEST_S)
                caller.begin({"job": script.job or "worker", "port": server.getsockname()[1]})
                sock, _ = server.accept()
                played = Player(sock, is_harmless=script.harmless).play(script)
            answer = caller.end()
        except (OSError, AssertionError) as error:
            return Played(), [f"the sender does not answer: {error!r}"]
        finally:
            self._free.put(caller)
        return played, self._judge(script, played, answer["statuses"])

    def settle(self) -> list[str]:
        """Return what is left of all mutants in the callers."""
        return [line for caller in self._callers for line in caller.settle()]

    def cells(self) -> dict[tuple[Cell, int], int]:
        """Return the transitions that pynetdicom's machine made."""
        return dict(transitions(self._notes))

    def end(self) -> list[str]:
        """Let the callers come to their end."""
        return [line for caller in self._callers for line in caller.finish()]

    def __str__(self) -> str:
        alive = [str(Vitals.of(c.child.pid)) for c in self._callers if c.child.poll() is None]
        return f"{'; '.join(alive)}; idle {self._callers[0].idle}"

    def _judge(self, script: Script, played: Played, statuses: Statuses) -> list[str]:
        asked, answers = read(played.received), read(played.sent)
        wrong = [f"says what nobody can read: {asked.wrong}"] if asked.wrong else []
        wrong += [*_ending(played), *_grammar(played)]
        if any(m.context not in accepted_contexts(played.sent) for m in asked.messages):
            wrong.append("sends by a context that was not accepted")
        for number, status in enumerate(statuses):
            if status is None or self._is_answered(number, status, asked.messages, answers.messages):
                continue
            if not _may_have_been_asked(script, played, (number + 1, status), answers.messages):
                wrong.append(f"reports 0x{status:04X} for file {number + 1}: nobody answered that")
        self.reported += sum(status in (0, 0xB000) for status in statuses)
        if script.harmless:
            wanted = [m.status for m in answers.messages]
            if wanted != statuses[: len(wanted)]:
                wrong.append(f"was answered {wanted}, reports {statuses}")
        return wrong

    def _is_answered(self, number: int, status: int, asked: list[Message], answers: list[Message]) -> bool:
        """Say whether the request for a file, whole, was answered with this status: by a response to that message."""
        is_echo = any(m.field == C_ECHO_RQ for m in asked)
        kind = C_ECHO_RQ if is_echo else C_STORE_RQ
        mine = {
            m.message_id
            for m in asked
            if m.field == kind and (is_echo or m.sop_instance_uid == self._uids[number])
        }
        return any(
            a.field == kind | RESPONSE and a.status == status and a.message_id in mine for a in answers
        )


def _may_have_been_asked(
    script: Script, played: Played, reported: tuple[int, int], answers: list[Message]
) -> bool:
    """Say whether a peer that hung up without reading said what is reported: message id and status.

    It answered before it was asked. What arrives while the request is on its way nobody can tell from an answer.
    """
    kind = C_ECHO_RQ if script.job == "probe" else C_STORE_RQ
    said = any(a.field == kind | RESPONSE and (a.message_id, a.status) == reported for a in answers)
    return said and not played.is_over


def _ending(played: Played) -> list[str]:
    if played.stayed and not played.is_over:
        return [f"did not close within {LONGEST_S} s"]
    return []


def _grammar(played: Played) -> list[str]:
    """Say what is no PDU of a requestor, or comes where none may."""
    kinds = [p[0] for p in split(played.received) if is_whole(p)]
    wrong = []
    if kinds and kinds[0] != RQ:
        wrong.append(f"begins with a PDU of type {kinds[0]}")
    if any(k not in (DATA, RELEASE_RQ, RELEASE_RP, ABORT) for k in kinds[1:]):
        wrong.append(f"says PDUs of types {kinds}")
    return wrong


class _Caller:
    """One process."""

    def __init__(self, child: subprocess.Popen[str], log: Path) -> None:
        self.child = child
        self._log = log
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.idle = Vitals(0, 0, 0)

    def _read(self) -> None:
        assert self.child.stdout is not None
        for line in self.child.stdout:
            self._lines.put(line)
        self._lines.put("")

    def begin(self, job: dict[str, Any]) -> None:
        """Tell it to call."""
        assert self.child.stdin is not None
        self.child.stdin.write(json.dumps(job) + "\n")
        self.child.stdin.flush()

    def end(self) -> dict[str, Any]:
        """Return what it reports. Raises AssertionError when it does not, or has ended."""
        try:
            line = self._lines.get(timeout=LONGEST_S)
        except queue.Empty:
            raise AssertionError(f"no report within {LONGEST_S} s") from None
        assert line, f"the sender has ended with exit code {self.child.poll()}"
        report: dict[str, Any] = json.loads(line)
        return report

    def ask(self, job: dict[str, Any]) -> dict[str, Any]:
        """Tell it to call and return what it reports."""
        self.begin(job)
        return self.end()

    def settle_down(self) -> None:
        """Take what it holds now as what it holds when idle."""
        self.idle = Vitals.of(self.child.pid)

    def settle(self) -> list[str]:
        """Return what is wrong with it while it does nothing."""
        if self.child.poll() is not None:
            return [f"a sender has ended with exit code {self.child.returncode}", *complaints(self._log)]
        wrong = []
        try:
            eventually(lambda: Vitals.of(self.child.pid).has_settled(self.idle), deadline_s=SETTLE_S)
        except AssertionError:
            wrong.append(f"a sender does not give back: {Vitals.of(self.child.pid)}, idle {self.idle}")
        if (vitals := Vitals.of(self.child.pid)).has_grown(self.idle):
            wrong.append(f"memory of a sender grew: {vitals}, idle {self.idle}")
        return [*wrong, *complaints(self._log)]

    def finish(self) -> list[str]:
        """Let it come to its end."""
        assert self.child.stdin is not None
        with suppress(BrokenPipeError):
            self.child.stdin.close()
        try:
            code = self.child.wait(SETTLE_S)
        except subprocess.TimeoutExpired:
            return ["a sender does not end"]
        return [] if code == 0 else [f"a sender ended with exit code {code}"]


@contextmanager
def sender_under_fuzz(folder: Path, files: list[Path], callers: int) -> Iterator[SenderUnderFuzz]:
    """Run callers until the end of the block."""
    folder.mkdir()
    notes = folder / "transitions"
    made = []
    with ExitStack() as stack:
        for number in range(callers):
            log = folder / f"caller-{number}.log"
            command = [sys.executable, "-m", "tests.proofs.fuzzing.calling", str(notes), *map(str, files)]
            child = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stack.enter_context(log.open("w")),
                text=True,
            )
            stack.callback(stop, child)
            made.append(_Caller(child, log))
        yield SenderUnderFuzz(made, files, notes)
