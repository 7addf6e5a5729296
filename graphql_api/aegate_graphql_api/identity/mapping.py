"""What the claims of an OIDC token permit: a short YAML or JSON file of rules, checked when the API starts.

    name: sub                          # the claim that names the caller in the audit
    rules:
      - claim: groups                  # a claim; realm_access.roles looks into objects
        value: radiology               # it is this, or holds it
        permissions: [DICOM_QUEUE]
        partitions: [radiology/main]   # left out: all of them
      - claim: groups
        value: pacs-admins
        permissions: [DICOM_QUEUE, AE_EDITOR]
        namespaces: [radiology]        # where AE_EDITOR holds; left out: everywhere

All rules that fit count together. A token that none fits may read `viewer` and no more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from aegate_core.errors import InvalidInput, InvalidResource, InvalidValue
from aegate_core.resources.fields import Fields
from aegate_graphql_api.permission import GRANTABLE, Permission
from aegate_graphql_api.reach import Reach, reach_of

_RULE = {"claim", "value", "permissions", "partitions", "namespaces"}


@dataclass(frozen=True, slots=True)
class Grant:
    """Permissions with how far they reach."""

    permissions: frozenset[Permission]
    reach: Reach


NOTHING = Grant(frozenset(), Reach(frozenset(), frozenset()))


def together(grants: Iterable[Grant]) -> Grant:
    """Return what several grants permit: one that reaches everywhere wins, each permission with its own reach."""
    found = list(grants)
    if not found:
        return NOTHING
    return Grant(
        frozenset().union(*(g.permissions for g in found)),
        Reach(
            _union([g.reach.partitions for g in found if Permission.DICOM_QUEUE in g.permissions]),
            _union([g.reach.namespaces for g in found if Permission.AE_EDITOR in g.permissions]),
        ),
    )


def _union(parts: list[frozenset[str] | None]) -> frozenset[str] | None:
    names: frozenset[str] = frozenset()
    for part in parts:
        if part is None:
            return None
        names |= part
    return names


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: who has this value in that claim holds the grant."""

    claim: str
    value: str
    grant: Grant

    def fits(self, claims: Mapping[str, object]) -> bool:
        """Whether the claim is the value, or a list that holds it."""
        found = claim_of(claims, self.claim)
        return self.value in found if isinstance(found, list) else found == self.value


@dataclass(frozen=True, slots=True)
class ClaimMapping:
    """The whole file."""

    name: str
    rules: tuple[Rule, ...]

    def grant(self, claims: Mapping[str, object]) -> Grant:
        """Return what these claims permit."""
        return together(rule.grant for rule in self.rules if rule.fits(claims))


def claim_of(claims: Mapping[str, object], name: str) -> object:
    """Return the claim of this name, else what its dotted path leads to, else None."""
    if name in claims:
        return claims[name]
    first, dot, rest = name.partition(".")
    inner = claims.get(first)
    return claim_of(inner, rest) if dot and isinstance(inner, Mapping) else None


def read_mapping(path: Path) -> ClaimMapping:
    """Return the mapping in the file at ``path``. Raises InvalidInput naming the rule and what is wrong with it."""
    try:
        document = YAML(typ="safe", pure=True).load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise InvalidInput(
            f"AEGATE_OIDC_MAPPING must be a readable YAML or JSON file, got {type(error).__name__} at {path}: mend it"
        ) from error
    fields = Fields(document, str(path))
    _only(document, {"name", "rules"}, str(path))
    rules = fields.items("rules")
    if not rules:
        raise InvalidResource(
            f"{path}: rules must hold at least one rule, got none: nobody could do anything"
        )
    return ClaimMapping(
        fields.text("name", "sub"), tuple(_rule(r, f"{path}: rules[{n}]") for n, r in enumerate(rules))
    )


def _rule(entry: object, place: str) -> Rule:
    fields = Fields(entry, place)
    _only(entry, _RULE, place)
    permissions = fields.texts("permissions")
    unknown = [p for p in permissions if p not in {str(known) for known in GRANTABLE}]
    if unknown or not permissions:
        raise InvalidResource(
            f"{place}.permissions must list some of {', '.join(GRANTABLE)}, got {unknown or 'none'}: correct it"
        )
    granted = frozenset(Permission(p) for p in permissions)
    for member, needed in (("partitions", Permission.DICOM_QUEUE), ("namespaces", Permission.AE_EDITOR)):
        if member in fields and needed not in granted:
            raise InvalidResource(f"{place}.{member} goes with {needed}: add the permission, or leave it out")
    try:
        reach = reach_of(
            fields.texts("partitions") if "partitions" in fields else None,
            fields.texts("namespaces") if "namespaces" in fields else None,
        )
    except InvalidValue as error:
        raise InvalidResource(f"{place}: {error.message}") from error
    return Rule(fields.required_text("claim"), fields.required_text("value"), Grant(granted, reach))


def _only(entry: object, known: set[str], place: str) -> None:
    unknown = sorted(str(name) for name in entry if name not in known) if isinstance(entry, Mapping) else []
    if unknown:
        raise InvalidResource(
            f"{place} knows {', '.join(sorted(known))}, got {', '.join(unknown)}: check the spelling"
        )
