"""The demo from the first process to the verdict."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live

from aegate_cli.demo import troupe
from aegate_cli.demo.farewell import invitation, make_spare_studies
from aegate_cli.demo.graphql import DESTINATIONS, PLAN, PROGRESS, GraphQL
from aegate_cli.demo.progress import StudyProgress, progress_table, study_progress
from aegate_cli.demo.scene import PARTS, RECEIVERS, Scene, find_hospital, set_scene
from aegate_cli.interrupts import Interrupts
from aegate_core.errors import AegateError, PeerError
from aegate_core.health import read_state
from aegate_graphql_api.tokens import create_token

if TYPE_CHECKING:
    from aegate_cli.demo.compare import Comparison

READY_WITHIN_S = 60.0
ARRIVED_WITHIN_S = 120.0
POLL_S = 0.4


class DemoFailed(AegateError):
    """The demo did not do what it should; the message names what is missing."""

    code = "DEMO_FAILED"


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What was typed after `aegate demo`."""

    hospital: Path | None = None
    stay: bool = False
    """Stay up at the end, for somebody who wants to try things."""


def play(options: DemoOptions) -> int:
    """Run the demo; return 0 when every instance arrived where it should, else 1, having said what is missing."""
    console = Console()
    root = Path(tempfile.mkdtemp(prefix="aegate-demo-"))
    keep, interrupted = True, False
    try:
        scene = set_scene(root, find_hospital(options.hospital))
        for note in scene.notes:
            console.print(note, highlight=False, soft_wrap=True)
        with closing(scene):
            asyncio.run(_Play(scene, options, console).run())
        keep = False
    except DemoFailed as error:
        console.print(f"[red]demo failed:[/] {error.message}", highlight=False, soft_wrap=True)
        console.print(f"its folders and logs are kept in {root}", highlight=False, soft_wrap=True)
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.print("stopped")
        interrupted = True
    finally:
        if interrupted or not keep:
            shutil.rmtree(root, ignore_errors=True)
    return 1 if keep else 0


class _Play:
    """One run."""

    def __init__(self, scene: Scene, options: DemoOptions, console: Console) -> None:
        self._scene = scene
        self._options = options
        self._console = console
        self._started = time.monotonic()
        self._api_trouble = ""
        self._leave = asyncio.Event()
        """Set when somebody who stayed wants to go."""
        self._is_staying = False
        self._processes: list[troupe.Process] = []
        self._standing: dict[str, troupe.Process] = {}
        """Processes that must not end before the demo does."""

    async def run(self) -> None:
        """Do it all. Raises DemoFailed; a signal cancels it, and all processes stop on the way out."""
        task = asyncio.current_task()
        assert task is not None  # this is a coroutine

        def stop() -> None:
            if self._is_staying:
                self._leave.set()
            else:
                task.cancel()

        Interrupts(stop, self._hurry).listen()
        async with AsyncExitStack() as stack:
            aegate = await stack.enter_async_context(
                troupe.running(*troupe.up_arguments(self._scene), scene=self._scene)
            )
            for name in RECEIVERS:
                arguments = troupe.receiver_arguments(name, self._scene)
                receiver = await stack.enter_async_context(troupe.running(*arguments, scene=self._scene))
                self._standing[name] = receiver
            modalities = [
                await stack.enter_async_context(troupe.modality(part, self._scene)) for part in PARTS
            ]
            self._processes = [aegate, *self._standing.values(), *(m.process for m in modalities)]
            api, token = await self._until_ready(aegate)
            async with asyncio.timeout(READY_WITHIN_S):
                await asyncio.gather(*(m.made.wait() for m in modalities))
            self._say(
                f"ready after {self._elapsed_s():.1f} s: modalities send, a PACS and a workstation wait"
            )
            for modality in modalities:
                await modality.send()
            rows = await self._watch(api, modalities)
            await self._check_plan(api, modalities)
            self._conclude(modalities, rows)
            if self._options.stay:
                await self._stay(api, token)
            else:
                self._say(
                    "to keep it up at the end, with a token and three things to try: .venv/bin/aegate demo --stay"
                )

    def _elapsed_s(self) -> float:
        return time.monotonic() - self._started

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False, soft_wrap=True)

    async def _until_ready(self, aegate: troupe.Process) -> tuple[GraphQL, str]:
        """Wait until aegate says that all its processes are ready, and make a token of our own."""
        state_file = self._scene.data / "run" / "up.state"
        while self._elapsed_s() < READY_WITHIN_S:
            if aegate.returncode is not None:
                raise DemoFailed(f"aegate ended at once: {_last_line(self._scene.log)}")
            said = read_state(state_file)
            if said is not None and said.state == "ready":
                token = create_token(
                    self._scene.data / "run" / "tokens.json", "demo", ["DICOM_QUEUE", "AE_EDITOR"]
                )
                return GraphQL(f"http://127.0.0.1:{self._scene.ports['http']}/graphql", token), token
            await asyncio.sleep(0.1)
        raise DemoFailed(f"aegate was not ready within {READY_WITHIN_S:.0f} s: see {self._scene.log}")

    async def _watch(self, api: GraphQL, modalities: Sequence[troupe.Modality]) -> list[StudyProgress]:
        """Show the table until every study is where it should be, or too much time has gone."""
        deadline = time.monotonic() + ARRIVED_WITHIN_S
        rows: list[StudyProgress] = []
        with Live(console=self._console, auto_refresh=False, transient=not self._console.is_terminal) as live:
            while time.monotonic() < deadline:
                answer = await self._ask(api)
                before, rows = rows, [study_progress(m.sent, answer) for m in modalities] if answer else rows
                self._show(live, rows, before)
                if rows and all(row.is_finished and row.received == row.made for row in rows):
                    return rows
                for name, process in self._standing.items():
                    if process.returncode is not None:
                        raise DemoFailed(f"{name} ended in the middle: {_last_line(self._scene.log)}")
                if any(m.sent.problems for m in modalities):
                    problems = "; ".join(p for m in modalities for p in m.sent.problems[:3])
                    raise DemoFailed(f"a modality could not send: {problems}")
                await asyncio.sleep(POLL_S)
        return rows

    async def _ask(self, api: GraphQL) -> dict[str, Any]:
        """Return the progress, or nothing while the API does not answer: the next look may find it."""
        try:
            return await asyncio.to_thread(api.ask, PROGRESS)
        except PeerError as error:
            self._api_trouble = error.message
            return {}

    def _show(self, live: Live, rows: list[StudyProgress], before: list[StudyProgress]) -> None:
        if self._console.is_terminal:
            live.update(progress_table(rows, self._elapsed_s()), refresh=True)
            return
        for row in (row for row in rows if row not in before):
            study, received, indexed, closed, queued, pushed, why = row.stages()
            self._say(
                f"{self._elapsed_s():5.1f} s  {study}: received {received}, indexed {indexed}, closed {closed}, "
                f"queued {queued}, pushed {pushed} {why}".rstrip()
            )

    async def _check_plan(self, api: GraphQL, modalities: Sequence[troupe.Modality]) -> None:
        """Ask what the routes say, and fail when that is not what the example hospital's files say."""
        answer = await self._ask(api)
        ids = {n["studyInstanceUid"]: n["id"] for n in answer["studies"]["nodes"]} if answer else {}
        for modality in modalities:
            if modality.sent.study_uid not in ids:
                raise DemoFailed(f"GraphQL does not know the {modality.part.modality} study")
            plan = await asyncio.to_thread(api.ask, PLAN, study=ids[modality.sent.study_uid])
            told = {
                (d["destination"], d["instances"])
                for s in plan["explainRoute"]["sources"]
                for d in s["deliveries"]
            }
            meant = {(RECEIVERS[r][1], len(modality.sent.digests)) for r in modality.part.receivers}
            if {name for name, _ in told} != {name for name, _ in meant}:
                raise DemoFailed(
                    f"the routes send {modality.part.modality} to {sorted(told)}, expected {sorted(meant)}"
                )

    def _conclude(self, modalities: Sequence[troupe.Modality], rows: list[StudyProgress]) -> None:
        """Compare the far ends with what was made; say it, or raise DemoFailed naming what is missing."""
        comparisons = [self._compare(name, modalities) for name in RECEIVERS]
        complaints = [line for comparison in comparisons for line in comparison.complaints()]
        unfinished = [row.modality for row in rows if not row.is_finished]
        if not rows:
            complaints.append(f"GraphQL told nothing: {self._api_trouble}")
        if unfinished:
            complaints.append(f"not finished within {ARRIVED_WITHIN_S:.0f} s: {', '.join(unfinished)}")
        for c in comparisons:
            self._say(
                f"{RECEIVERS[c.receiver][0]}: {c.equal} of {c.expected} instances are there, byte for byte as sent"
            )
        if complaints:
            more = f" (and {len(complaints) - 10} more)" if len(complaints) > 10 else ""
            raise DemoFailed("; ".join(complaints[:10]) + more)
        made = sum(len(m.sent.digests) for m in modalities)
        self._say(
            f"sent {made} instances of {len(modalities)} modalities over DICOM, stored and indexed them, routed by "
            f"{self._scene.hospital.name}'s rules and pushed to {len(comparisons)} receivers: {self._elapsed_s():.1f} s"
        )

    def _compare(self, receiver: str, modalities: Sequence[troupe.Modality]) -> Comparison:
        # pydicom comes in when it is needed, not before the processes that take so long to start have been started.
        from aegate_cli.demo.compare import compare, read_received

        meant = [m for m in modalities if receiver in m.part.receivers]
        everything = frozenset(uid for m in modalities for uid in m.sent.digests)
        expected = {uid: digest for m in meant for uid, digest in m.sent.digests.items()}
        return compare(receiver, expected, read_received(self._scene.received(receiver)), all_sent=everything)

    async def _stay(self, api: GraphQL, token: str) -> None:
        spare = await asyncio.to_thread(make_spare_studies, self._scene.root / "spare")
        answer = await asyncio.to_thread(api.ask, DESTINATIONS)
        ids = {node["ae"]: node["id"] for node in answer["destinations"]["nodes"]}
        self._is_staying = True
        self._say(invitation(self._scene, token, pacs_id=ids[RECEIVERS["pacs"][1]], spare=spare))
        await self._leave.wait()
        self._say("stopping; open associations may finish, Ctrl-C again ends at once")

    def _hurry(self) -> None:
        """Tell all processes once more: `aegate up` takes a second signal as a wish to end at once."""
        for process in self._processes:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.terminate()


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"
