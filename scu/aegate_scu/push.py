"""Send what was claimed over one association at a time, in a thread, and say after each instance what came of it.

Cancels, holds and a lost lease are seen before the next instance; what the peer acknowledged is never sent again.
"""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from aegate_core.decisions.contexts import (
    ObjectKind,
    PlannedAssociation,
    choose_syntax,
    plan_associations,
)
from aegate_core.decisions.retry import (
    BLOB_DAMAGED,
    BLOB_UNREADABLE,
    DECODER_LOST,
    NO_ROOM_TO_CONVERT,
    Verdict,
    judge_status,
    status_code,
)
from aegate_core.errors import BucketError, InvalidInput, NotDICOM, StorageError, StorageFull
from aegate_core.services.pushing import Answer, Claim, ClaimedInstance, Ending, Wishes
from aegate_core.stores.blobs import BlobStore
from aegate_scu.decoders import DecoderLost
from aegate_scu.outgoing import BlobDamaged, Outgoing, Stored, outgoing
from aegate_scu.peer import NoAssociation, NoContext, PeerAddress, PeerAssociation, associate
from aegate_scu.reencoding import CannotConvert

STALLED_S = 2.0
"""By feel: longer than a receiver at work takes for an answer, much shorter than the timeouts."""


@dataclass
class Control:
    """What the event loop tells the sending thread; each field is replaced as a whole."""

    wishes: Wishes = field(default_factory=Wishes)
    lease_until: float = 0.0
    """On the monotonic clock: beyond it the slot may be somebody else's."""
    stop: threading.Event = field(default_factory=threading.Event)
    """The slot is lost, or the process ends: stop before the next instance."""
    lost: bool = False
    moved_at: float | None = field(default_factory=time.monotonic)
    """When the peer last answered anything, on the monotonic clock; None while an object is made ready for it."""

    def is_stalled(self) -> bool:
        """Whether the peer has not answered for a while: it is waited for, and costs nothing but a thread."""
        moved_at = self.moved_at
        return moved_at is not None and time.monotonic() - moved_at > STALLED_S

    def may_go_on(self) -> bool:
        """Whether another instance may be sent at all."""
        if time.monotonic() >= self.lease_until:
            self.lost = True
        return not (self.lost or self.stop.is_set() or self.wishes.stop)


@dataclass(frozen=True, slots=True)
class Push:
    """One claim to be sent."""

    claim: Claim
    peer: PeerAddress
    blobs: BlobStore
    control: Control
    report: Callable[[Answer, float], None]
    """Called from the sending thread after each instance, with the seconds it took."""
    called: Callable[[str | None], None] = lambda trouble: None
    """Called from the sending thread for each association: None when the peer took it, or why there is none."""


class _Over(Exception):
    """Nothing more is sent of this claim; says how it ended."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.trouble)
        self.ending = ending


def push(job: Push) -> Ending:
    """Send all instances of the claim; return how it ended, also by a fault of ours. Blocks: run it in a thread."""
    waiting = list(job.claim.instances)
    try:
        for planned in plan_associations(_kind(i) for i in waiting):
            mine = [i for i in waiting if _kind(i) in planned.kinds]
            waiting = [i for i in waiting if _kind(i) not in planned.kinds]
            if job.control.may_go_on():
                _over_one_association(job, planned, mine)
    except _Over as over:
        return over.ending
    except Exception as error:
        # The outermost place of this thread. Left to itself, the claim would be taken up again and again, unseen.
        return Ending(_fault(error))
    return Ending()


def _fault(error: Exception) -> str:
    return f"FAULT: {type(error).__name__} in this worker"


def _kind(instance: ClaimedInstance) -> ObjectKind:
    return ObjectKind(instance.sop_class_uid, instance.transfer_syntax_uid)


def _over_one_association(
    job: Push, planned: PlannedAssociation, instances: Sequence[ClaimedInstance]
) -> None:
    try:
        assoc = associate(job.peer, planned.contexts)
    except NoContext as error:
        job.called(error.message)
        for instance in instances:
            job.report(Answer(instance, Verdict.REFUSED, error_code="NO_CONTEXT"), 0.0)
        return
    except NoAssociation as error:
        job.called(error.message)
        raise _Over(Ending(error.message, rejected=error.verdict is Verdict.REJECTED)) from error
    job.called(None)
    job.control.moved_at = time.monotonic()
    try:
        for instance in instances:
            if not job.control.may_go_on():
                break
            if not job.control.wishes.unwanted(instance.delivery_id):
                _send_or_end(job, assoc, instance)
    finally:
        # A slot that may be somebody else's by now is left at once; a release would wait for the peer.
        if job.control.lost:
            assoc.abort()
        else:
            assoc.release()


def _send_or_end(job: Push, assoc: PeerAssociation, instance: ClaimedInstance) -> None:
    """Send one instance. A fault of ours is put down to it, as if it had broken the association: the others go on."""
    if not assoc.is_alive:
        raise _Over(Ending(f"BROKEN: {job.peer.entity.title} ended the association"))
    try:
        _send(job, assoc, instance)
    except _Over:
        raise
    except Exception as error:  # whatever an object brings about in us or in pynetdicom
        assoc.abort()
        raise _Over(Ending(_fault(error), broke_on=instance)) from error


def _send(job: Push, assoc: PeerAssociation, instance: ClaimedInstance) -> None:
    syntax = choose_syntax(_kind(instance), assoc.accepted)
    if syntax is None:
        job.report(Answer(instance, Verdict.REFUSED, error_code="NO_CONTEXT"), 0.0)
        return
    started = time.monotonic()
    try:
        job.control.moved_at = None
        with job.blobs.local(instance.blob_key) as path, _made(job, instance, path, syntax) as made:
            job.control.moved_at = time.monotonic()
            if not _is_wanted(job, instance):
                return  # to convert it took a while
            _call_again_if_left(job, assoc)
            status = assoc.store(instance.sop_class_uid, instance.sop_instance_uid, syntax, made)
    except CannotConvert as error:
        job.report(Answer(instance, Verdict.REFUSED, error_code=error.code), 0.0)
    except (DecoderLost, OSError, InvalidInput, StorageError) as error:
        job.report(Answer(instance, Verdict.UNREADABLE, error_code=_fault_of_ours(error)), 0.0)
        if not assoc.is_alive:
            raise _Over(Ending()) from error
    else:
        _judge(job, instance, made, status, time.monotonic() - started)
    finally:
        job.control.moved_at = time.monotonic()


def _made(job: Push, instance: ClaimedInstance, path: Path, syntax: str) -> AbstractContextManager[Outgoing]:
    stored = Stored(path, instance.transfer_syntax_uid, instance.sha256)
    return outgoing(stored, syntax, job.blobs.scratch)


def _is_wanted(job: Push, instance: ClaimedInstance) -> bool:
    return job.control.may_go_on() and not job.control.wishes.unwanted(instance.delivery_id)


def _fault_of_ours(error: Exception) -> str:
    """Return the code of what kept us from sending an object."""
    if isinstance(error, DecoderLost):
        return DECODER_LOST
    if isinstance(error, BucketError):
        return error.code
    is_full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if is_full or isinstance(error, StorageFull):
        return NO_ROOM_TO_CONVERT  # reading needs none
    return BLOB_DAMAGED if isinstance(error, NotDICOM | BlobDamaged) else BLOB_UNREADABLE


def _call_again_if_left(job: Push, assoc: PeerAssociation) -> None:
    """Call again where the peer did not wait: to read and convert an object of 2 GiB takes longer than many do."""
    if assoc.is_alive:
        return
    try:
        assoc.renew()
    except NoContext as error:
        job.called(error.message)
        raise _Over(Ending(error.message)) from error
    except NoAssociation as error:
        job.called(error.message)
        raise _Over(Ending(error.message, rejected=error.verdict is Verdict.REJECTED)) from error
    job.called(None)


def _judge(job: Push, instance: ClaimedInstance, made: Outgoing, status: int | None, seconds: float) -> None:
    """Report what the peer answered; destination trouble ends the claim."""
    if status is None:
        title = job.peer.entity.title
        raise _Over(Ending(f"BROKEN: {title} gave no status for an instance", broke_on=instance))
    verdict = judge_status(status)
    job.report(Answer(instance, verdict, status, delivered_sha256=made.sha256), seconds)
    if verdict in (Verdict.TROUBLE, Verdict.REJECTED):
        text = f"{status_code(status)}: {job.peer.entity.title} cannot store now"
        raise _Over(Ending(text, rejected=verdict is Verdict.REJECTED))
