"""Argo CD's view of an object, as it runs our script."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lupa.lua54 import LuaRuntime

FOLDER = Path(__file__).parents[3] / "docs" / "operations" / "examples" / "argocd"
SCRIPT = (FOLDER / "health.lua").read_text()
SCRIPTED = ("ApplicationEntity", "ImageRoute", "PatientPartition")
"""Kinds that have it. Of others, such as AEPolicy, Argo CD says nothing, and they make nothing wait."""


def argo_cd(obj: dict[str, Any]) -> tuple[str, str]:
    """Return status and message: ``obj`` is a global, the script returns a table.

    What is being deleted is on its way whatever a script says: Argo CD does not ask it.
    """
    if obj["kind"] not in SCRIPTED:
        return "", ""
    if "deletionTimestamp" in obj["metadata"]:
        return "Progressing", "Pending deletion"
    lua = LuaRuntime(register_eval=False, attribute_filter=lambda *_: (_ for _ in ()).throw(AttributeError))
    lua.globals().obj = lua.table_from(obj, recursive=True)
    found = lua.execute(SCRIPT)
    return found["status"], found["message"]
