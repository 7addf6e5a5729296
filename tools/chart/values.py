"""Every value of the chart: comment, default and form. The one source of values.yaml and values.schema.json."""

from __future__ import annotations

from tools.chart.api_values import API
from tools.chart.fields import (
    Field,
    Section,
    choice,
    integer,
    labels,
    name,
    named,
    resources,
    section,
    switch,
    text,
    texts,
)
from tools.chart.kubernetes import peers, placement

PROCESSES = ("worker", "api", "indexer", "operator")


IMAGE = section(
    "image",
    "The images. There is no default: they are built from this repository (images/) and pushed to a registry of yours.",
    text("repository", "Where they are, without a tag: registry.example.org/aegate. Must be given."),
    text("tag", "Their tag. Empty: the chart's appVersion.", form="tag"),
    section(
        "names",
        "What follows the repository after a slash, for each image. Empty: the repository itself is that image.",
        text("listener", "Receiver and indexer.", "scp", form="image name"),
        text("worker", "Workers, retention, migration, and the pod of helm test.", "scu", form="image name"),
        text("operator", "The operator.", "operator", form="image name"),
        text("api", "The GraphQL API.", "graphql-api", form="image name"),
    ),
    choice("pullPolicy", "When nodes pull them.", "IfNotPresent", "Always", "Never"),
    texts(
        "pullSecrets",
        "Secrets to pull with. Listeners use them too: they must be in every namespace that has AEs.",
        form="Secret",
    ),
)

DATABASE = section(
    "database",
    "PostgreSQL 15 or newer with the extension pg_trgm, yours: backed up, monitored, with a standby.",
    section(
        "secrets",
        "Secrets with the key dsn, postgres://role:password@host:5432/aegate: one a role, so that each may do its own.",
        text(
            "owner", "Of the migration Job and of retention: who owns the database.", "aegate-database-owner"
        ),
        text("worker", "Of the workers.", "aegate-database-worker"),
        text("api", "Of the API.", "aegate-database-api"),
        text(
            "indexer", "Of listeners. Needed in every other namespace that has AEs, too.", "aegate-database"
        ),
        text("operator", "Of the operator.", "aegate-database-operator"),
    ),
    section(
        "roles",
        "Roles of the database that the migration Job gives their rights. They must exist; its log says what to type.",
        *(text(p, f"In the DSN of secrets.{p}.", f"aegate_{p}") for p in PROCESSES),
    ),
    section(
        "trial",
        "A PostgreSQL of one pod, for trials only: no backup, no standby, one password. The chart makes its Secrets.",
        switch("enabled", "Whether to run it."),
        text("password", "Of all its roles, 16 characters or more. Must be given where it is enabled."),
        text(
            "image",
            "The image: one that understands POSTGRES_PASSWORD and /docker-entrypoint-initdb.d.",
            "postgres:17",
            form="image",
        ),
        integer("user", "User id of postgres in that image.", 999, least=1),
        text("size", "Size of its volume.", "8Gi", form="size"),
        name("storageClassName", "StorageClass of its volume. Empty: the cluster's default.", "StorageClass"),
        resources("Requests and limits.", cpu="100m", memory="256Mi", limit="1Gi"),
    ),
)

BLOBS = section(
    "blobs",
    "Where the images received lie, written by listeners and read by workers on whatever nodes: a volume, or a bucket.",
    name(
        "claim",
        "PersistentVolumeClaim. Needed in every other namespace that has AEs, too, for the same storage.",
        "PersistentVolumeClaim",
        "aegate-blobs",
    ),
    switch(
        "create",
        "Make it in the release's namespace. It stays when the release is uninstalled.",
        default=True,
    ),
    choice(
        "accessMode", "ReadWriteOnce is enough where there is one node.", "ReadWriteMany", "ReadWriteOnce"
    ),
    text("size", "Its size.", "100Gi", form="size"),
    name("storageClassName", "Its StorageClass. Empty: the cluster's default.", "StorageClass"),
    section(
        "s3",
        "A bucket of S3, or of a server that speaks it. Where it is named, no claim is made or mounted.",
        text("bucket", "Its name. Empty: the volume."),
        text("endpoint", "https://host:port of its server. Empty: AWS, in region."),
        text("region", "The region that requests are signed for.", "us-east-1"),
        text("prefix", "In front of every key, such as images/. Empty: the bucket holds nothing else."),
        text(
            "secret",
            "Secret with access-key-id, secret-access-key and, where the server's certificate is by a CA of yours, "
            "ca.crt. Needed in every other namespace that has AEs, too.",
            "aegate-bucket",
        ),
        integer(
            "scratchMiB",
            "Room on its node that a worker takes for copies of what it sends; what it converts comes on top.",
            4096,
            least=64,
        ),
        integer(
            "copiesMiB",
            "How much a worker's pod may take on its node in all, what it converts included; above it Kubernetes "
            "evicts the pod. At least twice scratchMiB, and three times the largest object.",
            16384,
            least=128,
            most=1048576,
        ),
    ),
)

OPERATOR = section(
    "operator",
    "The operator: one pod, which turns ApplicationEntities into listeners. Listeners live on without it.",
    integer(
        "maxConcurrentRollouts",
        "How many listeners may roll at a time; paused at the first that fails.",
        10,
        least=1,
    ),
    resources("125 MiB of memory, 160 with 300 AEs, 310 with 1,000.", cpu="50m", memory="192Mi", limit="1Gi"),
    *placement(),
)

LISTENER = section(
    "listener",
    "What listeners are where their ApplicationEntity says nothing.",
    choice("serviceType", "How devices reach them.", "ClusterIP", "NodePort", "LoadBalancer"),
    integer("replicas", "Pods of each.", 1, least=1, most=100),
    integer("port", "Port of their Service; with TLS it is 2762.", 11112, least=1),
    section(
        "spool",
        "Where acknowledged images lie until they are indexed.",
        choice(
            "type",
            "EmptyDir: lost with the pod, so a device hears success only when its image is in the index.",
            "PersistentVolumeClaim",
            "EmptyDir",
        ),
        choice(
            "accessMode",
            "ReadWriteOnce allows one pod, and a restart interrupts the service.",
            "ReadWriteMany",
            "ReadWriteOnce",
        ),
        text("size", "Size of each.", "20Gi", form="size"),
        name("storageClassName", "StorageClass. Empty: the cluster's default.", "StorageClass"),
    ),
    integer(
        "graceSeconds", "How long associations may go on when a pod is to end.", 300, least=1, most=86400
    ),
    integer(
        "preStopSeconds", "How long a pod that is to end still accepts, until every node knows.", 5, most=300
    ),
    integer(
        "indexWaitSeconds", "With acknowledge: Indexed, how long a device waits.", 30, least=1, most=3600
    ),
    text("host", "What they listen on; :: on clusters with IPv6.", "0.0.0.0"),
    section(
        "receiver",
        "The container that devices talk to.",
        resources("25 associations at once need about 150 MiB.", cpu="50m", memory="128Mi", limit="512Mi"),
    ),
    section(
        "indexer",
        "The container that indexes.",
        resources("A batch needs about 200 MiB.", cpu="25m", memory="128Mi", limit="768Mi"),
    ),
    *placement(),
)

POOLS = named(
    "pools",
    "Listeners that serve many ApplicationEntities (listener.mode Shared) on one port, by name: "
    "pools: {default: {sourceRanges: [10.0.0.0/8]}}. What a pool does not say comes from listener.",
    integer("replicas", "Pods.", 1, least=1, most=100),
    choice("serviceType", "How devices reach it.", "ClusterIP", "NodePort", "LoadBalancer"),
    integer("port", "Port of its Service; with TLS it is 2762.", 11112, least=1),
    integer(
        "nodePort", "Port on every node. Absent: the cluster chooses one.", 30000, least=30000, most=32767
    ),
    labels("serviceAnnotations", "Annotations of its Service, such as a load balancer asks for.", form=""),
    texts(
        "sourceRanges",
        "CIDRs that may reach it. Empty: everybody, and listeners admit by each AE's node alone.",
        form="CIDR",
    ),
    integer(
        "graceSeconds",
        "How long associations may go on when a pod is to end: as long as the longest of its AEs may last.",
        300,
        least=1,
        most=86400,
    ),
    integer(
        "shares",
        "Over how many ConfigMaps its AEs are shared out; each holds about 800. Another number restarts no listener.",
        4,
        least=1,
        most=64,
    ),
    section(
        "tls",
        "One identity for all of its AEs.",
        name("secretName", "Secret with tls.crt and tls.key.", "Secret"),
        name("caSecretName", "Secret with ca.crt. Absent: the same.", "Secret"),
        choice("clientAuth", "Whether devices must show a certificate.", "Require", "Request", "None"),
    ),
    section(
        "spool",
        "Where acknowledged images lie until they are indexed.",
        choice("type", "EmptyDir: lost with the pod.", "PersistentVolumeClaim", "EmptyDir"),
        choice("accessMode", "ReadWriteOnce allows one pod.", "ReadWriteMany", "ReadWriteOnce"),
        text("size", "Its size.", form="size"),
        name("storageClassName", "StorageClass. Empty: the cluster's default.", "StorageClass"),
    ),
    section(
        "receiver",
        "The container that devices talk to.",
        resources("25 associations at once need about 150 MiB.", cpu="50m", memory="128Mi", limit="512Mi"),
    ),
    section(
        "indexer",
        "The container that indexes.",
        resources("A batch needs about 200 MiB.", cpu="25m", memory="128Mi", limit="768Mi"),
    ),
)

WORKER = section(
    "worker",
    "The workers: they close studies, route, push and print. Two or more, so that one may be lost.",
    integer("replicas", "How many.", 2, most=100),
    integer("pushes", "Associations at work at once in each.", 8, least=1, most=256),
    name(
        "tlsSecret",
        "Secret with tls.crt, tls.key and ca.crt: our identity where an AE has push.tls, and whom we trust.",
        "Secret",
    ),
    integer("graceSeconds", "How long one may take to end; it settles within 20.", 30, least=25, most=3600),
    resources("Eight pushes need about 150 MiB.", cpu="100m", memory="192Mi", limit="1Gi"),
    *placement(),
)

AUDIT = section(
    "audit",
    "Where the workers export the audit to, as DICOM Audit Messages (PS3.15 A.5) over syslog and TLS (RFC 5425).",
    text("collector", "tls://host:port of the audit record repository. Empty: nowhere; the API answers it."),
    name(
        "secret",
        "Secret with ca.crt, which verifies it, and tls.crt and tls.key, which we show it. Needed with collector.",
        "Secret",
    ),
    text("source", "AuditSourceID: who we are in its records.", "aegate"),
    text("site", "AuditEnterpriseSiteID. Empty: none."),
)

MIGRATION = section(
    "migration",
    "The Job that brings the schema up and gives the roles their rights; pods wait for it.",
    resources("Requests and limits.", cpu="50m", memory="128Mi", limit="512Mi"),
)

RETENTION = section(
    "retention",
    "The CronJob that removes what may go by age (spec.retention of PatientPartitions). It has the owner's rights.",
    switch("enabled", "Whether to run it. Without it nothing is ever removed.", default=True),
    text("schedule", "When, as cron writes it; times are UTC.", "17 2 * * *", form="schedule"),
    resources("Requests and limits.", cpu="50m", memory="192Mi", limit="1Gi"),
)

CLUSTER = (
    switch(
        "adopt",
        "Take over the CRDs and the images' claim of another release that is gone; with helm's --take-ownership.",
    ),
    section(
        "crds",
        "The custom resource definitions. They are the cluster's: they stay when the release is uninstalled.",
        switch(
            "install",
            "Install and update them. False where another release, or a person, does.",
            default=True,
        ),
    ),
    section(
        "rbac",
        "Roles for people, added to Kubernetes' own view, edit and admin.",
        switch(
            "aggregate",
            "Whoever may view or edit a namespace may do so with AEs, routes and partitions.",
            default=True,
        ),
    ),
    section(
        "policies",
        "ValidatingAdmissionPolicies, whose parameters are AEPolicies.",
        switch("install", "Install them. Once a cluster."),
    ),
    section(
        "networkPolicies",
        "Who may reach the chart's own pods. Listeners have policies of their own, from their ApplicationEntity.",
        switch("enabled", "Whether to make them.", default=True),
        peers("apiFrom", "NetworkPolicyPeers that may reach the proxy of the API. Empty: everybody."),
    ),
    section(
        "podDisruptionBudgets",
        "A drain of nodes takes one pod of each kind at a time.",
        switch("enabled", "Whether to make them, where there are two pods or more.", default=True),
    ),
)

MONITORING = section(
    "monitoring",
    "Prometheus, its operator, and Grafana.",
    peers(
        "metricsFrom",
        "NetworkPolicyPeers that may read metrics, of listeners in whatever namespace too; without namespaceSelector: "
        "pods of the release's namespace. Empty: nobody else may.",
    ),
    section(
        "serviceMonitor",
        "PodMonitors of all processes, for the Prometheus operator.",
        switch("enabled", "Whether to make them."),
        labels("labels", "Labels that your Prometheus selects by."),
        text("interval", "How often to read.", "30s"),
    ),
    section(
        "prometheusRule",
        "Alerts, for the Prometheus operator.",
        switch("enabled", "Whether to make them."),
        labels("labels", "Labels that your Prometheus selects by."),
        text(
            "runbooks",
            "Where the pages are that the alerts' runbook_url leads to: a URL of docs/operations/runbooks in a copy of "
            "this repository that your people reach. By default their place in it.",
            "docs/operations/runbooks",
        ),
    ),
    section(
        "dashboard",
        "A Grafana dashboard in a ConfigMap, for Grafana's sidecar.",
        switch("enabled", "Whether to make it."),
        labels("labels", "Labels that the sidecar selects by.", {"grafana_dashboard": "1"}),
    ),
)

VALUES: tuple[Field | Section, ...] = (
    IMAGE,
    text(
        "title",
        "Our own AE title: what devices call us, and what we call with, where an AE names no other.",
        "AEGATE",
    ),
    texts("watchNamespaces", "Namespaces whose AEs this release serves. Empty: all of the cluster."),
    DATABASE,
    BLOBS,
    OPERATOR,
    LISTENER,
    POOLS,
    WORKER,
    AUDIT,
    API,
    MIGRATION,
    RETENTION,
    *CLUSTER,
    MONITORING,
)
