"""AE titles as devices really send them: padded with blanks or NULs, sometimes in another case (PS3.5 6.2 VR AE)."""

from __future__ import annotations

from dataclasses import dataclass

from aegate_core.errors import InvalidValue

MAX_LENGTH = 16


@dataclass(frozen=True, slots=True)
class AETitle:
    """An application entity title without its padding: 1 to 16 printable ASCII characters, no backslash."""

    value: str

    def __post_init__(self) -> None:
        title = self.value
        if not 1 <= len(title) <= MAX_LENGTH:
            raise InvalidValue(f"AE title must be 1 to 16 characters, got {len(title)}: shorten it")
        if title != title.strip(" "):
            raise InvalidValue(
                "AE title may not start or end with a space: DICOM drops such spaces; remove them"
            )
        if any(not " " <= c <= "~" or c == "\\" for c in title):
            raise InvalidValue(
                "AE title may hold only printable ASCII without backslash (PS3.5 6.2): use A-Z, 0-9, _"
            )

    def __str__(self) -> str:
        return self.value

    @property
    def folded(self) -> str:
        """The key for comparing without regard to case."""
        return self.value.casefold()


def clean_title(raw: str | bytes) -> str:
    """Return a title from the wire without padding and without what could hurt a log or a path.

    Blanks and NULs around it go; anything that is not printable ASCII becomes ``?``. Never raises: what a hostile peer
    sends must still be loggable. The result may be empty.
    """
    text = raw.decode("latin-1") if isinstance(raw, bytes) else raw
    return "".join(c if " " <= c <= "~" else "?" for c in text.strip(" \0"))[:MAX_LENGTH]
