"""Which version of a resource somebody saw: known by what it says, so that files and clusters have it alike."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping


def spec_version(spec: Mapping[str, object]) -> str:
    """Return a word for a spec with its defaults (`to_spec`); the same spec has the same one, and another another."""
    text = json.dumps(spec, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
