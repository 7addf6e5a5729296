"""What Deployment, pods and listeners say, as the sentences of conditions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from aegate_core.decisions.references import Fault
from aegate_core.resources.conditions import Reason
from aegate_operator.observe import Facts, Sighting, observe
from aegate_operator.pods import Pod, read_pod
from aegate_operator.reports import Report, read_report
from aegate_operator.rollout import RolloutState

WISHED = "f00d"


def deployment(replicas: int = 1, **status: Any) -> dict[str, Any]:
    counts = dict.fromkeys(("replicas", "updatedReplicas", "availableReplicas"), replicas)
    return {
        "metadata": {"generation": 4},
        "spec": {"replicas": replicas},
        "status": {"observedGeneration": 4, **counts, **status},
    }


def pod(name: str = "a", *, is_ready: bool = True, **status: Any) -> Pod:
    conditions = [{"type": "Ready", "status": "True" if is_ready else "False"}]
    return read_pod(
        {
            "metadata": {"namespace": "radiology", "name": name, "uid": name},
            "status": {
                "podIP": "10.0.0.1",
                **status,
                "conditions": [*conditions, *status.get("conditions", [])],
            },
        }
    )


def waiting(reason: str, message: str = "", **container: Any) -> dict[str, Any]:
    status = {"name": "receiver", "state": {"waiting": {"reason": reason, "message": message}}, **container}
    return {"containerStatuses": [status]}


def unschedulable(message: str) -> dict[str, Any]:
    return {
        "conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
        ]
    }


WELL = Sighting(
    deployment=deployment(), pods=[pod()], reports={"a": Report(WISHED, "ready")}, revision=WISHED
)


ON_WAY = "0 of 1 pods are where they should be."


def of(**different: Any) -> Facts:
    return observe(replace(WELL, **different))


def test_all_is_well() -> None:
    assert of() == Facts(replicas=1, ready_replicas=1)


def test_no_deployment_yet() -> None:
    facts = of(deployment=None, pods=[], reports={})
    assert (facts.trouble, facts.rollout) == ("Its Deployment is being made.", RolloutState.ROLLING)


def test_a_refusal_is_said_first() -> None:
    facts = of(
        refusals=["apply Service: no."], pods=[pod(is_ready=False, **waiting("ErrImagePull"))], reports={}
    )
    assert facts.trouble == "apply Service: no. Pod a: ErrImagePull."
    assert facts.progress is None, "somebody has to do something first"


@pytest.mark.parametrize(
    ("status", "words", "rollout", "progress"),
    [
        (
            waiting("ImagePullBackOff", 'Back-off pulling image "x:1"'),
            'Pod a: ImagePullBackOff: Back-off pulling image "x:1".',
            RolloutState.FAILED,
            None,
        ),
        (
            waiting(
                "CrashLoopBackOff",
                "back-off 10s",
                lastState={"terminated": {"exitCode": 137, "reason": "OOMKilled"}},
            ),
            "Pod a: CrashLoopBackOff: back-off 10s; receiver ended with 137 (OOMKilled).",
            RolloutState.FAILED,
            None,
        ),
        (unschedulable("0/3 nodes"), "Pod a: Unschedulable: 0/3 nodes.", RolloutState.FAILED, ON_WAY),
        (waiting("ContainerCreating"), "0 of 1 pods answer and serve this generation.", RolloutState.ROLLING, ON_WAY),
        (
            waiting("RunContainerError", "x" * 500),
            f"Pod a: RunContainerError: {'x' * 300}….",
            RolloutState.FAILED,
            None,
        ),
    ],
)  # fmt: skip
def test_a_pod_speaks_in_its_own_words(
    status: dict[str, Any], words: str, rollout: RolloutState, progress: str | None
) -> None:
    rolling = deployment(availableReplicas=0)
    facts = of(deployment=rolling, pods=[pod(is_ready=False, **status)], reports={})
    assert (facts.trouble, facts.rollout, facts.ready_replicas) == (words, rollout, 0)
    assert facts.progress == progress


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        (
            {
                "type": "ReplicaFailure",
                "status": "True",
                "message": 'pods "a" is forbidden: exceeded quota: small',
            },
            'Its pods cannot be made: pods "a" is forbidden: exceeded quota: small.',
        ),
        (
            {"type": "ReplicaFailure", "status": "True", "message": "admission webhook denied the request"},
            "Its pods cannot be made: admission webhook denied the request.",
        ),
        (
            {"type": "Progressing", "status": "False", "message": "has timed out progressing."},
            "Its Deployment makes no progress: has timed out progressing.",
        ),
    ],
)
def test_a_deployment_speaks_in_its_own_words(condition: dict[str, Any], words: str) -> None:
    facts = of(deployment=deployment(availableReplicas=0, conditions=[condition]), pods=[], reports={})
    assert facts.trouble == words


@pytest.mark.parametrize(
    ("status", "reason", "begins"),
    [
        (
            unschedulable('persistentvolumeclaim "aegate-blobs" not found'),
            Reason.STORE_NOT_FOUND,
            "PersistentVolumeClaim 'aegate-blobs' is not in namespace radiology",
        ),
        (
            waiting("CreateContainerConfigError", 'secret "aegate-database" not found'),
            Reason.STORE_NOT_FOUND,
            "Secret 'aegate-database' is not in namespace radiology",
        ),
        (
            waiting(
                "CreateContainerConfigError", "couldn't find key access-key-id in Secret radiology/images"
            ),
            Reason.STORE_NOT_FOUND,
            "Secret radiology/images has no key access-key-id",
        ),
        (
            unschedulable("pod has unbound immediate PersistentVolumeClaims"),
            Reason.STORE_NOT_FOUND,
            "A PersistentVolumeClaim is not bound",
        ),
    ],
)
def test_a_missing_store_is_learnt_from_the_pods(status: dict[str, Any], reason: Reason, begins: str) -> None:
    fault = of(pods=[pod(is_ready=False, **status)], reports={}).fault
    assert fault is not None
    assert fault.reason is reason
    assert fault.message.startswith(begins)


@pytest.mark.parametrize(
    ("problem", "reason"),
    [
        ("SecretNotFound", Reason.SECRET_NOT_FOUND),
        ("CertificateExpired", Reason.CERTIFICATE_EXPIRED),
        ("InvalidKey", Reason.CERTIFICATE_INVALID),
    ],
)
def test_what_is_wrong_with_a_certificate_is_learnt_from_the_listener(problem: str, reason: Reason) -> None:
    said = Report(WISHED, "ready", certificate_problem=problem, certificate_message="It says so.")
    assert of(reports={"a": said}).fault == Fault(reason, "It says so.")


def test_the_certificate_that_ends_first_counts() -> None:
    pods = [pod("a"), pod("b")]
    reports = {n: Report(WISHED, "ready", certificate_ends_at=f"203{n}") for n in ("a", "b")}
    facts = of(deployment=deployment(2), pods=pods, reports=reports)
    assert facts.certificate_ends_at == "203a"


def test_one_pod_of_an_old_generation_is_enough_not_to_be_ready() -> None:
    reports = {"a": Report(WISHED, "ready"), "b": Report("old", "ready")}
    facts = of(deployment=deployment(2), pods=[pod("a"), pod("b")], reports=reports)
    assert (facts.trouble, facts.ready_replicas) == ("1 of 2 pods answer and serve this generation.", 1)


def test_a_pod_that_leaves_does_not_count() -> None:
    leaving = replace(pod("b"), is_leaving=True)
    assert of(pods=[pod("a"), leaving]) == Facts(replicas=1, ready_replicas=1)


def test_an_upgrade_leaves_the_generation_that_is_served_ready() -> None:
    rolling = deployment(updatedReplicas=0, replicas=1)
    assert of(deployment=rolling).trouble == "0 of 1 pods are of this generation."
    facts = of(deployment=rolling, is_upgrade=True, waits="It waits.")
    assert (facts.trouble, facts.progress) == (None, "It waits.")


def test_a_degraded_listener_says_why() -> None:
    assert (
        of(reports={"a": Report(WISHED, "degraded", "disk full")}).trouble == "Pod a is degraded: disk full."
    )


def test_a_pod_that_does_not_answer_is_told_from_one_not_asked() -> None:
    silent = of(reports={"a": Report(problem="does not answer on its health port (TimeoutError)")})
    assert silent.trouble == "Pod a does not answer on its health port (TimeoutError)."
    assert silent.is_certain is True
    assert of(reports={}).is_certain is False


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b"{}", b'"x"', b'{"revision": 1}', b'{"state": "ready"}', b"\xff"]
)
def test_an_answer_of_another_form_is_a_problem(raw: bytes) -> None:
    assert read_report(raw).problem.startswith("answers on its health port in another form ")


def test_a_whole_answer_is_read() -> None:
    raw = (
        b'{"process": "listener", "state": "ready", "generation": 3, "revision": "f00d", "message": "m", '
        b'"certificate": {"problem": "CertificateExpired", "message": "It ended.", "notAfter": "2026-01-01T00:00:00Z"}}'
    )
    assert read_report(raw) == Report(
        "f00d", "ready", "m", "", "CertificateExpired", "It ended.", "2026-01-01T00:00:00Z"
    )


def test_nobody_writes_a_pod_that_cannot_be_read() -> None:
    assert read_pod({}).words == ()
    assert read_pod({"metadata": None, "status": {"containerStatuses": ["x"]}}).is_ready is False


def test_what_others_annotate_is_no_new_version() -> None:
    annotated = {**deployment(), "metadata": {"generation": 5}}
    assert observe(replace(WELL, deployment=annotated, generation=4)).trouble is None
    assert observe(replace(WELL, deployment=annotated, generation=5)).rollout is RolloutState.ROLLING
    assert observe(replace(WELL, deployment=annotated)).rollout is RolloutState.ROLLING
