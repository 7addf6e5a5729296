"""States of queue items and of their images, and why an item is not moving: the words that programs go by."""

from __future__ import annotations

from enum import StrEnum

import strawberry

from aegate_core.decisions.moving import NotMovingCode
from aegate_graphql_api.permissions import QUEUE
from aegate_graphql_api.schema.enums import in_words

in_words(
    "Why an item is where it is.",
    WAITING_FOR_COMPLETE="Its study or series is not complete yet: images may still come.",
    HELD="A person holds it; it goes on when somebody resumes it.",
    DESTINATION_HELD="A person holds all that goes to its destination.",
    DESTINATION_DISABLED="Its destination is switched off.",
    DESTINATION_GONE="Its destination was removed; it goes on when an AE of that name is there again.",
    DESTINATION_INVALID="Its destination is configured so that nothing can be sent to it.",
    BREAKER_OPEN="Its destination is in trouble, and is asked again and again by itself.",
    SLOTS_FULL="As many studies are being sent to its destination as may be at once.",
    BACKOFF="An attempt failed; it is tried again at the time that is told.",
    NEEDS_RECONCILIATION="Its patient or order is not matched uniquely.",
    PATIENT_MISMATCH="Its study came before under another patient's id: decide about the conflict.",
    READY="It is in line; a worker takes it up at once.",
    NO_WORKER="No worker process runs, so nothing is sent at all.",
    SENDING="It is being sent now.",
    DEAD="It was given up, and nothing happens by itself: mend the cause, then retry it.",
)(NotMovingCode)


@in_words(
    "Where a queue item is on its way. COMPLETED, WARNING, FAILED and CANCELED are the end; FAILED and CANCELED can be "
    "retried.",
    SCHEDULED="It waits to be sent.",
    IN_PROGRESS="It is being sent now.",
    RETRY="An attempt failed; it is tried again by itself.",
    HELD="It waits until somebody resumes it, or the cause of the hold is gone.",
    COMPLETED="All its images were taken.",
    WARNING="All its images were taken, and of some the destination said that it changed or left out something.",
    FAILED="Some of its images were given up: nothing happens by itself.",
    CANCELED="A person cancelled it; what had been taken before stays delivered.",
)
class DeliveryState(StrEnum):
    """States of a queue item."""

    SCHEDULED = "SCHEDULED"
    IN_PROGRESS = "IN_PROGRESS"
    RETRY = "RETRY"
    HELD = "HELD"
    COMPLETED = "COMPLETED"
    WARNING = "WARNING"
    FAILED = "FAILED"
    CANCELED = "CANCELED"


@in_words(
    "What became of an image in a delivery.",
    PENDING="It is still to be sent, or sent again.",
    STORED="The destination took it.",
    WARNING="The destination took it, and said that it changed or left out something.",
    DEAD="It was given up: status and errorCode say why.",
    CANCELED="It was not sent: its item was cancelled before.",
)
class InstanceState(StrEnum):
    """States of an instance in a delivery."""

    PENDING = "PENDING"
    STORED = "STORED"
    WARNING = "WARNING"
    DEAD = "DEAD"
    CANCELED = "CANCELED"


@strawberry.type(description="How many items are in a state.", directives=[QUEUE])
class StateCount:
    """A count."""

    state: DeliveryState = strawberry.field(description="The state that is counted.")
    count: int = strawberry.field(description="How many items are in it, such as 12.")
