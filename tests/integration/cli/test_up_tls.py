"""TLS of a whole installation, by the folder ``secrets`` beside its YAML, with dcmtk on both sides."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file

from tests.integration.cli.installations import QUICK, ROUTE, Up, aegate, device, installation
from tests.integration.identities import Authority
from tests.integration.peers import run_dcmtk, store_scp
from tests.integration.processes import free_port
from tests.integration.waiting import eventually

CT = Path(str(get_testdata_file("CT_small.dcm")))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A CA, and the identities ``server`` and ``client``."""
    return certified(tmp_path_factory.mktemp("tls") / "authority")


def certified(folder: Path) -> Authority:
    made = Authority.make(folder)
    made.issue(made.folder / "server")
    made.issue(made.folder / "client", "client")
    return made


def tls_options(authority: Authority, identity: str) -> tuple[str, ...]:
    """Return what makes a dcmtk program speak TLS as ``identity``."""
    key, certificate = (authority.folder / identity / f"tls.{kind}" for kind in ("key", "crt"))
    return ("+tls", str(key), str(certificate), "+cf", str(authority.folder / "ca.crt"))


def condition(up: Up, name: str, kind: str) -> tuple[str, str]:
    """Return reason and message of one condition of an AE."""
    nodes = up.ask("{ applicationEntities { nodes { name conditions { type reason message } } } }")
    (found,) = (n for n in nodes["applicationEntities"]["nodes"] if n["name"] == name)
    return next(((c["reason"], c["message"]) for c in found["conditions"] if c["type"] == kind), ("", ""))


def test_an_image_comes_and_goes_over_tls_once_the_secrets_are_there(
    tmp_path: Path, authority: Authority
) -> None:
    port = free_port()
    listener = f"  listener: {{port: {port}, tls: {{secretName: er}}}}\n"
    push = "  push: {tls: {serverName: localhost}}\n"
    with store_scp(tmp_path, title="PACS", options=("+xa", *tls_options(authority, "server"))) as pacs:
        manifests = {
            "ct1.yaml": device("ct1", more=QUICK + listener),
            "pacs.yaml": device("pacs", pacs.port, more=push),
            "r.yaml": ROUTE,
        }

        def store(*options: str) -> int:
            call = ("-aet", "CT1", "-aec", "AEGATE", "localhost", str(port), CT)
            return run_dcmtk("storescu", *options, *call).returncode

        with installation(tmp_path, manifests) as up:
            assert condition(up, "ct1", "ResolvedRefs")[0] == "SecretNotFound"
            assert "names 'er', which is not there" in condition(up, "ct1", "Ready")[1]
            assert store(*tls_options(authority, "client")) != 0
            authority.issue(up.folder / "secrets" / "er")
            ca = up.folder / "secrets" / "er" / "ca.crt"
            ca.unlink()
            eventually(lambda: f"waits for {ca}" in condition(up, "ct1", "Ready")[1], deadline_s=20)
            ca.write_bytes((authority.folder / "ca.crt").read_bytes())
            eventually(lambda: condition(up, "ct1", "Ready")[0] == "Ready", deadline_s=20)
            assert up.events("child.exited") == []
            assert condition(up, "ct1", "ResolvedRefs")[0] != "SecretNotFound"
            assert store() != 0, "a caller without TLS"
            assert store(*anonymous(authority)) != 0, "a caller without a certificate"
            assert store(*tls_options(authority, "client")) == 0
            why = "{ queueItems { nodes { state attempts whyNotMoving { text } } } }"
            waiting = eventually(lambda: up.ask(why)["queueItems"]["nodes"], deadline_s=20)
            eventually(lambda: "aegate-client" in str(waiting_reason(up, why)), deadline_s=20)
            assert waiting[0]["attempts"] == 0
            authority.issue(up.folder / "secrets" / "aegate-client", "client")
            (arrived,) = eventually(pacs.received, deadline_s=60)
            assert dcmread(arrived).PixelData == dcmread(CT).PixelData


def anonymous(authority: Authority) -> tuple[str, ...]:
    return ("+tla", "+cf", str(authority.folder / "ca.crt"))


def waiting_reason(up: Up, query: str) -> object:
    return up.ask(query)["queueItems"]["nodes"][0]["whyNotMoving"]


def test_a_certificate_that_is_replaced_is_served_without_a_restart(
    tmp_path: Path, authority: Authority
) -> None:
    port = free_port()
    listener = f"  listener: {{port: {port}, tls: {{secretName: er}}}}\n"
    other = certified(tmp_path / "other")
    authority.issue(tmp_path / "hospital" / "secrets" / "er")
    server = authority.folder / "server"
    more = ("--http-tls-cert", str(server / "tls.crt"), "--http-tls-key", str(server / "tls.key"))
    with installation(tmp_path, {"ct1.yaml": device("ct1", more=listener)}, more=more) as up:
        assert "default/ct1" in aegate("ae", "list", "--data", up.data).stdout
        call = ("-aet", "CT1", "-aec", "AEGATE", "localhost", str(port))
        assert run_dcmtk("echoscu", *tls_options(authority, "client"), *call).returncode == 0
        assert run_dcmtk("echoscu", *tls_options(other, "client"), *call).returncode != 0
        shutil.rmtree(up.folder / "secrets" / "er")
        other.issue(up.folder / "secrets" / "er")
        eventually(
            lambda: run_dcmtk("echoscu", *tls_options(other, "client"), *call).returncode == 0, deadline_s=20
        )
        assert run_dcmtk("echoscu", *tls_options(authority, "client"), *call).returncode != 0
        assert up.events("child.exited") == []
