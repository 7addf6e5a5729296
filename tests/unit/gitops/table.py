"""What kstatus and Argo CD should say of every state; `AGREEING` says which of their words mean the same."""

from __future__ import annotations

from aegate_core.stores.cluster.kinds import PATIENT_PARTITION
from tests.unit.gitops.states import (
    State,
    again,
    applied,
    declared,
    edited,
    given_up,
    leaving,
    policy,
    pooled,
    refused,
    reported,
    route,
    served,
    taken,
    unschedulable,
    unseen,
    upgraded,
    waiting,
)

AGREEING = {
    ("Current", "Healthy"),
    ("Current", "Suspended"),
    ("InProgress", "Progressing"),
    ("InProgress", "Degraded"),
    ("Failed", "Degraded"),
    ("Terminating", "Progressing"),
    ("Current", ""),
    ("Terminating", ""),
}
"""InProgress and Degraded: a person has to do something, then it goes on by itself. kstatus has no word for that."""

partition = declared(PATIENT_PARTITION, {"displayName": "Imaging"})
unseen_partition = declared(PATIENT_PARTITION, {"displayName": "Imaging"}, is_seen=False)

WAITS = ("InProgress", "Progressing")
NEEDS_A_PERSON = ("InProgress", "Degraded")
HOPELESS = ("Failed", "Degraded")
WELL = ("Current", "Healthy")
GOES = ("Terminating", "Progressing")

ENTITIES = {
    "nobody has looked at it": State(unseen, *WAITS),
    "an edit that nobody has looked at": State(edited(is_seen=False, node="10.9.9.9"), *WAITS),
    "its pods are being made": State(applied(), *WAITS, "0 of 1 pods are where they should be"),
    "its pod starts": State(waiting("ContainerCreating"), *WAITS, "0 of 1 pods"),
    "its pod waits for room": State(unschedulable("0/3 nodes: Insufficient cpu"), *WAITS, "0 of 1 pods"),
    "its claim is being bound": State(
        unschedulable("pod has unbound immediate PersistentVolumeClaims"), *WAITS, "0 of 1 pods"
    ),
    "every pod serves it": State(served(), *WELL),
    "an edit is on its way": State(edited(is_seen=True, node="10.9.9.9"), *WAITS, "0 of 1 pods"),
    "the installation's new version waits for its turn": State(upgraded, *WAITS, "waits for its turn"),
    "its spool is of one node": State(
        served(listener={"spool": {"type": "PersistentVolumeClaim", "accessMode": "ReadWriteOnce"}}), *WELL
    ),
    "its location is unknown": State(served(locations=frozenset(), locationCode="WARD"), *WELL),
    "a device that never calls": State(applied(listener={"mode": "None"}), *WELL),
    "a pool serves it": State(pooled, *WELL),
    "disabled": State(applied(enabled=False), *WELL),
    "suspended": State(edited(is_seen=True, suspend=True), "Current", "Suspended"),
    "suspended, and nobody has looked at it": State(edited(is_seen=False, suspend=True), *WAITS),
    "its pool has no pod": State(applied(listener={"mode": "Shared"}), *WAITS, "has no pod that is ready"),
    "its container crashes": State(
        waiting("CrashLoopBackOff", "back-off 10s"), *NEEDS_A_PERSON, "CrashLoopBackOff"
    ),
    "its image cannot be pulled": State(waiting("ImagePullBackOff"), *NEEDS_A_PERSON, "ImagePullBackOff"),
    "its Deployment has given up": State(given_up, *NEEDS_A_PERSON, "makes no progress"),
    "a child is refused": State(refused, *NEEDS_A_PERSON, "exceeded quota"),
    "its claim is not there": State(
        unschedulable('persistentvolumeclaim "aegate-blobs" not found'),
        *NEEDS_A_PERSON,
        "PersistentVolumeClaim 'aegate-blobs' is not in namespace radiology",
    ),
    "its database's Secret is not there": State(
        waiting("CreateContainerConfigError", 'secret "aegate-database" not found'),
        *NEEDS_A_PERSON,
        "Secret 'aegate-database' is not in namespace radiology",
    ),
    "its Secret is not there": State(
        reported(
            state="degraded", certificate_problem="SecretNotFound", certificate_message="No Secret tls."
        ),
        *NEEDS_A_PERSON,
        "No Secret tls.",
    ),
    "its certificate has expired": State(
        reported(state="degraded", certificate_problem="CertificateExpired", certificate_message="It ended."),
        *NEEDS_A_PERSON,
        "It ended.",
    ),
    "its key is wrong": State(
        reported(state="degraded", certificate_problem="InvalidKey", certificate_message="Not its key."),
        *NEEDS_A_PERSON,
        "Not its key.",
    ),
    "its disk is full": State(reported(state="degraded", message="disk full"), *NEEDS_A_PERSON, "disk full"),
    "its partition is not there": State(
        served(patientPartition="missing"), *NEEDS_A_PERSON, "is no PatientPartition"
    ),
    "its pool is not there": State(
        applied(listener={"mode": "Shared", "pool": "none"}), *NEEDS_A_PERSON, "listener.pool must be a pool"
    ),
    "a printer": State(applied(ability="Print"), *NEEDS_A_PERSON, "Printing is not there yet"),
    "a port of ISCL": State(served(port=2761), *NEEDS_A_PERSON, "ISCL"),
    "suspended, and its partition is not there": State(
        edited(is_seen=True, suspend=True, patientPartition="missing"),
        *NEEDS_A_PERSON,
        "is no PatientPartition",
    ),
    "its title is taken": State(taken(), *HOPELESS, "belongs to cardiology/other"),
    "suspended, and its title is taken": State(taken(suspend=True), *HOPELESS, "belongs to cardiology/other"),
    "refused by a newer rule": State(applied(port=70000), *HOPELESS, "spec.port"),
    "suspended, and refused by a newer rule": State(
        applied(suspend=True, port=70000), *HOPELESS, "spec.port"
    ),
    "an edit that is refused by a newer rule": State(
        edited(is_seen=True, port=70000), *HOPELESS, "spec.port"
    ),
    "deleted": State(leaving(served()), *GOES, "eletion"),
    "deleted before anybody looked at it": State(leaving(unseen), *GOES, "eletion"),
}

ROUTES = {
    "nobody has looked at it": State(route(is_seen=False), *WAITS),
    "an edit that nobody has looked at": State(again(route(), to=["ct9"]), *WAITS),
    "it leads somewhere": State(route(), *WELL),
    "disabled": State(route({"enabled": False}), *WELL),
    "it selects nothing yet": State(route({"from": {"selector": {"matchLabels": {"ward": "1"}}}}), *WELL),
    "its location is unknown": State(route({"from": {"aes": ["ct1"], "locations": ["ATTIC"]}}), *WELL),
    "its destination is not there": State(
        route({"to": ["ct9"]}), *NEEDS_A_PERSON, "no ApplicationEntity of namespace radiology"
    ),
    "its destination is elsewhere": State(route({"to": ["cardiology/other"]}), *HOPELESS, "spec.to[0]"),
    "it leads back": State(
        route({"from": {"selector": {"matchLabels": {"ward": "2"}}}}),
        *NEEDS_A_PERSON,
        "both source and destination",
    ),
    "its destination's title is taken": State(
        route({"to": ["taken"]}), *NEEDS_A_PERSON, "its title is taken"
    ),
    "its destination is a printer": State(
        route({"to": ["laser"]}), *NEEDS_A_PERSON, "printing is not there yet"
    ),
    "its partition is not there": State(
        route({"from": {"aes": ["ct1"], "partitions": ["missing"]}}), *NEEDS_A_PERSON, "no PatientPartition"
    ),
    "its keyword is none": State(
        route({"from": {"aes": ["ct1"], "elements": [{"keyword": "StationNam", "op": "Exists"}]}}),
        *NEEDS_A_PERSON,
        "no keyword of PS3.6",
    ),
    "refused by a newer rule": State(route({"level": "Half"}), *HOPELESS, "spec.level"),
    "deleted": State(leaving(route()), *GOES, "eletion"),
}

PARTITIONS = {
    "nobody has looked at it": State(unseen_partition, *WAITS),
    "an edit that nobody has looked at": State(again(partition, displayName="Other"), *WAITS),
    "looked at": State(partition, *WELL),
    "refused by a newer rule": State(
        declared(PATIENT_PARTITION, {"displayName": ""}), *HOPELESS, "displayName"
    ),
    "deleted": State(leaving(partition), *GOES, "eletion"),
}

POLICIES = {
    "there": State(policy, "Current", ""),
    "deleted": State(leaving(policy), "Terminating", ""),
}

STATES: dict[str, State] = {
    f"{kind}: {name}": state
    for kind, states in {
        "ApplicationEntity": ENTITIES,
        "ImageRoute": ROUTES,
        "PatientPartition": PARTITIONS,
        "AEPolicy": POLICIES,
    }.items()
    for name, state in states.items()
}
