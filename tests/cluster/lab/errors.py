"""What a lab says when it cannot be had."""

from __future__ import annotations


class LabRefused(Exception):
    """Something that a lab needs is not there or in use; the message says what to do."""
