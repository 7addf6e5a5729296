"""What Deployment, pods and the listeners' own reports say of one AE, as sentences that a condition can carry.

Pure. The order of what is said first is the order of what a person has to mend first: what was refused, what a pod
waits for, what is merely on its way.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from aegate_core.decisions.references import Fault
from aegate_core.resources.conditions import Reason
from aegate_core.resources.yaml_tree import members
from aegate_operator.pods import Pod
from aegate_operator.reports import Report
from aegate_operator.rollout import RolloutState

_NO_CLAIM = re.compile(r'persistentvolumeclaim "([^"]+)" not found')
_NO_SECRET = re.compile(r'secret "([^"]+)" not found')
_NO_KEY = re.compile(r"couldn't find key (\S+) in Secret (\S+)")
_UNBOUND = re.compile(r"unbound (immediate )?PersistentVolumeClaims")


@dataclass(frozen=True, slots=True)
class Sighting:
    """Everything there is to see of one listener."""

    deployment: Mapping[str, object] | None
    """As it lives; None: it is not there."""
    generation: int | None = None
    """Of the Deployment when it got what is wished; None: as it lives."""
    pods: Sequence[Pod] = ()
    reports: Mapping[str, Report] = field(default_factory=dict)
    """By the pod's uid; a pod that has not been asked yet is not in it."""
    revision: str = ""
    """Of the configuration that is wished."""
    refusals: Sequence[str] = ()
    """What the API server did not take, in its words."""
    is_upgrade: bool = False
    """Whether it is the installation, not the AE, that makes it roll: what serves, serves this AE's generation."""
    waits: str = ""
    """Why it may not roll yet."""
    remark: str = ""
    """What people should know of it though nothing is wrong."""


@dataclass(frozen=True, slots=True)
class Facts:
    """How a listener is."""

    trouble: str | None = None
    """Why it does not serve this generation with every pod; None: it does."""
    progress: str | None = None
    """What is still on its way; None: nothing, or nothing before somebody has done something about `trouble`."""
    fault: Fault | None = None
    """What it needs and does not find."""
    rollout: RolloutState = RolloutState.COMPLETE
    replicas: int = 0
    ready_replicas: int = 0
    """Pods that answer and serve this generation."""
    is_certain: bool = True
    """Whether every ready pod has been asked; right after a start that takes a moment."""
    certificate_ends_at: str = ""
    remark: str = ""


def observe(sighting: Sighting) -> Facts:
    """Return how the listener is."""
    if sighting.deployment is None:
        if sighting.refusals:
            return Facts(trouble=" ".join(sighting.refusals), rollout=RolloutState.ROLLING)
        said = "Its Deployment is being made."
        return Facts(trouble=said, progress=said, rollout=RolloutState.ROLLING)
    spec, status = members(sighting.deployment.get("spec")), members(sighting.deployment.get("status"))
    replicas = _number(spec.get("replicas"), 1)
    pods = [pod for pod in sighting.pods if not pod.is_leaving]
    ready = [pod for pod in pods if pod.is_ready]
    serving = [pod for pod in ready if _serves(pod, sighting)]
    is_complete = _is_complete(sighting, status, replicas)
    troubles = [
        *sighting.refusals,
        *_words_of_deployment(status),
        *_words_of_pods(pods),
        *_words_of_reports(ready, sighting),
    ]
    is_serving = len(serving) >= replicas and len(serving) == len(ready)
    if not troubles and not is_serving:
        troubles.append(f"{len(serving)} of {replicas} pods answer and serve this generation.")
    elif not troubles and not is_complete and not sighting.is_upgrade:
        troubles.append(
            f"{_number(status.get('updatedReplicas'), 0)} of {replicas} pods are of this generation."
        )
    there = min(len(serving), *(_number(status.get(n), 0) for n in ("updatedReplicas", "availableReplicas")))
    missing = _missing(pods, ready, sighting)
    is_stuck = bool(sighting.refusals or missing) or _has_failed(status, pods)
    progress = sighting.waits
    if not (progress or is_stuck or (is_complete and is_serving)):
        progress = f"{there} of {replicas} pods are where they should be."
    return Facts(
        trouble=" ".join(troubles) or None,
        progress=progress or None,
        fault=missing or _unbound(pods),
        rollout=_rollout(status, pods, is_complete=is_complete),
        replicas=replicas,
        ready_replicas=len(serving),
        is_certain=all(pod.uid in sighting.reports for pod in ready),
        remark=sighting.remark,
        certificate_ends_at=min(
            (r.certificate_ends_at for r in _reports(ready, sighting) if r.certificate_ends_at), default=""
        ),
    )


def _serves(pod: Pod, sighting: Sighting) -> bool:
    report = sighting.reports.get(pod.uid)
    return report is not None and report.revision == sighting.revision


def _reports(pods: Sequence[Pod], sighting: Sighting) -> Iterator[Report]:
    for pod in pods:
        if (report := sighting.reports.get(pod.uid)) is not None:
            yield report


def _is_complete(sighting: Sighting, status: Mapping[str, object], replicas: int) -> bool:
    metadata = members((sighting.deployment or {}).get("metadata"))
    generation = (
        _number(metadata.get("generation"), 0) if sighting.generation is None else sighting.generation
    )
    updated, available = (_number(status.get(name), 0) for name in ("updatedReplicas", "availableReplicas"))
    is_seen = _number(status.get("observedGeneration"), 0) >= generation
    return is_seen and updated == replicas and available >= replicas == _number(status.get("replicas"), 0)


def _rollout(status: Mapping[str, object], pods: Sequence[Pod], *, is_complete: bool) -> RolloutState:
    if is_complete:
        return RolloutState.COMPLETE
    is_failing = _has_failed(status, pods) or any(pod.is_failing for pod in pods)
    return RolloutState.FAILED if is_failing else RolloutState.ROLLING


def _has_failed(status: Mapping[str, object], pods: Sequence[Pod]) -> bool:
    """Return whether waiting does not help: not so for a pod without a node, which an autoscaler may be making."""
    has_given_up = _condition(status, "Progressing").get("status") == "False"
    return has_given_up or any(pod.is_broken for pod in pods)


def _words_of_deployment(status: Mapping[str, object]) -> Iterator[str]:
    failure = _condition(status, "ReplicaFailure")
    if failure.get("status") == "True":  # a quota is used up, an admission policy denies the pods
        yield f"Its pods cannot be made: {failure.get('message')}."
    progressing = _condition(status, "Progressing")
    if progressing.get("status") == "False":
        yield f"Its Deployment makes no progress: {progressing.get('message')}"


def _words_of_pods(pods: Sequence[Pod]) -> Iterator[str]:
    for pod in pods:
        for reason, message in pod.words:
            yield f"Pod {pod.key.name}: {reason}{': ' if message else ''}{message}."


def _words_of_reports(ready: Sequence[Pod], sighting: Sighting) -> Iterator[str]:
    for pod in ready:
        report = sighting.reports.get(pod.uid)
        if report is None:
            continue
        if report.problem:
            yield f"Pod {pod.key.name} {report.problem}."
        elif report.state != "ready":
            yield f"Pod {pod.key.name} is {report.state}{': ' if report.message else ''}{report.message}."


def _missing(pods: Sequence[Pod], ready: Sequence[Pod], sighting: Sighting) -> Fault | None:
    """Return what somebody has to make; the listener's own word goes before the pod's, which may be of an old try."""
    if fault := certificate_fault(_reports(pods, sighting)):
        return fault
    for pod in pods:
        for _, message in pod.words:
            for pattern, what in ((_NO_CLAIM, "PersistentVolumeClaim"), (_NO_SECRET, "Secret")):
                if found := pattern.search(message):
                    return Fault(
                        Reason.STORE_NOT_FOUND,
                        f"{what} {found[1]!r} is not in namespace {pod.key.namespace}, and its pods wait for it: "
                        "create it there.",
                    )
            if found := _NO_KEY.search(message):
                return Fault(
                    Reason.STORE_NOT_FOUND,
                    f"Secret {found[2]} has no key {found[1]}, and its pods wait for it: add it there.",
                )
    return None


def _unbound(pods: Sequence[Pod]) -> Fault | None:
    """Return which claim is waited for: a new one is bound within seconds, one without a volume never."""
    for pod in pods:
        for _, message in pod.words:
            if _UNBOUND.search(message):
                return Fault(Reason.STORE_NOT_FOUND, f"A PersistentVolumeClaim is not bound: {message}.")
    return None


def certificate_fault(reports: Iterable[Report]) -> Fault | None:
    """Return what is wrong with a listener's certificate, as the first pod says that finds it so."""
    for report in reports:
        if report.certificate_problem:
            return Fault(_certificate_reason(report.certificate_problem), report.certificate_message)
    return None


def _certificate_reason(problem: str) -> Reason:
    known = {Reason.SECRET_NOT_FOUND.value, Reason.CERTIFICATE_EXPIRED.value}
    return Reason(problem) if problem in known else Reason.CERTIFICATE_INVALID


def _condition(status: Mapping[str, object], type: str) -> Mapping[str, object]:
    conditions = status.get("conditions")
    for condition in conditions if isinstance(conditions, list) else []:
        if condition.get("type") == type:
            return members(condition)
    return {}


def _number(value: object, default: int) -> int:
    return value if isinstance(value, int) else default
