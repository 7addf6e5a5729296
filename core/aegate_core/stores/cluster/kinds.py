"""Kinds of Kubernetes objects and their place in the API, as far as aegate reads or writes them."""

from __future__ import annotations

from dataclasses import dataclass

from aegate_core.resources.manifest_of import API_VERSION


@dataclass(frozen=True, slots=True, order=True)
class Kind:
    """One kind in one version; all of ours are namespaced."""

    api_version: str
    """``v1`` or group/version, as a manifest has it."""
    name: str
    """As a manifest's ``kind``."""
    plural: str

    @property
    def group(self) -> str:
        """The API group; empty for the core group."""
        return self.api_version.rpartition("/")[0]

    @property
    def version(self) -> str:
        """The version alone."""
        return self.api_version.rpartition("/")[2]

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """Return the path below the server's address; without namespace that of all namespaces."""
        root = "/apis/" if self.group else "/api/"
        parts = [root + self.api_version]
        if namespace:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        return "/".join([*parts, *(part for part in (name, subresource) if part)])

    def __str__(self) -> str:
        return self.name


APPLICATION_ENTITY = Kind(API_VERSION, "ApplicationEntity", "applicationentities")
IMAGE_ROUTE = Kind(API_VERSION, "ImageRoute", "imageroutes")
PATIENT_PARTITION = Kind(API_VERSION, "PatientPartition", "patientpartitions")
DEPLOYMENT = Kind("apps/v1", "Deployment", "deployments")
SERVICE = Kind("v1", "Service", "services")
CONFIG_MAP = Kind("v1", "ConfigMap", "configmaps")
NETWORK_POLICY = Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies")
DISRUPTION_BUDGET = Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
VOLUME_CLAIM = Kind("v1", "PersistentVolumeClaim", "persistentvolumeclaims")
JOB = Kind("batch/v1", "Job", "jobs")
POD = Kind("v1", "Pod", "pods")
EVENT = Kind("events.k8s.io/v1", "Event", "events")
