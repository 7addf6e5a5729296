"""The cheap ring behaves as a cluster does: pods are processes of this machine, and controllers cannot tell."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.lab.audit import by_user_and_verb
from tests.cluster.lab.lab import LOCAL_NODE, KubectlFailed, Lab
from tests.cluster.listeners import WAIT, DeployedListener, answers_echo, wait_for_echo
from tests.integration.waiting import eventually


@pytest.fixture
def listener(cheap_lab: Lab, namespace: str) -> Iterator[DeployedListener]:
    deployed = DeployedListener(cheap_lab, namespace)
    deployed.deploy()
    yield deployed
    deployed.delete()


@pytest.fixture
def space(cheap_lab: Lab, namespace: str) -> Iterator[str]:
    cheap_lab.make_namespace(namespace)
    yield namespace
    cheap_lab.kubectl("delete", "namespace", namespace, "--wait=false")


def pod(name: str, *containers: dict[str, Any], **spec: Any) -> str:
    filled = [{"name": "main", "image": "localhost/aegate:any", **c} for c in containers]
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name},
            "spec": {"containers": filled, "automountServiceAccountToken": False, **spec},
        }
    )


def python(code: str, **values: Any) -> dict[str, Any]:
    return {"command": ["python3", "-c", code], **values}


def state(lab: Lab, space: str, name: str, container: int = 0) -> dict[str, Any]:
    statuses = lab.get("pod", name, f"--namespace={space}")["status"].get("containerStatuses", [])
    found: dict[str, Any] = statuses[container] if statuses else {"state": {}, "restartCount": 0}
    return found


def waiting_reason(lab: Lab, space: str, name: str) -> str:
    return str(state(lab, space, name)["state"].get("waiting", {}).get("reason", ""))


def log_of(lab: Lab, space: str, name: str, container: str = "main") -> str:
    (file,) = (lab.folder / LOCAL_NODE).glob(f"{space}_{name}_*/{container}.log")
    return file.read_text()


def log_events(lab: Lab, listener: DeployedListener, pod_name: str) -> list[dict[str, Any]]:
    lines = log_of(lab, listener.namespace, pod_name, "listener").splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def test_pod_of_a_deployment_is_a_process_that_its_service_finds(
    cheap_lab: Lab, listener: DeployedListener
) -> None:
    found = listener.pod()
    ip = found["status"]["podIP"]
    assert found["spec"]["nodeName"] == LOCAL_NODE
    assert listener.endpoints() == [(ip, True)]
    wait_for_echo(ip, "CT1")
    assert not answers_echo(ip, "CT2")


def test_changed_config_map_reaches_the_process_without_a_restart(
    cheap_lab: Lab, listener: DeployedListener
) -> None:
    before = listener.pod()

    listener.configure("CT1", "CT2", generation=2)

    wait_for_echo(before["status"]["podIP"], "CT2")
    assert listener.pod()["status"]["containerStatuses"][0]["restartCount"] == 0
    assert listener.pod()["metadata"]["uid"] == before["metadata"]["uid"]


def test_deleted_pod_gets_sigterm_ends_and_is_replaced(cheap_lab: Lab, listener: DeployedListener) -> None:
    before = listener.pod()
    name = before["metadata"]["name"]

    listener.kubectl("delete", f"pod/{name}", WAIT)
    listener.kubectl("rollout", "status", "deployment/listener", WAIT)

    events = log_events(cheap_lab, listener, name)
    stopped = [e for e in events if e.get("event", "").startswith("process.stop")]
    assert [e["event"] for e in stopped] == ["process.stopping", "process.stopped"], events[-5:]
    assert stopped[0]["signal"] == "SIGTERM"
    after = listener.pod()["status"]["podIP"]
    assert after != before["status"]["podIP"]
    wait_for_echo(after, "CT1")


def test_process_that_ignores_sigterm_is_killed_after_its_grace(cheap_lab: Lab, space: str) -> None:
    code = (
        "import signal\nsignal.signal(15, lambda *_: print('heard', flush=True))\nprint('deaf', flush=True)\n"
        "while True: signal.pause()\n"
    )
    spec = pod("deaf", python(code), terminationGracePeriodSeconds=1)
    cheap_lab.apply(spec, f"--namespace={space}")
    cheap_lab.kubectl("wait", f"--namespace={space}", "pod/deaf", "--for=condition=Ready", WAIT)
    eventually(lambda: log_of(cheap_lab, space, "deaf") == "deaf\n", deadline_s=60, what="it has its handler")

    cheap_lab.kubectl("delete", f"--namespace={space}", "pod/deaf", WAIT)

    assert log_of(cheap_lab, space, "deaf") == "deaf\nheard\n"


def test_container_that_keeps_ending_is_started_again_and_said_to_crash(cheap_lab: Lab, space: str) -> None:
    spec = pod(
        "crash", python("print('why'); raise SystemExit(3)", terminationMessagePolicy="FallbackToLogsOnError")
    )
    cheap_lab.apply(spec, f"--namespace={space}")

    eventually(lambda: state(cheap_lab, space, "crash")["restartCount"] >= 2, deadline_s=60)

    last = state(cheap_lab, space, "crash")["lastState"]["terminated"]
    assert (last["exitCode"], last["reason"], last["message"]) == (3, "Error", "why\n")
    eventually(lambda: waiting_reason(cheap_lab, space, "crash") == "CrashLoopBackOff", deadline_s=60)


def test_what_cannot_start_says_why_and_starts_once_it_can(cheap_lab: Lab, space: str) -> None:
    cheap_lab.apply(pod("image", {"image": "example.org/other:1", "command": ["x"]}), f"--namespace={space}")
    secret = {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "later", "key": "password"}}}
    code = "import os, signal\nprint(os.environ['PASSWORD'], flush=True)\nsignal.pause()"
    cheap_lab.apply(pod("secret", python(code, env=[secret])), f"--namespace={space}")
    eventually(lambda: waiting_reason(cheap_lab, space, "image") == "ImagePullBackOff", deadline_s=60)
    eventually(
        lambda: waiting_reason(cheap_lab, space, "secret") == "CreateContainerConfigError", deadline_s=60
    )

    arguments = ("secret", "generic", "later", "--from-literal=password=here")
    cheap_lab.kubectl("create", f"--namespace={space}", *arguments)

    cheap_lab.kubectl("wait", f"--namespace={space}", "pod/secret", "--for=condition=Ready", WAIT)
    eventually(lambda: log_of(cheap_lab, space, "secret") == "here\n", deadline_s=60)


def test_init_containers_run_in_order_and_a_sidecar_ends_after_the_rest(cheap_lab: Lab, space: str) -> None:
    shared = {"volumeMounts": [{"name": "shared", "mountPath": "/shared"}]}
    said = "open('$(FOLDER)/said', 'a').write({!r})\n"
    environ = {"env": [{"name": "FOLDER", "value": "/shared"}], **shared}
    sidecar = (
        said.format("sidecar ")
        + "import signal, sys\ndef end(*_):\n    "
        + said.format("ended")
        + "    sys.exit()\nsignal.signal(15, end)\nopen('up', 'w')\nwhile True: signal.pause()\n"
    )
    beside = {
        "name": "beside",
        "image": "localhost/aegate:any",
        "restartPolicy": "Always",
        "workingDir": "/shared",
    }
    probe = {"startupProbe": {"exec": {"command": ["test", "-e", "up"]}, "periodSeconds": 1}}
    init = [
        python(said.format("init "), **environ, name="first", image="localhost/aegate:any"),
        python(sidecar, **environ, **beside, **probe),
    ]
    main = python(said.format("main "), **environ)
    volumes = [{"name": "shared", "emptyDir": {}}]
    spec = pod("job", main, initContainers=init, volumes=volumes, restartPolicy="Never")
    cheap_lab.apply(spec, f"--namespace={space}")

    cheap_lab.kubectl(
        "wait", f"--namespace={space}", "pod/job", "--for=jsonpath={.status.phase}=Succeeded", WAIT
    )

    (kept,) = (cheap_lab.folder / LOCAL_NODE).glob(f"{space}_job_*/volumes/shared/said")
    assert kept.read_text() == "init sidecar main ended"


def test_api_server_that_is_paused_or_restarted_is_missed_and_forgiven(
    cheap_lab: Lab, listener: DeployedListener
) -> None:
    ip = listener.pod()["status"]["podIP"]
    with cheap_lab.pause("kube-apiserver"), pytest.raises(KubectlFailed):
        cheap_lab.kubectl("get", "namespaces", "--request-timeout=2s")
    assert answers_echo(ip, "CT1")

    cheap_lab.restart("kube-apiserver")

    listener.kubectl("scale", "deployment/listener", "--replicas=0")
    eventually(lambda: listener.endpoints() == [], deadline_s=60)


def test_audit_tells_writes_by_user(cheap_lab: Lab, space: str) -> None:
    before = by_user_and_verb(cheap_lab.audit())

    cheap_lab.kubectl("create", f"--namespace={space}", "configmap", "noted")
    cheap_lab.kubectl("get", f"--namespace={space}", "configmap", "noted")

    new = by_user_and_verb(cheap_lab.audit()) - before
    assert {count for count in new.items() if count[0][0] == "admin"} == {(("admin", "create"), 1)}
    (noted,) = (r for r in cheap_lab.audit() if r.name == "noted")
    assert (noted.resource, noted.namespace, noted.code, noted.is_write) == ("configmaps", space, 201, True)
