"""TLS files that are missing, wrong or expired: the process lives, its port is closed, and it says why."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from aegate_core.decisions.listener_config import ListenerConfig, TLSFiles
from aegate_core.health import read_state
from aegate_core.resources.conditions import Reason
from aegate_scp.listener import Listener
from aegate_scp.metrics import ListenerMetrics
from aegate_scp.tls import read_identity
from tests.integration.identities import Authority, Identity
from tests.integration.processes import free_port, is_listening
from tests.integration.scp.listeners import RunningListener, entity, running_listener
from tests.integration.scp.test_tls import associated, refusals, serial, serial_of
from tests.integration.scp.wires import RELEASE_RQ, associate_rq, connected, pdu, pdv, store_rq
from tests.integration.waiting import eventually

METRIC = "aegate_certificate_not_after_seconds"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("identities") / "hospital")


@pytest.fixture(scope="module")
def device(authority: Authority) -> Identity:
    return authority.issue(authority.folder / "device", "ct1")


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    return tmp_path / "secret"


def files(secret: Path, client_auth: str = "Require") -> TLSFiles:
    return TLSFiles(*(str(secret / name) for name in ("tls.crt", "tls.key", "ca.crt")), client_auth)


@contextmanager
def listening(folder: Path, secret: Path) -> Iterator[tuple[RunningListener, int]]:
    """A listener with TLS on a port that is known before it is open."""
    port = free_port()
    with running_listener(folder, tls=files(secret), port=port, is_open=False) as listener:
        yield listener, port


def point(link: Path, secret: Path) -> None:
    """Exchange all files of a secret in one step, as kubelet does."""
    new = link.with_name("new-link")
    new.symlink_to(secret)
    new.replace(link)


def certificate(listener: RunningListener) -> dict[str, str | None]:
    status, text = listener.get("/state")
    assert status == 200
    found = json.loads(text)["certificate"]
    assert isinstance(found, dict)
    return found


def remove(authority: Authority, secret: Path) -> None:
    shutil.rmtree(secret, ignore_errors=True)


def leave_ca_out(authority: Authority, secret: Path) -> None:
    authority.issue(secret).ca.unlink()


def exchange_key(authority: Authority, secret: Path) -> None:
    authority.issue(secret.with_name("other"))
    authority.issue(secret)
    shutil.copy(secret.with_name("other") / "tls.key", secret / "tls.key")


def garble(name: str) -> Callable[[Authority, Path], None]:
    def write(authority: Authority, secret: Path) -> None:
        authority.issue(secret)
        (secret / name).write_text("not what a CA writes\n")

    return write


def encrypt_key(authority: Authority, secret: Path) -> None:
    identity = authority.issue(secret)
    command = [
        "openssl",
        "ec",
        "-aes256",
        "-passout",
        "pass:secret",
        "-in",
        identity.key,
        "-out",
        identity.key,
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=30)


def expire(authority: Authority, secret: Path) -> None:
    authority.issue(secret, days=-1)


BAD: dict[str, tuple[Callable[[Authority, Path], None], str, str]] = {
    "no secret": (remove, "SecretNotFound", "tls.crt, tls.key, ca.crt must be in the secret"),
    "no client CA": (leave_ca_out, "SecretNotFound", "ca.crt must be in the secret"),
    "another's key": (exchange_key, "CertificateInvalid", "KEY_VALUES_MISMATCH"),
    "no certificate": (garble("tls.crt"), "CertificateInvalid", "tls.crt and tls.key must be readable PEM"),
    "no key": (garble("tls.key"), "CertificateInvalid", "tls.crt and tls.key must be readable PEM"),
    "no CA's certificate": (garble("ca.crt"), "CertificateInvalid", "ca.crt must be readable PEM"),
    "key with a password": (encrypt_key, "CertificateInvalid", "tls.crt and tls.key must be readable PEM"),
    "expired": (expire, "CertificateExpired", "renew the certificate"),
}


@pytest.mark.parametrize("name", BAD)
def test_port_stays_closed_until_good_files_come(
    name: str, tmp_path: Path, authority: Authority, device: Identity, secret: Path
) -> None:
    spoil, problem, words = BAD[name]
    spoil(authority, secret)

    with listening(tmp_path, secret) as (listener, port):
        said = certificate(listener)
        assert (said["problem"], words in str(said["message"])) == (problem, True)
        assert (listener.state.state, listener.state.port) == ("degraded", 0)
        assert listener.state.message == f"the TLS port is closed: {said['message']}"
        assert listener.get("/readyz") == (503, f"{listener.state.message}\n")
        assert listener.get("/healthz") == (200, "ok\n")
        assert not is_listening(port)

        authority.issue(secret)

        eventually(lambda: listener.state.state == "ready")
        assert serial_of(port, device)
        assert certificate(listener)["problem"] is None
        assert listener.get("/readyz")[0] == 200
        assert listener.child.poll() is None
    assert listener.child.returncode == 0


def test_what_is_served_is_not_given_up_for_files_that_cannot_be_used(
    tmp_path: Path, authority: Authority, device: Identity
) -> None:
    good, link = tmp_path / "good", tmp_path / "secret"
    authority.issue(good)
    point(link, good)
    with listening(tmp_path, link) as (listener, port):
        first = serial_of(port, device)
        for number, (spoil, problem, _) in enumerate(BAD.values()):
            spoil(authority, tmp_path / f"bad-{number}" / "secret")
            point(link, tmp_path / f"bad-{number}" / "secret")

            eventually(lambda p=problem: certificate(listener)["problem"] == p)  # type: ignore[misc]
            assert str(certificate(listener)["message"]).endswith("; the last good one is still served")
            assert serial_of(port, device) == first
            assert listener.get("/readyz")[0] == 200
        listener.configure(entities=(entity("ct1", max_associations=3),))
        eventually(lambda: listener.state.generation == 2)
        assert serial_of(port, device) == first

        authority.issue(tmp_path / "new")
        point(link, tmp_path / "new")

        eventually(lambda: certificate(listener)["problem"] is None)
        assert serial_of(port, device) != first


def test_plain_listener_that_is_to_speak_tls_never_speaks_plain_again(
    tmp_path: Path, authority: Authority, device: Identity, secret: Path
) -> None:
    port = free_port()
    with running_listener(tmp_path, port=port) as listener, connected(port) as peer:
        peer.associate()

        listener.configure(tls=files(secret))

        eventually(lambda: listener.state.generation == 2)
        assert not is_listening(port)
        assert certificate(listener)["problem"] == "SecretNotFound"
        peer.send(pdu(4, pdv(3, store_rq()) + pdv(2, b"ab")))
        assert peer.status() == 0x0000, "an open association goes on"
        peer.send(RELEASE_RQ)
        assert peer.receive_pdu()[0] == 6

        authority.issue(secret)

        eventually(lambda: is_listening(port))
        with connected(port) as plain:
            plain.send(associate_rq())
            assert plain.seconds_until_closed() < 5
        assert "tls_handshake_failed" in refusals(listener)
        assert serial_of(port, device)


def test_certificate_that_soon_expires_is_said_with_its_day(
    tmp_path: Path, authority: Authority, secret: Path
) -> None:
    authority.issue(secret, days=20)
    with listening(tmp_path, secret) as (listener, _):
        eventually(lambda: listener.state.state == "ready")
        said = certificate(listener)
        not_after = datetime.fromisoformat(str(said["notAfter"]))
        expected = f"tls.crt expires at {not_after.isoformat(timespec='seconds')}, the port closes then"
        assert (said["problem"], str(said["message"]).startswith(expected)) == (None, True)
        assert listener.get("/readyz") == (200, f"ok: {said['message']}\n")
        assert listener.metric(METRIC, file="tls.crt") == not_after.timestamp()

        authority.issue(secret, days=90)

        eventually(lambda: certificate(listener)["message"] == "")
        assert listener.get("/readyz") == (200, "ok\n")
        later = datetime.fromisoformat(str(certificate(listener)["notAfter"]))
        assert listener.metric(METRIC, file="tls.crt") == later.timestamp()
        assert later - not_after > timedelta(days=69)


def test_port_closes_when_the_certificate_expires_and_cuts_no_association(
    tmp_path: Path, authority: Authority, device: Identity, secret: Path
) -> None:
    authority.issue(secret)
    clock = [datetime.now(UTC)]
    metrics = ListenerMetrics()
    config = ListenerConfig("ct1", "127.0.0.1", 0, str(tmp_path / "spool"), (entity(),), files(secret))
    listener = Listener(config, metrics=metrics, now=lambda: clock[0])
    listener.start()
    try:
        with associated(listener.port, device) as peer:
            assert serial(peer)
            clock[0] += timedelta(days=3)
            listener.mind_the_door()

            assert not is_listening(listener.port)
            assert str(listener.closed()).startswith("the TLS port is closed: tls.crt expired at ")
            assert listener.trouble() is None, "it is no standstill: a new process would not help"
            peer.send(pdu(4, pdv(3, store_rq()) + pdv(2, b"ab")))
            assert peer.status() == 0x0000
        port = listener.port
        authority.issue(secret, days=30)
        listener.reload_tls()

        assert listener.closed() is None
        assert serial_of(port, device)
    finally:
        listener.drain(0)


def test_state_tells_programs_which_configuration_is_in_force(tmp_path: Path) -> None:
    with running_listener(tmp_path, generation=4, watermark_used_percent=110.0) as listener:
        revision = hashlib.sha256((tmp_path / "listener.json").read_bytes()).hexdigest()
        assert listener.get("/state") == (
            200,
            json.dumps(
                {
                    "process": "shared",
                    "state": "ready",
                    "generation": 4,
                    "revision": revision,
                    "entities": {},
                    "message": "",
                    "certificate": None,
                }
            ),
        )
        good = (tmp_path / "listener.json").read_text()
        (tmp_path / "listener.json").write_text("{")
        eventually(lambda: json.loads(listener.get("/state")[1])["state"] == "degraded")
        assert json.loads(listener.get("/state")[1])["revision"] == revision

        (tmp_path / "listener.json").write_text(good.replace('"generation": 4', '"generation": 5'))
        eventually(lambda: json.loads(listener.get("/state")[1])["generation"] == 5)
        assert json.loads(listener.get("/state")[1])["revision"] == (
            hashlib.sha256((tmp_path / "listener.json").read_bytes()).hexdigest()
        )
        status, said = listener.get("/other")
        assert (status, said) == (404, "paths: /healthz /readyz /metrics /state\n")


def test_expiry_of_a_chain_is_its_first(authority: Authority, tmp_path: Path) -> None:
    long, short = (authority.issue(tmp_path / n, days=d) for n, d in (("long", 900), ("short", 30)))
    chain = long.certificate.read_text() + short.certificate.read_text()
    long.certificate.write_text(chain)

    found = read_identity(files(tmp_path / "long"))

    assert found.not_after is not None
    assert timedelta(days=29) < found.not_after - datetime.now(UTC) < timedelta(days=31)
    assert found.problem(found.not_after - timedelta(seconds=1)) is None
    assert found.reason is None
    problem = found.problem(found.not_after)
    assert problem is not None
    assert problem[0] is Reason.CERTIFICATE_EXPIRED


def test_expiry_after_2049_is_read(authority: Authority, tmp_path: Path) -> None:
    authority.issue(tmp_path / "far", days=365 * 40)

    found = read_identity(files(tmp_path / "far"))

    assert found.not_after is not None
    assert found.not_after.year in (datetime.now(UTC).year + 39, datetime.now(UTC).year + 40)


def test_secret_without_a_client_ca_is_whole_where_no_device_shows_a_certificate(
    authority: Authority, tmp_path: Path
) -> None:
    authority.issue(tmp_path / "own").ca.unlink()

    assert read_identity(files(tmp_path / "own", "None")).reason is None
    assert read_identity(files(tmp_path / "own", "Request")).reason is Reason.SECRET_NOT_FOUND


def test_process_ends_cleanly_while_its_port_is_closed(tmp_path: Path, secret: Path) -> None:
    with listening(tmp_path, secret) as (listener, _):
        listener.child.terminate()
        assert listener.child.wait(timeout=10) == 0
    state = read_state(tmp_path / "state.json")
    assert state is not None
    assert (state.state, state.message) == ("stopping", "stopped")
