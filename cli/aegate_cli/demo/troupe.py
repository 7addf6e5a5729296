"""The demo's processes: aegate itself, two receivers, two modalities; each a real process that ends with this one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aegate_cli.demo.progress import Sent
from aegate_cli.demo.scene import RECEIVERS, Part, Scene

STOP_S = 40.0
LONGEST_LINE_BYTES = 1 << 20
"""A modality says all its digests in one line."""

Process = asyncio.subprocess.Process


@dataclass(slots=True)
class Modality:
    """A modality's process, and what it has said."""

    part: Part
    process: Process
    sent: Sent
    made: asyncio.Event = field(default_factory=asyncio.Event)

    async def listen(self) -> None:
        """Take in what it says until it ends."""
        assert self.process.stdout is not None  # it was started with a pipe
        while line := await self.process.stdout.readline():
            said = json.loads(line)
            if "made" in said:
                self.sent.digests, self.sent.study_uid = said["made"], said["study"]
                self.made.set()
            elif said["problem"] or said["status"] != 0:
                self.sent.problems.append(said["problem"] or f"status {said['status']}")
            else:
                self.sent.acknowledged.add(said["sent"])

    async def send(self) -> None:
        """Let it send."""
        assert self.process.stdin is not None  # it was started with a pipe
        with contextlib.suppress(ConnectionError):
            self.process.stdin.write(b"send\n")
            await self.process.stdin.drain()


@asynccontextmanager
async def running(*arguments: str, scene: Scene, piped: bool = False) -> AsyncIterator[Process]:
    """Run ``python -m`` with these arguments, and stop it at the end, with SIGTERM and time to finish."""
    with scene.log.open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "aegate_cli.child",
            str(os.getpid()),
            *arguments,
            stdin=asyncio.subprocess.PIPE if piped else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE if piped else log.fileno(),
            stderr=log,
            process_group=0,
            limit=LONGEST_LINE_BYTES,
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            try:
                async with asyncio.timeout(STOP_S):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()


@asynccontextmanager
async def modality(part: Part, scene: Scene) -> AsyncIterator[Modality]:
    """Start a modality: it begins to make its images."""
    arguments = (
        "aegate_cli.demo.modality",
        part.modality,
        str(scene.root / "made"),
        "127.0.0.1",
        str(scene.ports[part.port_name]),
        part.calling_title,
    )
    async with running(*arguments, scene=scene, piped=True) as process:
        started = Modality(part, process, Sent(part.modality))
        listening = asyncio.create_task(started.listen())
        try:
            yield started
        finally:
            listening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await listening


def receiver_arguments(name: str, scene: Scene) -> tuple[str, ...]:
    """Return how a receiver is started."""
    return (
        "aegate_cli",
        "sink",
        str(scene.received(name)),
        "--port",
        str(scene.ports[name]),
        "--title",
        RECEIVERS[name][0],
    )


def up_arguments(scene: Scene) -> tuple[str, ...]:
    """Return how aegate is started: the same command that a person types."""
    return (
        "aegate_cli",
        "up",
        str(scene.hospital),
        "--data",
        str(scene.data),
        "--dicom-port",
        str(scene.ports["shared"]),
        "--http-listen",
        f"127.0.0.1:{scene.ports['http']}",
    )
