"""Every value of the chart: comment, default and form. The one source of values.yaml and values.schema.json."""

from __future__ import annotations

from tools.chart.fields import (
    Field,
    Section,
    choice,
    integer,
    labels,
    named,
    objects,
    placement,
    resources,
    section,
    switch,
    text,
    texts,
)

PROCESSES = ("worker", "api", "indexer", "operator")


IMAGE = section(
    "image",
    "The images. There is no default: they are built from this repository (images/) and pushed to a registry of yours.",
    text("repository", "Where they are, without a tag: registry.example.org/aegate. Must be given."),
    text("tag", "Their tag. Empty: the chart's appVersion."),
    section(
        "names",
        "What follows the repository after a slash, for each image. Empty: the repository itself is that image.",
        text("listener", "Receiver and indexer.", "scp"),
        text("worker", "Workers, retention, migration, and the pod of helm test.", "scu"),
        text("operator", "The operator.", "operator"),
        text("api", "The GraphQL API.", "graphql-api"),
    ),
    choice("pullPolicy", "When nodes pull them.", "IfNotPresent", "Always", "Never"),
    texts(
        "pullSecrets",
        "Secrets to pull with. Listeners use them too: they must be in every namespace that has AEs.",
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
        ),
        integer("user", "User id of postgres in that image.", 999, least=1),
        text("size", "Size of its volume.", "8Gi"),
        text("storageClassName", "StorageClass of its volume. Empty: the cluster's default."),
        resources("Requests and limits.", cpu="100m", memory="256Mi", limit="1Gi"),
    ),
)

BLOBS = section(
    "blobs",
    "Where the images received lie, written by listeners and read by workers on whatever nodes: a volume, or a bucket.",
    text(
        "claim",
        "PersistentVolumeClaim. Needed in every other namespace that has AEs, too, for the same storage.",
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
    text("size", "Its size.", "100Gi"),
    text("storageClassName", "Its StorageClass. Empty: the cluster's default."),
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
        text("size", "Size of each.", "20Gi"),
        text("storageClassName", "StorageClass. Empty: the cluster's default."),
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
    labels("serviceAnnotations", "Annotations of its Service, such as a load balancer asks for."),
    texts(
        "sourceRanges",
        "CIDRs that may reach it. Empty: everybody, and listeners admit by each AE's node alone.",
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
        text("secretName", "Secret with tls.crt and tls.key."),
        text("caSecretName", "Secret with ca.crt. Absent: the same."),
        choice("clientAuth", "Whether devices must show a certificate.", "Require", "Request", "None"),
    ),
    section(
        "spool",
        "Where acknowledged images lie until they are indexed.",
        choice("type", "EmptyDir: lost with the pod.", "PersistentVolumeClaim", "EmptyDir"),
        choice("accessMode", "ReadWriteOnce allows one pod.", "ReadWriteMany", "ReadWriteOnce"),
        text("size", "Its size."),
        text("storageClassName", "StorageClass. Empty: the cluster's default."),
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
    text(
        "tlsSecret",
        "Secret with tls.crt, tls.key and ca.crt: our identity where an AE has push.tls, and whom we trust.",
    ),
    integer("graceSeconds", "How long one may take to end; it settles within 20.", 30, least=25, most=3600),
    resources("Eight pushes need about 150 MiB.", cpu="100m", memory="192Mi", limit="1Gi"),
    *placement(),
)

AUDIT = section(
    "audit",
    "Where the workers export the audit to, as DICOM Audit Messages (PS3.15 A.5) over syslog and TLS (RFC 5425).",
    text("collector", "tls://host:port of the audit record repository. Empty: nowhere; the API answers it."),
    text(
        "secret",
        "Secret with ca.crt, which verifies it, and tls.crt and tls.key, which we show it. Needed with collector.",
    ),
    text("source", "AuditSourceID: who we are in its records.", "aegate"),
    text("site", "AuditEnterpriseSiteID. Empty: none."),
)

API = section(
    "api",
    "The GraphQL API. Local tokens never go beyond loopback; people of oidc or kubernetesTokens do, with tlsSecret.",
    switch("enabled", "Whether to run it."),
    integer("replicas", "How many.", 2, least=1, most=100),
    text(
        "tokensSecret",
        "Secret with the key tokens.json, as `aegate token create` writes it. Must be given without oidc and "
        "kubernetesTokens.",
    ),
    text(
        "tlsSecret",
        "Secret of type kubernetes.io/tls, with which the API itself serves people of oidc or kubernetesTokens on "
        "proxy.port. Empty: it listens on loopback.",
    ),
    section(
        "oidc",
        "An OpenID provider, whose bearer tokens count.",
        text("issuer", "Its URL, as its tokens name it. Empty: none."),
        text("audience", "What tokens must be made for. Must be given."),
        text(
            "mappingConfigMap",
            "ConfigMap with the key mapping.yaml, the rules from claims to permissions. Must be given.",
        ),
        text("caSecret", "Secret with ca.crt, the authority behind it. Empty: those that everybody trusts."),
        text(
            "clientId",
            "The public client as which web pages sign people in; /config.json tells it. Empty: none.",
        ),
        text("scopes", "What web pages ask for.", "openid"),
    ),
    section(
        "kubernetesTokens",
        "Tokens of this cluster: TokenReview says who it is, RBAC what they may do.",
        switch("enabled", "Whether they count."),
        text("audience", "What they must be made for.", "aegate.dev"),
    ),
    section(
        "limits",
        "What one caller may use of one replica. A refusal says the limit and what was used.",
        integer(
            "operationSeconds",
            "How long an operation may take; then its SQL is cancelled.",
            20,
            least=1,
            most=3600,
        ),
        integer(
            "rate",
            "Cost that a caller may use a second, twice as much at once, as docs/api/limits.md counts it. 0: any.",
            1_000_000,
            most=1_000_000_000,
        ),
        integer("atOnce", "Operations of one caller that may run at the same time.", 50, least=1, most=500),
    ),
    section(
        "documents",
        "Trusted documents: operations that are asked for by the SHA-256 of their text.",
        text(
            "configMap", "ConfigMap whose keys end with .graphql, one document each. Empty: there are none."
        ),
        switch("only", "Refuse every other document, and do not tell the schema. Needs configMap."),
    ),
    switch(
        "fastLists",
        "Answer lists of plain fields by generated code, at half the processor time. false: as GraphQL's own executor.",
        default=True,
    ),
    section(
        "traces",
        "OpenTelemetry traces of operations and of their SQL; no patient data is in them.",
        text("endpoint", "OTLP over HTTP of a collector: http://collector.monitoring:4318. Empty: none."),
        text(
            "headersSecret",
            "Secret with the key headers, such as authorization=Bearer%20TOKEN, for the collector. Empty: none.",
        ),
        integer("percent", "How many of the operations, but for those that a caller traces.", 100, most=100),
    ),
    texts(
        "origins",
        "Origins of web pages that browsers may let ask, other than the API's own: https://viewer.example.org.",
    ),
    section(
        "proxy",
        "A container of yours beside the API, with a sign-in of its own, that passes on to 127.0.0.1:8080.",
        objects("containers", "The container. Empty: the API is reached by kubectl port-forward alone."),
        integer("port", "Port that it listens on; the Service leads there.", 8443, least=1024),
        objects("volumes", "Volumes that it mounts."),
    ),
    section(
        "ingress",
        "An Ingress to the proxy.",
        switch("enabled", "Whether to make it."),
        text("className", "IngressClass. Empty: the cluster's default."),
        text("host", "Host name. Must be given."),
        text("tlsSecret", "Secret of type kubernetes.io/tls. Must be given: answers are patient data."),
        labels(
            "annotations",
            "By default the time-outs of ingress-nginx that WebSocket and server-sent events need.",
            {
                "nginx.ingress.kubernetes.io/proxy-read-timeout": "3600",
                "nginx.ingress.kubernetes.io/proxy-send-timeout": "3600",
                "nginx.ingress.kubernetes.io/proxy-buffering": "off",
            },
        ),
    ),
    section(
        "httpRoute",
        "An HTTPRoute of the Gateway API to the proxy. TLS ends at the Gateway's listener.",
        switch("enabled", "Whether to make it."),
        objects("parentRefs", "The Gateways, with sectionName of a listener that has TLS. Must be given."),
        texts("hostnames", "Host names. Must be given."),
    ),
    resources("Requests and limits.", cpu="50m", memory="128Mi", limit="512Mi"),
    *placement(),
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
    text("schedule", "When, as cron writes it; times are UTC.", "17 2 * * *"),
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
        objects("apiFrom", "NetworkPolicyPeers that may reach the proxy of the API. Empty: everybody."),
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
    objects(
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
