"""What an installation's keeper runs beside it while everything is killed: retention, backup, fsck; killed as well.

Every study is made old again and again, delivered or not: retention must take those alone that nobody wants any more.
A backup that is killed must leave the one before whole. What they left is judged at the end.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path

from aegate_core.errors import StorageError
from tests.integration.cli.installations import AEGATE, aegate
from tests.integration.processes import stop
from tests.proofs.judges import rows, value
from tests.proofs.stage import Stage

KILLED, LATEST_S, PATIENCE_S = 0.5, 3.0, 300.0
"""Half of them are killed, at the latest after so long; the others may last that long on a busy machine."""
PAUSE_S = 1.0
OLD = "UPDATE study SET last_arrival_at = '2020-01-01 00:00:00+00:00'"
PARTITION = """
apiVersion: aegate.dev/v1alpha1
kind: PatientPartition
metadata: {name: default}
spec: {retention: {images: {days: 1}, finishedDeliveries: {days: 1}}}
"""
_WANTED = """
SELECT a.sop_instance_uid AS uid FROM arrival a WHERE a.removed_at IS NOT NULL AND NOT EXISTS (
  SELECT 1 FROM arrival b WHERE b.sop_instance_uid = a.sop_instance_uid AND b.sha256 = a.sha256 AND (
    EXISTS (SELECT 1 FROM delivery_instance i WHERE i.arrival_id = b.id AND i.state IN ('STORED', 'WARNING'))
    OR EXISTS (SELECT 1 FROM delivered d WHERE d.arrival_id = b.id)))
"""


class Keeper(threading.Thread):
    """Runs commands one after the other until `finish`; half of them are killed."""

    def __init__(self, here: Stage, seed: int) -> None:
        super().__init__(name="keeper", daemon=True)
        self._here = here
        self._dice = random.Random(seed)
        self._finishing = threading.Event()
        self._wrong: list[str] = []
        self.ended: Counter[str] = Counter()
        """How often each command ended by itself, or was killed."""

    @property
    def backup(self) -> Path:
        """The folder of the backups."""
        return self._here.root / "backup"

    def finish(self) -> None:
        """Begin nothing more, and wait for what runs."""
        self._finishing.set()
        self.join(PATIENCE_S)

    def run(self) -> None:
        """Run one command after the other."""
        commands = (("retention",), ("retention",), ("backup", str(self.backup)), ("fsck",))
        while not self._finishing.wait(PAUSE_S):
            self._make_old()
            self._command(*self._dice.choice(commands))

    def _make_old(self) -> None:
        """Let every study be older than it is kept; that waits for the next time while the database is away."""
        with suppress(StorageError):
            rows(self._here, OLD)

    def _command(self, *command: str) -> None:
        timeout_s = self._dice.uniform(0.3, LATEST_S) if self._dice.random() < KILLED else PATIENCE_S
        where = ("--data", str(self._here.data), "--database", self._here.url)
        child = subprocess.Popen(
            [*AEGATE, *command, *where],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={k: v for k, v in os.environ.items() if k != "AEGATE_DIE_AT"},
        )
        try:
            _, said = child.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()
            self.ended[f"{command[0]} killed"] += 1
            return
        finally:
            stop(child)
        self.ended[command[0]] += 1
        # 2: the database was away just then, which is said in a sentence.
        if child.returncode not in (0, 2) or "Traceback" in said:
            self._wrong.append(
                f"{command[0]} beside a running system ended with {child.returncode}: {said[-300:]}"
            )

    def verdicts(self) -> list[str]:
        """Return what is wrong, when everything is drained; retention and backup are run to their end first."""
        wrong = list(self._wrong)
        for command in (("retention",), ("backup", str(self.backup))):
            done = aegate(*command, "--data", self._here.data, "--database", self._here.url, timeout_s=600)
            if done.returncode:
                wrong.append(f"the last {command[0]} ended with {done.returncode}: {done.stderr[-300:]}")
        wrong += [f"removed before anybody had it: {r['uid']}" for r in rows(self._here, _WANTED)]
        if not value(self._here, "SELECT count(*) FROM arrival WHERE removed_at IS NOT NULL"):
            wrong.append("too weak: retention has removed nothing")
        return [*wrong, *self._restored()]

    def _restored(self) -> list[str]:
        """Restore the last backup, and let fsck judge it."""
        root, server = self._here.root / "restored", self._here.postgres
        url = server.create("restored") if server else f"sqlite://{root / 'aegate.sqlite3'}"
        into = ("--database", url) if server else ()
        done = aegate("restore", self.backup, "--data", root, *into, timeout_s=600)
        if done.returncode:
            return [f"restore ended with {done.returncode}: {done.stderr[-300:]}"]
        judged = aegate(
            *("fsck", "--data", root, "--database", url, "--settled", "0", "--output", "json"), timeout_s=600
        )
        return [f"restored: {f['kind']} {f['subject']}" for f in json.loads(judged.stdout)["wrong"]]
