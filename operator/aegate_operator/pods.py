"""A listener's pod, as much of it as conditions need: a pod as it is, times ten thousand, would fill the memory.

What kubelet and scheduler say of it is kept in their own words: they are what people search the web for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.resources.yaml_tree import members
from aegate_operator.manifests.child import AE_LABEL, DRAIN_APP, POOL_LABEL

REVISION = "aegate.dev/config-revision"
"""Annotation of a pod: changing it makes kubelet look at the pod's ConfigMaps at once instead of within 90 s."""
HARMLESS = frozenset({"ContainerCreating", "PodInitializing"})
"""Waiting reasons of a pod that is on its way."""
_FAILING = frozenset(
    {
        "CrashLoopBackOff",
        "ImagePullBackOff",
        "ErrImagePull",
        "ErrImageNeverPull",
        "InvalidImageName",
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
    }
)
LONGEST_WORDS = 300


@dataclass(frozen=True, slots=True)
class Pod:
    """One pod."""

    key: ResourceKey
    uid: str
    address: str
    """Its IP; empty while it has none."""
    is_ready: bool
    is_leaving: bool
    """It was told to end, or has ended."""
    has_ended: bool
    template: str
    """``pod-template-hash``: which version of the Deployment it is of."""
    revision: str
    """What `REVISION` says."""
    entity_label: str = ""
    """The label that names its AE."""
    pool: str = ""
    """The pool that it is of."""
    claims: frozenset[str] = frozenset()
    """PersistentVolumeClaims that it mounts; none, once it has ended."""
    is_draining: bool = False
    """It is of a Job that empties a spool, not of a listener."""
    words: tuple[tuple[str, str], ...] = ()
    """Reason and message of everything that keeps it from being ready."""

    @property
    def is_broken(self) -> bool:
        """Whether a container of it cannot run."""
        return any(reason in _FAILING for reason, _ in self.words)

    @property
    def is_failing(self) -> bool:
        """Whether it is not merely on its way."""
        return self.is_broken or any(reason == "Unschedulable" for reason, _ in self.words)


def pool_family(namespace: str, name: str) -> ResourceKey:
    """Return under which key the children of a pool are known; no AE's label has a slash."""
    return ResourceKey(namespace, f"pool/{name}")


def read_pod(manifest: Mapping[str, object]) -> Pod:
    """Return what matters of a pod."""
    metadata, status = members(manifest.get("metadata")), members(manifest.get("status"))
    conditions = {str(c.get("type")): c for c in _items(status.get("conditions"))}
    annotations, labels = members(metadata.get("annotations")), members(metadata.get("labels"))
    has_ended = status.get("phase") in ("Succeeded", "Failed")
    return Pod(
        key=ResourceKey(str(metadata.get("namespace", "")), str(metadata.get("name", ""))),
        uid=str(metadata.get("uid", "")),
        address=str(status.get("podIP") or ""),
        is_ready=conditions.get("Ready", {}).get("status") == "True",
        is_leaving=bool(metadata.get("deletionTimestamp")) or has_ended,
        has_ended=has_ended,
        template=str(labels.get("pod-template-hash", "")),
        revision=str(annotations.get(REVISION, "")),
        entity_label=str(labels.get(AE_LABEL, "")),
        pool=str(labels.get(POOL_LABEL, "")),
        claims=frozenset() if has_ended else claims_of(manifest),
        is_draining=labels.get("app.kubernetes.io/name") == DRAIN_APP,
        words=tuple(_words(conditions, status)),
    )


def claims_of(pod: Mapping[str, object]) -> frozenset[str]:
    """Return the names of the claims that a pod, or a pod template, mounts."""
    mounted = (
        members(v.get("persistentVolumeClaim")) for v in _items(members(pod.get("spec")).get("volumes"))
    )
    return frozenset(str(claim["claimName"]) for claim in mounted if claim.get("claimName"))


def _words(
    conditions: Mapping[str, Mapping[str, object]], status: Mapping[str, object]
) -> Iterator[tuple[str, str]]:
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("status") == "False":
        yield str(scheduled.get("reason") or "Unschedulable"), _short(scheduled.get("message"))
    for name in ("initContainerStatuses", "containerStatuses"):
        for container in _items(status.get(name)):
            waiting = members(members(container.get("state")).get("waiting"))
            if waiting and waiting.get("reason") not in HARMLESS:
                said = [_short(waiting.get("message")), _last_exit(container)]
                yield str(waiting.get("reason") or "Waiting"), "; ".join(word for word in said if word)


def _last_exit(container: Mapping[str, object]) -> str:
    ended = members(members(container.get("lastState")).get("terminated"))
    if not ended:
        return ""
    reason = str(ended.get("reason") or "")
    code = ended.get("exitCode")
    said = _short(ended.get("message"))
    return f"{container.get('name')} ended with {code}" + "".join(f" ({w})" for w in (reason, said) if w)


def _short(text: object) -> str:
    words = " ".join(str(text or "").split())
    return words if len(words) <= LONGEST_WORDS else f"{words[:LONGEST_WORDS]}…"


def _items(value: object) -> list[Mapping[str, object]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []
