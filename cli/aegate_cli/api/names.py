"""What people type for what the API knows by an id: q17, s4, o2, an accession number, a UID, an AE's name or title."""

from __future__ import annotations

import re
from collections.abc import Sequence

from aegate_cli.api.client import API
from aegate_cli.api.errors import APIError
from aegate_core.errors import InvalidInput
from aegate_graphql_api.global_ids import decode_id, encode_id

SHORT = {"QueueItem": "q", "Study": "s", "Operation": "o"}
"""Short forms have a letter: a number alone may be an accession number."""

_SHORT = re.compile(r"([qso])([1-9][0-9]{0,17})")
_KINDS = {letter: kind for kind, letter in SHORT.items()}
_UID = re.compile(r"[0-9]+(\.[0-9]+)+")
MOST_LISTED = 10
MOST_IN = 100
"""Values that a filter of the API takes."""

LONGEST_ACCESSION_NUMBER = 16
"""Of those that keep to SH (PS3.5 6.2)."""


def short(global_id: str) -> str:
    """Return the short form of an id; the id where it has none."""
    found = decode_id(global_id)
    return f"{SHORT[found[0]]}{found[1]}" if found is not None and found[0] in SHORT else global_id


def id_of(text: str, kind: str) -> str | None:
    """Return the id that a short form or an id of ``kind`` is; None for another text.

    >>> short(id_of("q17", "QueueItem"))
    'q17'
    """
    match = _SHORT.fullmatch(text)
    if match and _KINDS[match[1]] == kind:
        return encode_id(kind, match[2])
    found = decode_id(text)
    return text if found is not None and found[0] == kind else None


def name_of(text: str) -> str:
    """Return the name of the resource that a name or an AE title means; a title has one name (the CRD's rule).

    >>> name_of("CT_1"), name_of("radiology/CT 1")
    ('ct-1', 'radiology/ct-1')
    """
    return re.sub(r"[_ .]", "-", text.lower())


def named(text: str) -> dict[str, str]:
    """Return the filter on namespace/name for an AE that was typed with its namespace or without."""
    name = name_of(text)
    if not re.fullmatch(r"([a-z0-9-]+/)?[a-z0-9-]+", name):
        raise InvalidInput("expected an AE's name, namespace/name or title, got other characters: correct it")
    return {"eq": name} if "/" in name else {"matches": f"*/{name}"}


def find_destination(api: API, text: str) -> dict[str, str]:
    """Return id and ``ae`` of the one destination that is meant. Raises APIError for none and for several."""
    nodes = api.ask("destinations", where={"ae": named(text)}, first=MOST_LISTED)["found"]["nodes"]
    if len(nodes) == 1:
        return {"id": str(nodes[0]["id"]), "ae": str(nodes[0]["ae"])}
    if nodes:
        raise APIError(
            f"several destinations have this name: write one of {_listed([n['ae'] for n in nodes])}"
        )
    raise APIError(
        "there is no destination of this name: give an AE that images go to, such as pacs or default/pacs"
    )


def find_study(api: API, text: str) -> dict[str, object]:
    """Return the one study that is meant: s4, its UID, its accession number, or AE/accession number.

    Raises APIError for none and for several.
    """
    if (study_id := id_of(text, "Study")) is not None:
        study: dict[str, object] | None = api.ask("study_identity", id=study_id)["study"]
        if study is not None:
            if _accession_numbers(api, [text]):
                raise _ambiguous(text, study_id)
            return study
    for where in _meanings(text):
        nodes = api.ask("study_identities", where=where, first=MOST_LISTED)["found"]["nodes"]
        if len(nodes) > 1:
            listed = _listed(
                [f"{short(n['id'])} (from {n['sourceAe']}, {n['lastArrivalAt'][:16]})" for n in nodes]
            )
            raise APIError(f"several studies are meant: write one of {listed}")
        if nodes:
            found: dict[str, object] = nodes[0]
            return found
    raise _no_study()


def find_items(api: API, texts: Sequence[str]) -> dict[str, str]:
    """Return the ids of those texts that mean queue items. Raises APIError for one that means a study as well."""
    found = {text: item for text in texts if (item := id_of(text, "QueueItem")) is not None}
    for text in _accession_numbers(api, list(found)):
        if api.ask("queue_item", id=found[text])["queueItem"] is not None:
            raise _ambiguous(text, found[text])
        del found[text]
    return found


def _accession_numbers(api: API, texts: Sequence[str]) -> list[str]:
    """Return those short forms that are accession numbers, too."""
    forms = [text for text in texts if _SHORT.fullmatch(text)]
    return [
        text
        for at in range(0, len(forms), MOST_IN)
        if _has_accession(api, *forms[at : at + MOST_IN])
        for text in forms[at : at + MOST_IN]
        if _has_accession(api, text)
    ]


def _has_accession(api: API, *numbers: str) -> bool:
    where = {"accessionNumber": {"in": numbers}}
    return bool(api.ask("study_identities", where=where, first=1)["found"]["nodes"])


def _ambiguous(text: str, found: str) -> APIError:
    return APIError(
        f"{text} is the short form of an id and an accession number: write {found} for the one, AE/{text} for the other"
    )


def _meanings(text: str) -> list[dict[str, object]]:
    """Return filters in the order in which they are tried; accession numbers may have a slash in them."""
    found: list[dict[str, object]] = [*_is_study(text)]
    parts = text.split("/")
    for count in range(1, min(3, len(parts))):
        try:
            source = named("/".join(parts[:count]))
        except InvalidInput:
            continue
        found += ({"sourceAe": source, **study} for study in _is_study("/".join(parts[count:])))
    return found


def _is_study(text: str) -> list[dict[str, object]]:
    by_accession: dict[str, object] = {"accessionNumber": {"eq": text}}
    if not _UID.fullmatch(text):
        return [by_accession]
    by_uid: dict[str, object] = {"studyInstanceUid": {"eq": text}}
    return [by_uid, by_accession] if len(text) > LONGEST_ACCESSION_NUMBER else [by_accession, by_uid]


def _no_study() -> APIError:
    return APIError(
        "there is no such study, or none that your token may see: give its accession number, its UID, or the s… of "
        "`aegate study find`"
    )


def _listed(names: list[str]) -> str:
    more = ", …" if len(names) == MOST_LISTED else ""
    return ", ".join(names) + more
