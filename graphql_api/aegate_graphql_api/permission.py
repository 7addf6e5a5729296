"""The permissions by name, without the schema: a command that makes a token needs no GraphQL."""

from __future__ import annotations

from enum import StrEnum


class Permission(StrEnum):
    """What a token may do; TOKEN is what every valid one may."""

    TOKEN = "TOKEN"
    DICOM_QUEUE = "DICOM_QUEUE"
    AE_EDITOR = "AE_EDITOR"


GRANTABLE = (Permission.DICOM_QUEUE, Permission.AE_EDITOR)
