"""A listener's life: start, live configuration, drain, kill -9."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pydicom
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from aegate_core.health import read_state
from aegate_core.stores.spool import scan, sweep
from tests import dicom
from tests.integration.peers import run_dcmtk
from tests.integration.processes import is_listening
from tests.integration.scp.listeners import entity, running_listener, write_config
from tests.integration.scp.wires import RELEASE_RQ, connected, pdu, pdv, store_rq
from tests.integration.waiting import eventually


def echo(port: int, calling: str = "CT1") -> bool:
    return run_dcmtk("echoscu", "-aet", calling, "127.0.0.1", str(port)).returncode == 0


def test_state_health_and_metrics_say_that_it_is_ready(tmp_path: Path) -> None:
    with running_listener(tmp_path, generation=4, watermark_used_percent=110.0) as listener:
        state = listener.state
        assert (state.process, state.pid, state.state, state.generation) == (
            "shared",
            listener.child.pid,
            "ready",
            4,
        )
        assert listener.get("/healthz") == (200, "ok\n")
        assert listener.get("/readyz") == (200, "ok\n")
        assert listener.metric("aegate_config_generation") == 4
        assert listener.metric("aegate_spool_congested") == 0
    assert listener.state.state == "stopping"
    assert listener.child.returncode == 0
    assert list((listener.spool / ".listeners").iterdir()) == []


def test_descriptors_are_not_limited_to_fewer_than_the_system_allows(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
        with running_listener(tmp_path) as listener:
            found, _ = resource.prlimit(listener.child.pid, resource.RLIMIT_NOFILE)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert found == min(hard, 65_536)


def test_changed_configuration_is_taken_up_without_cutting_an_association(tmp_path: Path) -> None:
    with running_listener(tmp_path) as listener, connected(listener.port) as peer:
        peer.associate()
        peer.send(pdu(4, pdv(3, store_rq(b"1.1")) + pdv(0, b"ab")))

        listener.configure(entities=(entity("us1"),))
        eventually(lambda: listener.state.generation == 2)

        assert echo(listener.port, "US1")
        assert not echo(listener.port, "CT1")
        peer.send(pdu(4, pdv(2, b"cd")))
        assert peer.status() == 0x0000
        peer.send(pdu(4, pdv(3, store_rq(b"1.2")) + pdv(2, b"ef")))
        assert peer.status() == 0x0000
        peer.send(RELEASE_RQ)
        assert peer.receive_pdu()[0] == 6
        assert {a.side.sop_instance_uid for a in listener.arrivals()} == {"1.1", "1.2"}


def test_configuration_that_cannot_be_used_leaves_the_last_good_one_and_is_said(tmp_path: Path) -> None:
    with running_listener(tmp_path) as listener:
        good = listener.config.to_json()
        for number, bad in enumerate(
            ["{", json.dumps(json.loads(good) | {"port": 1}), json.dumps(json.loads(good) | {"entities": 1})],
            1,
        ):
            write_config(tmp_path, bad)
            eventually(lambda n=number: len(listener.events("listener.config_refused")) == n)  # type: ignore[misc]
            assert eventually(lambda: listener.state.state == "degraded")
            assert echo(listener.port)
        assert listener.metric("aegate_configs_refused_total") == 3
        assert listener.get("/readyz")[0] == 200

        listener.configure()
        eventually(lambda: (listener.state.state, listener.state.generation) == ("ready", 2))


def test_missing_configuration_and_taken_port_end_the_start_with_advice(tmp_path: Path) -> None:
    def start() -> tuple[int, str]:
        settings = {
            "AEGATE_LISTENER_CONFIG": str(tmp_path / "listener.json"),
            "AEGATE_STATE_FILE": str(tmp_path / "second.json"),
        }
        command = [sys.executable, "-m", "aegate_scp"]
        done = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, timeout=60)
        state = read_state(tmp_path / "second.json")
        assert state is not None
        assert state.state == "failed"
        return done.returncode, state.message

    code, message = start()
    assert (code, "readable file" in message) == (2, True)
    with running_listener(tmp_path) as listener:
        write_config(tmp_path, json.dumps(json.loads(listener.config.to_json()) | {"port": listener.port}))
        code, message = start()
        assert (code, message) == (
            2,
            f"port {listener.port} on 127.0.0.1 is taken by another process: stop that, or choose another port",
        )
        done = subprocess.run(
            [sys.executable, "-m", "aegate_scp"],
            env={k: v for k, v in os.environ.items() if k != "AEGATE_LISTENER_CONFIG"},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (done.returncode, "AEGATE_LISTENER_CONFIG must be set" in done.stderr) == (2, True)


def test_drain_lets_open_associations_finish_and_takes_no_new_ones(tmp_path: Path) -> None:
    with running_listener(tmp_path, grace_s=20) as listener, connected(listener.port) as peer:
        peer.associate()
        peer.send(pdu(4, pdv(3, store_rq()) + pdv(0, b"ab")))
        port = listener.port

        listener.child.send_signal(signal.SIGTERM)
        eventually(lambda: not is_listening(port))
        assert listener.get("/readyz") == (503, "stopping\n")
        assert listener.get("/healthz")[0] == 200
        assert listener.child.poll() is None

        peer.send(pdu(4, pdv(2, b"cd")))
        assert peer.status() == 0x0000
        peer.send(RELEASE_RQ)
        assert peer.receive_pdu()[0] == 6
        assert listener.child.wait(timeout=10) == 0
        assert [a.path.read_bytes()[-4:] for a in listener.arrivals()] == [b"abcd"]


def test_drain_aborts_after_the_grace_period_and_keeps_what_was_acknowledged(tmp_path: Path) -> None:
    with running_listener(tmp_path, grace_s=1) as listener, connected(listener.port) as peer:
        peer.associate()
        peer.send(pdu(4, pdv(3, store_rq()) + pdv(2, b"ab")))
        assert peer.status() == 0x0000
        peer.send(pdu(4, pdv(3, store_rq(b"1.9")) + pdv(0, b"half")))

        listener.child.send_signal(signal.SIGTERM)

        assert peer.receive_pdu()[0] == 7
        assert peer.receive_pdu()[0] == 0
        assert listener.child.wait(timeout=15) == 0
        assert [a.side.sop_instance_uid for a in listener.arrivals()] == ["1.2.3.4"]
        assert listener.leftovers() == []
        (ended,) = listener.events("association.ended")
        assert ended["how"] == "drained"


def test_kill_loses_no_acknowledged_instance(tmp_path: Path) -> None:
    study = dicom.ct_study("study 1", 60)
    files = [dicom.write(ds, tmp_path / "in" / f"{n:03}.dcm") for n, ds in enumerate(study)]
    acknowledged: set[str] = set()
    spool = tmp_path / "spool"
    for life in range(3):
        folder = tmp_path / f"life-{life}"
        folder.mkdir()
        with running_listener(folder, spool=str(spool)) as listener:
            before = len(list(scan(spool)))
            outputs: list[str] = []
            sender = threading.Thread(
                target=lambda port=listener.port, seen=outputs: seen.append(
                    run_dcmtk("storescu", "-v", "-aet", "CT1", "127.0.0.1", str(port), *files).stdout
                )
            )
            sender.start()
            eventually(lambda n=before + 7 * life + 3: sum(1 for _ in spool.rglob("*.dcm")) >= n)  # type: ignore[misc]
            listener.child.kill()
            listener.child.wait()
            sender.join()
        acknowledged |= _acknowledged(outputs[0])

    swept = sweep(spool)
    arrivals = list(scan(spool))

    assert swept.processes == 3
    assert acknowledged
    assert acknowledged <= {a.side.sop_instance_uid for a in arrivals}
    for arrival in arrivals:
        assert arrival.path.stat().st_size == arrival.side.size_bytes
        original = next(ds for ds in study if arrival.side.sop_instance_uid == ds.SOPInstanceUID)
        assert pydicom.dcmread(arrival.path).PixelData == original.PixelData
    assert list(spool.rglob("*.part")) == []
    assert {a.side.transfer_syntax for a in arrivals} == {ExplicitVRLittleEndian}
    assert {a.side.sop_class_uid for a in arrivals} == {CTImageStorage}


def _acknowledged(output: str) -> set[str]:
    """Return the SOP Instance UIDs for which storescu saw 0x0000."""
    seen, path = set(), ""
    for line in output.splitlines():
        if "Sending file: " in line:
            path = line.split("Sending file: ")[1]
        elif "Received Store Response (Success)" in line:
            seen.add(str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID))
    return seen
