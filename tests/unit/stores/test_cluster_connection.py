"""Where the API server is and who we are to it: kubeconfigs and service accounts, good and wrong."""

from __future__ import annotations

import base64
import ssl
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from aegate_core.errors import InvalidInput
from aegate_core.stores.cluster.connection import TOKEN_LIFE_S, Token, in_cluster, read_connection
from aegate_core.stores.cluster.kinds import APPLICATION_ENTITY, POD
from tests.integration.identities import Authority


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.make(tmp_path / "authority")


def kubeconfig(
    tmp_path: Path,
    *,
    cluster: dict[str, Any] | None = None,
    user: dict[str, Any] | None = None,
    **members: Any,
) -> dict[str, str]:
    config = {
        "current-context": "lab",
        "contexts": [{"name": "lab", "context": {"cluster": "c", "user": "u", "namespace": "radiology"}}],
        "clusters": [{"name": "c", "cluster": {"server": "https://10.0.0.1:6443/", **(cluster or {})}}],
        "users": [{"name": "u", "user": user or {}}],
        **members,
    }
    file = tmp_path / "kubeconfig"
    YAML(typ="safe").dump(config, file)
    return {"KUBECONFIG": str(file)}


def test_a_kubeconfig_with_a_token(tmp_path: Path) -> None:
    connection = read_connection(kubeconfig(tmp_path, user={"token": "secret"}))
    assert (connection.server, connection.namespace) == ("https://10.0.0.1:6443", "radiology")
    assert connection.headers() == {"Authorization": "Bearer secret"}
    assert connection.tls.verify_mode is ssl.CERT_REQUIRED
    assert "secret" not in repr(connection)


def test_a_token_file_lies_beside_the_kubeconfig(tmp_path: Path) -> None:
    (tmp_path / "tok").write_text("t1\n")
    connection = read_connection(kubeconfig(tmp_path, user={"tokenFile": "tok"}))
    assert connection.headers() == {"Authorization": "Bearer t1"}


@pytest.mark.parametrize("form", ["file", "data"])
def test_client_certificates(tmp_path: Path, authority: Authority, form: str) -> None:
    identity = authority.issue(tmp_path / "admin")
    files = {"client-certificate": identity.certificate, "client-key": identity.key}
    given: dict[str, Any] = {name: str(path) for name, path in files.items()}
    cluster: dict[str, Any] = {"certificate-authority": str(identity.ca)}
    if form == "data":
        given = {f"{n}-data": base64.b64encode(p.read_bytes()).decode() for n, p in files.items()}
        data = base64.b64encode(identity.ca.read_bytes()).decode()
        cluster = {"certificate-authority-data": data}
    connection = read_connection(kubeconfig(tmp_path, cluster=cluster, user=given))
    assert connection.headers() == {}
    assert len(connection.tls.get_ca_certs()) == 1


def test_no_verification_where_it_is_said_so(tmp_path: Path) -> None:
    connection = read_connection(kubeconfig(tmp_path, cluster={"insecure-skip-tls-verify": True}))
    assert connection.tls.verify_mode is ssl.CERT_NONE


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"current-context": "other"}, "must hold 'other' among its contexts, got none"),
        ({"clusters": []}, "must hold 'c' among its clusters, got none"),
        ({"user": {"exec": {"command": "aws"}}}, "got exec: make a kubeconfig"),
        ({"user": {"client-certificate-data": "AAAA", "client-key-data": "AAAA"}}, "must be PEM"),
        ({"user": {"client-certificate": "none", "client-key": "none"}}, "must be PEM"),
        ({"contexts": "text"}, "contexts must be a list"),
    ],
)  # fmt: skip
def test_a_kubeconfig_that_cannot_be_used(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        read_connection(kubeconfig(tmp_path, **changes))


@pytest.mark.parametrize("content", [None, b"\xff", b"a: [", b"[]"])
def test_a_kubeconfig_that_is_none(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "kubeconfig"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InvalidInput):
        read_connection({"KUBECONFIG": str(file)})


def test_a_service_account(tmp_path: Path, authority: Authority) -> None:
    folder = tmp_path / "account"
    folder.mkdir()
    (folder / "ca.crt").write_bytes((authority.folder / "ca.crt").read_bytes())
    (folder / "namespace").write_text("aegate-system")
    (folder / "token").write_text("t1")
    environ = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "6443"}
    connection = in_cluster(environ, folder=folder)
    assert (connection.server, connection.namespace) == ("https://[fd00::1]:6443", "aegate-system")
    assert connection.headers() == {"Authorization": "Bearer t1"}
    (folder / "token").write_text("t2")
    assert connection.headers(anew=True) == {"Authorization": "Bearer t2"}


def test_outside_of_a_pod_and_without_an_account(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="run in a cluster, or set KUBECONFIG"):
        read_connection({})
    with pytest.raises(InvalidInput, match="the service account must be mounted at"):
        in_cluster({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, folder=tmp_path)


def test_a_token_is_read_again_every_minute_and_the_last_one_stays(tmp_path: Path) -> None:
    now_s = [0.0]
    file = tmp_path / "token"
    token = Token(file=file, clock=lambda: now_s[0])
    with pytest.raises(InvalidInput, match="token must be readable"):
        token.get()
    file.write_text("a")
    assert token.get() == "a"
    file.write_text("b")
    assert token.get() == "a"
    now_s[0] += TOKEN_LIFE_S
    assert token.get() == "b"
    file.unlink()
    now_s[0] += TOKEN_LIFE_S
    assert token.get() == "b"


def test_paths() -> None:
    assert POD.path() == "/api/v1/pods"
    assert APPLICATION_ENTITY.path("a", "b", "status") == (
        "/apis/aegate.dev/v1alpha1/namespaces/a/applicationentities/b/status"
    )
