"""Ask a destination in trouble whether it is back: an association, and a C-ECHO on it (PS3.4 A.4)."""

from __future__ import annotations

from dataclasses import dataclass

from aegate_core.decisions.retry import Verdict
from aegate_scu.peer import VERIFICATION, NoAssociation, NoContext, PeerAddress, associate


@dataclass(frozen=True, slots=True)
class ProbeAnswer:
    """``error`` None: the peer answers."""

    error: str | None = None
    rejected: bool = False


def probe(peer: PeerAddress) -> ProbeAnswer:
    """Return whether the peer gives us an association and answers. Blocks: run it in a thread.

    A peer that takes the association but not the Verification SOP class is there too: a trial delivery will tell.
    """
    try:
        assoc = associate(peer, [VERIFICATION])
    except NoContext:
        return ProbeAnswer()
    except NoAssociation as error:
        return ProbeAnswer(error.message, rejected=error.verdict is Verdict.REJECTED)
    status = assoc.echo()
    assoc.release()
    if status is None:
        return ProbeAnswer("BROKEN: the peer did not answer C-ECHO")
    return ProbeAnswer(None if status == 0 else f"STATUS_{status:04X}: the peer refused C-ECHO")
