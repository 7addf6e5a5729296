"""Ask a receiver now: an association with what it is likely to be sent, and a C-ECHO on it (PS3.4 A.4)."""

from __future__ import annotations

import time
from collections.abc import Awaitable
from dataclasses import replace

from aegate_core.decisions.contexts import ProposedContext
from aegate_core.errors import AegateError
from aegate_core.events import VERIFICATION_FAILED, Log, fault_text
from aegate_core.resources.values import Ability
from aegate_scu.peer import VERIFICATION, NoAssociation, NoContext, PeerAddress, associate

LONGEST_S = 3
"""Of each step: somebody waits for the answer."""
_IMPLICIT, _EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
_JPEG_LS, _J2K = "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90"
_IMAGES = (
    "1.2.840.10008.5.1.4.1.1.1",  # Computed Radiography
    "1.2.840.10008.5.1.4.1.1.1.1",  # Digital X-Ray
    "1.2.840.10008.5.1.4.1.1.2",  # CT
    "1.2.840.10008.5.1.4.1.1.4",  # MR
    "1.2.840.10008.5.1.4.1.1.6.1",  # Ultrasound
    "1.2.840.10008.5.1.4.1.1.7",  # Secondary Capture
)
_PRINTER = "1.2.840.10008.5.1.1.9"  # Basic Grayscale Print Management

log = Log("scu")


def verify(peer: PeerAddress) -> dict[str, object]:
    """Return what the peer says, for the row's ``answer``. Blocks: run it in a thread."""
    entity = peer.entity
    times = replace(
        entity.timeouts,
        connect_s=min(entity.timeouts.connect_s, LONGEST_S),
        acse_s=min(entity.timeouts.acse_s, LONGEST_S),
        dimse_response_s=min(entity.timeouts.dimse_response_s, LONGEST_S),
    )
    began = time.monotonic()
    try:
        assoc = associate(replace(peer, entity=replace(entity, timeouts=times)), _contexts(entity.ability))
    except (NoAssociation, NoContext) as error:
        return {"error": error.message, "associationMs": _ms(began)}
    found: dict[str, object] = {
        "associationMs": _ms(began),
        "accepted": sorted([c.sop_class, c.transfer_syntax] for c in assoc.accepted),
    }
    began = time.monotonic()
    takes_echo = VERIFICATION.sop_class in {c.sop_class for c in assoc.accepted}
    status = assoc.echo()
    assoc.release()
    if not takes_echo:
        return found | {"error": "NO_CONTEXT: the peer took the association, but not C-ECHO"}
    if status is None:
        return found | {"error": "BROKEN: the peer did not answer C-ECHO"}
    refused = None if status == 0 else f"STATUS_{status:04X}: the peer refused C-ECHO"
    return found | {"echoMs": _ms(began), "error": refused}


async def in_any_case(ae: str, asking: Awaitable[dict[str, object]]) -> dict[str, object]:
    """Return what ``asking`` found out, or why it could not be asked: somebody waits for an answer."""
    try:
        return await asking
    except AegateError as error:
        return {"error": f"{error.code}: {error.message}"}
    except Exception as fault:  # the outermost place of a request: nobody else hears of its fault
        log(VERIFICATION_FAILED, destination=ae, error=fault_text(fault))
        return {"error": "INTERNAL: the worker failed to ask it: look for verification.failed in its log"}


def _contexts(ability: Ability) -> list[ProposedContext]:
    if ability is Ability.PRINT:
        return [VERIFICATION, ProposedContext(_PRINTER, _IMPLICIT)]
    syntaxes = (_IMPLICIT, _EXPLICIT, _JPEG_LS, _J2K)
    return [VERIFICATION, *(ProposedContext(image, syntax) for image in _IMAGES for syntax in syntaxes)]


def _ms(began: float) -> int:
    return round((time.monotonic() - began) * 1000)
