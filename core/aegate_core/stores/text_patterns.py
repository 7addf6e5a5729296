"""What a person typed as a text to look for, as LIKE patterns (``\\`` escapes) that mean the same on both databases.

Wildcards are DICOM's (PS3.4 C.2.2.2.4): ``*`` any characters, ``?`` one. In a text of several words they fit whole
words: ``mül*`` is a word that begins so, ``*ann`` one that ends so; without a wildcard a word may stand anywhere.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from aegate_core.dicom.text import BETWEEN_GROUPS, search_text

MOST_ROTATED = 6
"""Words of a phrase that are also looked for in their other orders. A name has five components."""

_WILD = re.compile(r"[*?]")


@dataclass(frozen=True, slots=True)
class Needle:
    """What must be found: one of ``patterns`` fits. Each of ``pieces`` is then in the text, folded."""

    patterns: tuple[str, ...]
    pieces: tuple[str, ...]


def has_wildcard(text: str) -> bool:
    """Whether ``*`` or ``?`` stands in it, or one of their wide forms."""
    return _WILD.search(search_text(text)) is not None


def letters(text: str) -> int:
    """Return how many characters are asked for, wildcards and blanks not counted."""
    return len(re.sub(r"[*?\s]", "", search_text(text)))


def contained(text: str) -> Needle:
    """Return ``text`` as it stands, anywhere."""
    return Needle((f"%{_escaped(text)}%",), (search_text(text),))


def beginning(text: str) -> Needle:
    """Return ``text`` as a beginning."""
    return Needle((f"{_escaped(text)}%",), (search_text(text),))


def whole(text: str) -> Needle:
    """Return ``text`` as the whole of it, with wildcards, also in the wide forms of a Japanese keyboard.

    >>> whole("P1＊").patterns
    ('P1%',)
    """
    narrow = "".join(unicodedata.normalize("NFKD", c) if has_wildcard(c) else c for c in text)
    return Needle((_wild(narrow),), tuple(search_text(piece) for piece in _WILD.split(narrow)))


def phrase(text: str) -> Needle:
    """Return what a search text holds of it: words in their order, or begun at another, as given and family name are.

    >>> phrase("Jörg Müller").patterns
    ('%jorg muller%', '%muller jorg%')
    """
    words = search_text(text).split()
    turns = range(len(words)) if len(words) <= MOST_ROTATED else range(1)
    turned = dict.fromkeys(" ".join(words[n:] + words[:n]) for n in turns)
    return Needle(tuple(f"%{_escaped(t)}%" for t in turned) or ("%",), tuple(words))


def word(text: str) -> Needle:
    """Return one word, or a phrase, of a search text: with wildcards it fits whole words.

    >>> word("Mül*").patterns
    ('mul%', '% mul%')
    """
    folded = search_text(text)
    if not _WILD.search(folded):
        return phrase(folded)
    before = ("",) if folded.startswith("*") else ("", "% ")
    after = ("",) if folded.endswith("*") else ("", " %")
    patterns = tuple(f"{b}{_wild(folded)}{a}" for b in before for a in after)
    return Needle(patterns, tuple(_WILD.split(folded)))


def name_words(text: str, *, wild: bool) -> tuple[Needle, ...]:
    """Return the words of a person's name, in no order: each somewhere, or as a whole word where it has wildcards."""
    words = search_text(text.replace(",", " ")).split()
    return tuple(word(w) if wild else phrase(w) for w in words)


def name_beginning(text: str) -> Needle:
    """Return how one of the component groups of a name begins."""
    folded = search_text(text.replace(",", " "))
    begun = f"{_escaped(folded)}%"
    return Needle((begun, f"%{BETWEEN_GROUPS.lstrip()}{begun}"), (folded,))


def _escaped(text: str) -> str:
    return "".join(f"\\{c}" if c in "\\%_" else c for c in text)


def _wild(text: str) -> str:
    return _escaped(text).replace("*", "%").replace("?", "_")
