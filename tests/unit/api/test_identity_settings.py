"""What is set wrong about sign-in and TLS is said at the start: the variable, the file or the rule, and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from aegate_core.errors import InvalidInput, InvalidValue
from aegate_graphql_api.authentication import refuse_exposure
from aegate_graphql_api.identity.chain import Chain
from aegate_graphql_api.identity.issuer import Issuer, is_safe
from aegate_graphql_api.identity.mapping import read_mapping, together
from aegate_graphql_api.identity.settings import IdentitySettings, identity_from
from aegate_graphql_api.page_config import page_config
from aegate_graphql_api.permission import Permission
from aegate_graphql_api.permissions import Caller

GOOD = "rules: [{claim: groups, value: a, permissions: [DICOM_QUEUE], partitions: [a/main]}]"


def environ(tmp_path: Path, mapping: str = GOOD, **changes: str) -> dict[str, str]:
    path = tmp_path / "mapping.yaml"
    path.write_text(mapping)
    given = {
        "AEGATE_OIDC_ISSUER": "https://login.test/realms/h",
        "AEGATE_OIDC_AUDIENCE": "aegate",
        "AEGATE_OIDC_MAPPING": str(path),
    }
    return given | changes


def test_nothing_set_is_local_tokens_alone() -> None:
    assert identity_from({}) == IdentitySettings()
    assert identity_from({"AEGATE_OIDC_ISSUER": "", "AEGATE_HTTP_TLS_CERT": ""}) == IdentitySettings()


def test_a_client_of_pages_needs_a_provider() -> None:
    with pytest.raises(InvalidValue, match="go together, got no AEGATE_OIDC_ISSUER"):
        identity_from({"AEGATE_OIDC_CLIENT_ID": "viewer"})


def test_a_provider_with_its_mapping(tmp_path: Path) -> None:
    found = identity_from(environ(tmp_path, AEGATE_OIDC_LEEWAY_S="5", AEGATE_HTTP_BEHIND_PROXY="true"))
    assert found.oidc is not None
    assert found.oidc.issuer == Issuer("https://login.test/realms/h", "aegate", 5)
    assert found.is_private
    assert found.kubernetes is None
    assert identity_from({"AEGATE_KUBERNETES_TOKENS": "true"}).kubernetes == "aegate.dev"
    assert found.oidc.mapping.name == "sub"
    grant = found.oidc.mapping.grant({"groups": ["x", "a"]})
    assert (grant.permissions, grant.reach.partitions) == ({Permission.DICOM_QUEUE}, {"a/main"})


def test_pages_are_told_how_to_sign_people_in_and_no_more(tmp_path: Path) -> None:
    paths = {"graphql": "graphql", "websocket": "graphql"}
    assert page_config(identity_from({})) == {**paths, "oidc": None}
    assert page_config(identity_from(environ(tmp_path))) == {**paths, "oidc": None}
    given = environ(tmp_path, AEGATE_OIDC_CLIENT_ID="viewer", AEGATE_OIDC_SCOPES="offline_access  openid")
    told = {
        "issuer": "https://login.test/realms/h",
        "clientId": "viewer",
        "scopes": ["openid", "offline_access"],
    }
    assert page_config(identity_from(given)) == {**paths, "oidc": told}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"AEGATE_OIDC_AUDIENCE": ""}, "go together, got no AEGATE_OIDC_AUDIENCE"),
        ({"AEGATE_OIDC_ISSUER": ""}, "got no AEGATE_OIDC_ISSUER"),
        ({"AEGATE_OIDC_ISSUER": "http://login.test"}, "AEGATE_OIDC_ISSUER must be an https URL"),
        ({"AEGATE_OIDC_ISSUER": "login.test"}, "AEGATE_OIDC_ISSUER must be an https URL"),
        ({"AEGATE_OIDC_MAPPING": "/nowhere"}, "AEGATE_OIDC_MAPPING must be a readable YAML or JSON file"),
        ({"AEGATE_OIDC_CA": "/nowhere"}, "AEGATE_OIDC_CA must be a PEM file"),
        ({"AEGATE_OIDC_LEEWAY_S": "301"}, "AEGATE_OIDC_LEEWAY_S must be 0 to 300"),
        ({"AEGATE_KUBERNETES_TOKENS": "yes"}, "AEGATE_KUBERNETES_TOKENS must be true or false"),
        ({"AEGATE_HTTP_BEHIND_PROXY": "1"}, "AEGATE_HTTP_BEHIND_PROXY must be true or false"),
        ({"AEGATE_HTTP_TLS_CERT": "/nowhere"}, "go together, got one"),
        ({"AEGATE_HTTP_TLS_CERT": "/nowhere", "AEGATE_HTTP_TLS_KEY": "/nowhere"}, "as PEM, got FileNotFound"),
    ],
)
def test_settings_that_cannot_be(tmp_path: Path, changes: dict[str, str], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        identity_from(environ(tmp_path, **changes))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "AEGATE_OIDC_MAPPING must be a readable YAML"),
        ("[]", "must be an object, got a list"),
        ("", "rules must hold at least one rule"),
        ("rules: []", "rules must hold at least one rule"),
        ("rule: []", "knows name, rules, got rule"),
        ("rules: [{}]", "permissions must list some of DICOM_QUEUE, AE_EDITOR, got none"),
        ("rules: [{claim: a, value: b, permissions: [ROOT]}]", "got \\['ROOT'\\]"),
        ("rules: [{claim: a, value: b, permissions: [TOKEN]}]", "got \\['TOKEN'\\]"),
        ("rules: [{value: b, permissions: [AE_EDITOR]}]", r"rules\[0\].claim is required"),
        ("rules: [{claim: a, value: 1, permissions: [AE_EDITOR]}]", r"rules\[0\].value must be a string"),
        ("rules: [{claim: a, value: b, permission: [AE_EDITOR]}]", "got permission: check the spelling"),
        (
            "rules: [{claim: a, value: b, permissions: [AE_EDITOR], partitions: [a/b]}]",
            "partitions goes with DICOM_QUEUE",
        ),
        (
            "rules: [{claim: a, value: b, permissions: [DICOM_QUEUE], namespaces: [a]}]",
            "namespaces goes with AE_EDITOR",
        ),
        (
            "rules: [{claim: a, value: b, permissions: [DICOM_QUEUE], partitions: [a]}]",
            r"rules\[0\]: expected namespace/name",
        ),
    ],
)
def test_mappings_that_cannot_be(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        identity_from(environ(tmp_path, text))


def test_rules_count_together_each_permission_with_its_own_reach(tmp_path: Path) -> None:
    path = tmp_path / "mapping.yaml"
    path.write_text(
        """
        rules:
          - {claim: g, value: a, permissions: [DICOM_QUEUE], partitions: [a/main]}
          - {claim: g, value: b, permissions: [DICOM_QUEUE], partitions: [b/main, b/other]}
          - {claim: g, value: editor, permissions: [AE_EDITOR], namespaces: [a]}
          - {claim: g, value: all, permissions: [DICOM_QUEUE]}
        """
    )
    mapping = read_mapping(path)
    for groups, partitions, namespaces in (
        ([], set(), set()),
        (["a"], {"a/main"}, set()),
        (["a", "b"], {"a/main", "b/main", "b/other"}, set()),
        (["editor"], set(), {"a"}),
        (["a", "all"], None, set()),
        (["editor", "a"], {"a/main"}, {"a"}),
    ):
        grant = mapping.grant({"g": groups})
        assert (grant.reach.partitions, grant.reach.namespaces) == (partitions, namespaces), groups
    assert together([]).permissions == frozenset()
    assert mapping.grant({"g": "a"}).permissions == {Permission.DICOM_QUEUE}
    assert mapping.grant({"g": {"a": True}, "x.g": ["a"]}).permissions == frozenset()


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("https://login.test/x", True),
        ("http://127.0.0.1:9/x", True),
        ("http://localhost/x", True),
        ("http://login.test", False),
        ("http://127.0.0.1.evil.test", False),
        ("ftp://login.test", False),
        ("https://", False),
        ("https://[", False),
        ("", False),
    ],
)
def test_only_tls_or_this_machine_is_believed(url: str, safe: bool) -> None:
    assert is_safe(url) == safe


class Knows:
    """An authenticator for tokens that begin with one letter."""

    def __init__(self, letter: str, *, local_only: bool) -> None:
        self.letter, self.local_only = letter, local_only

    def is_ours(self, token: str) -> bool:
        return token.startswith(self.letter)

    async def authenticate(self, token: str, *, address: str) -> Caller | None:
        return Caller(self.letter, frozenset({Permission.TOKEN})) if token.endswith("!") else None


async def test_the_first_that_knows_a_token_decides_alone() -> None:
    chain = Chain(
        [Knows("l", local_only=True), Knows("o", local_only=False), Knows("", local_only=False)], exposed=True
    )
    assert not chain.local_only
    for token, address, name in (
        ("l!", "127.0.0.1", "l"),
        ("l!", "10.0.0.1", None),
        ("l!", "", None),
        ("o!", "10.0.0.1", "o"),
        ("o", "10.0.0.1", None),
        ("z!", "10.0.0.1", ""),
    ):
        caller = await chain.authenticate(token, address=address)
        assert (caller.name if caller else None) == name, (token, address)
    proxied = Chain([Knows("l", local_only=True)], exposed=False)
    assert await proxied.authenticate("l!", address="10.0.0.1") is not None
    assert await proxied.authenticate("x!", address="127.0.0.1") is None
    assert proxied.local_only


def test_beyond_loopback_needs_a_provider_and_tls() -> None:
    local, other = Knows("l", local_only=True), Knows("o", local_only=False)
    refuse_exposure(local, "127.0.0.1")
    refuse_exposure(other, "0.0.0.0", is_private=True)
    with pytest.raises(InvalidValue, match="AEGATE_OIDC_ISSUER"):
        refuse_exposure(local, "0.0.0.0", is_private=True)
    with pytest.raises(InvalidValue, match="AEGATE_HTTP_TLS_CERT"):
        refuse_exposure(other, "0.0.0.0")
