"""What a mutation answered: its payload, or the problem as an error in words with the exit code that belongs to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aegate_cli.api.client import API
from aegate_cli.api.errors import APIError, error_of
from aegate_core.errors import AegateError


def change(api: API, name: str, **variables: object) -> dict[str, Any]:
    """Return the payload of a mutation. Raises AegateError for a problem."""
    answer: dict[str, Any] = api.ask(name, **variables)["done"]
    if "code" in answer:
        raise problem_of(answer)
    return answer


def problem_of(answer: Mapping[str, Any]) -> AegateError:
    """Return a problem as an error, with the next step."""
    code, message = str(answer["code"]), str(answer["message"])
    if code == "MANAGED_ELSEWHERE":
        fields = ", ".join(answer.get("fields") or []) or "it"
        step = (
            "change it there, or force it with --take-over"
            if answer.get("canTakeOver")
            else "change it there: a change by this command would be undone"
        )
        return APIError(f"{answer['manager']} owns {fields}: {step}")
    if code == "CONFLICT":
        return APIError(f"it is not as it was: {message}")
    return error_of(code, message)
