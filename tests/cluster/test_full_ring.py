"""A real node: aegate's image runs on it, is reached from outside, and outlives what is done to Kubernetes' parts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.lab.lab import Lab
from tests.cluster.listeners import DeployedListener, answers_echo, wait_for_echo
from tests.integration.waiting import eventually


@pytest.fixture
def listener(full_lab: Lab, namespace: str) -> Iterator[DeployedListener]:
    deployed = DeployedListener(full_lab, namespace)
    deployed.deploy()
    yield deployed
    deployed.delete()


def test_pod_of_aegates_image_answers_through_its_service_from_outside(listener: DeployedListener) -> None:
    status = listener.pod()["status"]
    assert [c["image"] for c in status["containerStatuses"]] == [listener.lab.image("scp")]
    assert restarts(listener) == [0]

    wait_for_echo(listener.service_address(), "CT1")

    assert not answers_echo(listener.service_address(), "STRANGER")
    assert "association" in listener.kubectl("logs", f"pod/{listener.pod()['metadata']['name']}")


def test_pod_outlives_a_restart_of_each_of_kubernetes_parts(listener: DeployedListener) -> None:
    lab, before = listener.lab, listener.pod()
    wait_for_echo(listener.service_address(), "CT1")

    for program in ("kube-apiserver", "etcd", "kube-controller-manager", "kubelet1", "containerd1"):
        lab.restart(program)
    lab.wait_for_node(lab.plan.node_name(1))

    assert answers_echo(listener.service_address(), "CT1")
    assert listener.pod()["metadata"]["uid"] == before["metadata"]["uid"]
    assert restarts(listener) == [0]


def test_node_that_lost_power_comes_back_with_its_pods(listener: DeployedListener) -> None:
    lab = listener.lab
    wait_for_echo(listener.service_address(), "CT1")

    lab.node_kill(1)
    assert not answers_echo(listener.service_address(), "CT1")

    lab.node_start(1)
    wait_for_echo(listener.service_address(), "CT1")
    eventually(lambda: restarts(listener) == [1], deadline_s=120, what="the pod says that it was restarted")


def restarts(listener: DeployedListener) -> list[int]:
    return [c["restartCount"] for c in listener.pod()["status"]["containerStatuses"]]
