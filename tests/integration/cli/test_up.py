"""`aegate up` from end to end, as a real process, with dcmtk before and behind it."""

from __future__ import annotations

import os
import signal
import socket
import time
from datetime import datetime
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pynetdicom import AE
from pynetdicom.association import Association

from aegate_graphql_api.tokens import list_tokens
from tests.integration.cli.installations import QUICK, ROUTE, Up, aegate, device, installation
from tests.integration.peers import run_dcmtk, store_scp
from tests.integration.processes import is_listening, stop
from tests.integration.waiting import eventually

PROCESSES = ("listener", "indexer", "worker", "api")
CT = Path(str(get_testdata_file("CT_small.dcm")))
ENTITIES = "{ applicationEntities { nodes { name conditions { type status reason message } } } }"
ITEMS = """{ queueItems { nodes { state destinationAe sourceAe instancesDone
             study { studyInstanceUid instanceCount closeUnits { outcome } } } } }"""


def store(up: Up, calling: str = "CT1", port: int = 0) -> int:
    return run_dcmtk(
        "storescu", "-aet", calling, "-aec", "AEGATE", "127.0.0.1", str(port or up.dicom_port), CT
    ).returncode


def ready_reason(up: Up, name: str) -> str:
    nodes = up.ask(ENTITIES)["applicationEntities"]["nodes"]
    conditions = {n["name"]: {c["type"]: c for c in n["conditions"]} for n in nodes}
    return str(conditions[name]["Ready"]["reason"]) if name in conditions else "absent"


def endpoints(up: Up) -> dict[str, str | None]:
    nodes = up.ask("{ applicationEntities { nodes { name endpoint } } }")["applicationEntities"]["nodes"]
    return {node["name"]: node["endpoint"] for node in nodes}


def pixel_libraries(pid: int) -> set[str]:
    """Which of them a process has loaded: 36 MiB that every listener can do without."""
    mapped = Path(f"/proc/{pid}/maps").read_text()
    return {name for name in ("numpy", "gdcm") if name in mapped}


def test_an_image_goes_its_whole_way(tmp_path: Path, empty_database_url: str) -> None:
    with store_scp(tmp_path, title="PACS") as pacs:
        manifests = {
            "ct1.yaml": device("ct1", more=QUICK),
            "pacs.yaml": device("pacs", pacs.port),
            "r.yaml": ROUTE,
        }
        with installation(tmp_path, manifests, more=("--database", empty_database_url)) as up:
            assert store(up) == 0
            files = eventually(pacs.received, deadline_s=30)
            done = eventually(
                lambda: [i for i in up.ask(ITEMS)["queueItems"]["nodes"] if i["state"] == "COMPLETED"],
                deadline_s=10,
            )
            libraries = {name: pixel_libraries(up.pid_of(name)) for name in PROCESSES}
    ds = dcmread(CT)
    assert done == [
        {
            "state": "COMPLETED",
            "destinationAe": "default/pacs",
            "sourceAe": "default/ct1",
            "instancesDone": 1,
            "study": {
                "studyInstanceUid": str(ds.StudyInstanceUID),
                "instanceCount": 1,
                "closeUnits": [{"outcome": "ROUTED"}],
            },
        }
    ]
    assert len(files) == 1
    assert dcmread(files[0]).PixelData == ds.PixelData
    assert up.child.returncode == 0
    assert libraries == {"listener": set(), "indexer": set(), "worker": set(), "api": set()}


def test_edits_take_effect_live_and_cut_nothing(tmp_path: Path) -> None:
    with installation(tmp_path, {"ct1.yaml": device("ct1")}) as up:
        open_association = _associated(up.dicom_port, "CT1")
        assert store(up, "CT2") != 0
        before = len(up.events("listener.config_loaded"))
        (up.folder / "ct2.yaml").write_text(device("ct2"))
        loaded = eventually(lambda: up.events("listener.config_loaded")[before:], deadline_s=5)
        written_at = (up.folder / "ct2.yaml").stat().st_mtime
        assert datetime.fromisoformat(loaded[0]["time"]).timestamp() - written_at < 2.0
        assert run_echo(up, "CT2")
        # A second port appears, and what is wrong changes nothing and says where.
        own = _own_port(up)
        eventually(lambda: is_listening(own), deadline_s=5)
        (up.folder / "ct2.yaml").write_text("apiVersion: aegate.dev/v1alpha1\nkind: [\n")
        refused = eventually(lambda: up.events("resource.refused"), deadline_s=5)
        assert refused[-1]["file"].endswith("ct2.yaml")
        assert refused[-1]["line"] in (2, 3)
        assert run_echo(up, "CT2")
        (up.folder / "ct2.yaml").unlink()
        assert run_echo(up, "CT2")  # a removal counts after five seconds of absence
        eventually(lambda: not run_echo(up, "CT2"), deadline_s=12)
        assert ready_reason(up, "ct2") == "absent"
        assert open_association.is_established
        assert open_association.send_c_echo().Status == 0
        open_association.release()


def test_the_last_good_version_outlives_wrong_edits_and_an_empty_folder(tmp_path: Path) -> None:
    with installation(tmp_path, {"ct1.yaml": device("ct1")}) as up:
        (up.folder / "ct1.yaml").write_text(device("ct1").replace("title: CT1", "title: Ct1"))
        refused = eventually(lambda: up.events("resource.refused"), deadline_s=5)
        assert "immutable" in refused[-1]["error"]
        assert run_echo(up, "CT1")
        (up.folder / "ct1.yaml").unlink()
        kept = eventually(
            lambda: [e for e in up.events("folder.kept") if not any(up.folder.iterdir())], deadline_s=5
        )
        assert kept[-1]["resources"] == 1
        assert run_echo(up, "CT1")
        (up.folder / "ct1.yaml").write_text(device("ct1"))
        eventually(lambda: ready_reason(up, "ct1") == "Ready", deadline_s=5)


def test_a_busy_port_of_an_ae_is_a_condition_and_heals(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        manifests = {
            "ct1.yaml": device("ct1"),
            "us1.yaml": device("us1", more=f"  listener: {{port: {port}}}\n"),
        }
        with installation(tmp_path, manifests) as up:
            eventually(lambda: ready_reason(up, "us1") == "ListenerNotReady", deadline_s=10)
            assert ready_reason(up, "ct1") == "Ready"
            assert endpoints(up) == {"ct1": f"127.0.0.1:{up.dicom_port}", "us1": None}
            taken.close()
            eventually(lambda: ready_reason(up, "us1") == "Ready", deadline_s=15)
            assert endpoints(up) == {"ct1": f"127.0.0.1:{up.dicom_port}", "us1": f"127.0.0.1:{port}"}


def test_a_data_folder_that_takes_nothing_for_a_while_stops_nobody(tmp_path: Path) -> None:
    with installation(tmp_path, {"ct1.yaml": device("ct1")}) as up:
        run, away = up.data / "run", up.data / "away"
        run.rename(away)
        (up.folder / "ct2.yaml").write_text(device("ct2"))
        waits = eventually(lambda: up.events("folder.waits"), deadline_s=10)
        assert f"data folder {up.data} cannot be used" in waits[0]["error"]
        assert run_echo(up, "CT1")
        worker = up.pid_of("worker")
        os.kill(worker, signal.SIGKILL)
        ready = len(up.events("process.ready"))
        eventually(lambda: len(up.events("process.ready")) > ready, deadline_s=20)
        away.rename(run)
        eventually(lambda: run_echo(up, "CT2"), deadline_s=15)
        eventually(up.is_ready, deadline_s=15)
        eventually(lambda: ready_reason(up, "ct2") == "Ready", deadline_s=15)
        assert [e["process"] for e in up.events("child.exited")] == ["worker"]
        assert len(up.events("folder.waits")) == 1
    assert up.child.returncode == 0


def test_a_second_start_is_refused_and_a_killed_process_is_started_again(tmp_path: Path) -> None:
    with installation(tmp_path, {"ct1.yaml": device("ct1")}) as up:
        second = aegate(*up.arguments)
        assert second.returncode == 2
        assert f"in use by another `aegate up` (process {up.child.pid})" in second.stderr
        first = up.pid_of("listener")
        os.kill(first, signal.SIGKILL)
        eventually(lambda: up.pid_of("listener") != first, deadline_s=10)
        ended = up.events("child.exited")
        assert [(e["process"], e["code"]) for e in ended] == [("listener", -9)]
        eventually(lambda: is_listening(up.dicom_port), deadline_s=20)
        assert run_echo(up, "CT1")


def test_children_end_with_a_killed_supervisor_and_the_folder_is_free(tmp_path: Path) -> None:
    with installation(tmp_path, {"ct1.yaml": device("ct1")}) as up:
        pids = [up.pid_of(name) for name in PROCESSES]
        os.kill(up.child.pid, signal.SIGKILL)
        up.child.wait(10)
        eventually(lambda: not any(_is_alive(pid) for pid in pids), deadline_s=20)
    with installation(tmp_path, {}) as again:
        assert run_echo(again, "CT1")


def test_sigterm_stops_all_and_leaves_nothing(tmp_path: Path) -> None:
    with installation(tmp_path, {"ct1.yaml": device("ct1")}) as up:
        pids = [up.pid_of(name) for name in PROCESSES]
        listed = [aegate("ae", "list", "--data", up.data) for _ in range(2)]
        assert stop(up.child, timeout_s=40) == 0
        assert not any(_is_alive(pid) for pid in pids)
        stopped = {e["process"]: e["code"] for e in up.events("child.stopped")}
        assert stopped == {"listener": 0, "indexer": 0, "worker": 0, "api": 0}
        assert up.events("child.killed") == []
    assert [(said.returncode, said.stderr) for said in listed] == [(0, ""), (0, "")]
    assert "default/ct1" in listed[1].stdout
    kept = up.data / "run" / "command-line.token"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert [t.name for t in list_tokens(up.data / "run" / "tokens.json")] == ["first", "command-line"]
    stopped_said = aegate("ae", "list", "--data", up.data)
    assert stopped_said.returncode == 3
    assert f"expected an `aegate up` on the data folder {up.data}, got none that runs" in stopped_said.stderr


def test_signals_at_once_are_one_wish_and_a_later_one_ends_at_once(tmp_path: Path) -> None:
    with installation(tmp_path, {"ct1.yaml": device("ct1")}) as up:
        open_association = _associated(up.dicom_port, "CT1")
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT):
            up.child.send_signal(number)
        eventually(lambda: "worker" in [e["process"] for e in up.events("child.stopped")], deadline_s=20)
        assert open_association.send_c_echo().Status == 0
        assert up.events("child.killed") == []
        stopping_at = datetime.fromisoformat(up.events("process.stopping")[0]["time"]).timestamp()
        eventually(lambda: time.time() > stopping_at + 1.1, deadline_s=3)
        up.child.send_signal(signal.SIGINT)
        assert up.child.wait(10) == 0
        assert [e["process"] for e in up.events("child.killed")] == ["listener"]


@pytest.mark.parametrize("option", ["--dicom-port", "--http-listen"])
def test_a_busy_port_says_what_to_do(tmp_path: Path, option: str) -> None:
    folder = tmp_path / "hospital"
    folder.mkdir()
    (folder / "ct1.yaml").write_text(device("ct1"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ports = {"--dicom-port": "0", "--http-listen": "127.0.0.1:0"}
        ports[option] = str(port) if option == "--dicom-port" else f"127.0.0.1:{port}"
        ports = {name: value for name, value in ports.items() if value != "0"}
        arguments = [part for pair in ports.items() for part in pair]
        result = aegate("up", folder, "--data", tmp_path / "data", "--dicom-listen", "127.0.0.1", *arguments)
    assert result.returncode == 2
    assert f"127.0.0.1:{port}: another program has the port" in result.stderr
    assert option in result.stderr


def run_echo(up: Up, calling: str) -> bool:
    """Associate and send a C-ECHO as pynetdicom's SCU."""
    ae = AE(ae_title=calling)
    ae.add_requested_context("1.2.840.10008.1.1")
    association = ae.associate("127.0.0.1", up.dicom_port)
    if not association.is_established:
        return False
    answer = association.send_c_echo()
    association.release()
    return bool(answer.get("Status", 1) == 0)


def _own_port(up: Up) -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    (up.folder / "us1.yaml").write_text(device("us1", more=f"  listener: {{port: {port}}}\n"))
    return port


def _associated(port: int, calling: str) -> Association:
    ae = AE(ae_title=calling)
    ae.add_requested_context("1.2.840.10008.1.1")
    association = ae.associate("127.0.0.1", port)
    assert association.is_established
    return association


def _is_alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().split(")")[-1].split()[0]
    except FileNotFoundError:
        return False
