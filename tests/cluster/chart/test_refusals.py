"""What a person gets wrong is answered in words: what was expected, what came, the next step."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.chart.rendering import GIVEN, refusal, render, sets, with_values

API = ("api.enabled=true", "api.tokensSecret=tokens")
PROXY = ("api.proxy.containers[0].name=proxy",)
PEER, TAINT = "monitoring.metricsFrom[0]", "worker.tolerations[0]"
WRONG = [
    # Images.
    (("image.repository=",), "image.repository must say where the images are"),
    (("image.repository=",), "make images TAG="),
    (("image.repository=r/a:1",), "image.repository must have no tag or digest, got r/a:1: put the tag into image.tag"),
    (("image.repository=r/a@sha256:00",), "image.repository must have no tag or digest"),
    (("image.repository=https://r/a",), "image.repository must be as an image names it, got https://r/a: leave out https://"),
    (("image.repository=r/Aegate",), "image.repository must be lower case, got r/Aegate"),
    (("image.pullPolicy=Sometimes",), "'/image/pullPolicy': value must be one of 'IfNotPresent', 'Always', 'Never'"),
    # Who we are, and where.
    (("title=SEVENTEEN_LETTERS",), 'title must be an AE title: 1 to 16 ASCII characters'),
    (("title=",), "got 0 in"),
    (("title=A\\\\B",), "without backslash"),
    (("title=KLINIKUM_MÜN",), "title must be an AE title"),
    (("watchNamespaces={Radiology}",), 'watchNamespaces must hold names of namespaces, got "Radiology"'),
    (("watchNamespaces={rad-*}",), "a pattern is not possible"),
    (("watchNamespaces={a,a}",), "watchNamespaces must name each namespace once, got a, a"),
    (("watchNamespaces=a",), "'/watchNamespaces': got string, want array"),
    # The database.
    (("database.secrets.api=postgres://u:geheim@h/d",), "the name of a Secret with the key dsn, got a DSN"),
    (("database.secrets.api=",), 'database.secrets.api must be the name of a Secret with the key dsn, got ""'),
    (("database.secrets.api=aegate-database-owner",), "a Secret of its own for each role, got one twice"),
    (("database.roles.api=aegate_worker",), "a role of its own for each process, got one twice"),
    (("database.roles.api=",), "database.roles.api must be a role of the database, 1 to 63 characters"),
    (("database.roles.api=a=b",), "without = and comma"),
    (("database.trial.enabled=true",), "must have 16 characters or more, got 0: --set database.trial.pass"),
    # Volumes.
    (("blobs.size=100GB",), 'blobs.size must be a quantity such as 100Gi, got "100GB"'),
    (("blobs.size=-1Gi",), 'blobs.size must be a quantity such as 100Gi, got "-1Gi"'),
    (("blobs.size=0",), "'/blobs/size': got number, want string"),
    (("pools.a.spool.size=5GB",), 'pools.a.spool.size must be a quantity such as 100Gi, got "5GB"'),
    (("listener.spool.size=big",), 'listener.spool.size must be a quantity such as 100Gi, got "big"'),
    (("database.trial.size=",), 'database.trial.size must be a quantity'),
    (("blobs.claim=My Claim",), 'blobs.claim must be the name of a PersistentVolumeClaim, got "My Claim"'),
    (("blobs.accessMode=ReadWriteOncePod",), "value must be one of 'ReadWriteMany', 'ReadWriteOnce'"),
    # The bucket.
    (("blobs.s3.endpoint=https://s3:9000",), "blobs.s3.bucket must name the bucket, got none beside"),
    (("blobs.s3.bucket=s3://images/pacs",), 'digits, - and dots, got "s3://images/pacs": leave out s3://'),
    (("blobs.s3.bucket=Images",), 'blobs.s3.bucket must be the name of a bucket'),
    (("blobs.s3.bucket=images", "blobs.s3.endpoint=s3:9000"), 'must be a server such as https://s3.example.org:9000'),
    (("blobs.s3.bucket=images", "blobs.s3.endpoint=https://h/images"), "no path, no bucket, no user"),
    (("blobs.s3.bucket=images", "blobs.s3.endpoint=https://u:geheim@h"), "no path, no bucket, no user"),
    (("blobs.s3.bucket=images", "blobs.s3.prefix=/pacs"), 'blobs.s3.prefix must be such as images/, got "/pacs"'),
    (("blobs.s3.bucket=images", "blobs.s3.region="), "take us-east-1 where the server knows no regions"),
    (("blobs.s3.bucket=images", "blobs.s3.secret="), "got none: kubectl create secret generic NAME --from-literal=acc"),
    (("blobs.s3.bucket=images", "blobs.s3.secret=AKIA/geheim"), "got another text: kubectl create secret generic NAME"),
    (("blobs.s3.bucket=images", "blobs.s3.scratchMiB=9000"), "at least twice blobs.s3.scratchMiB, got 16384 and 9000"),
    (("blobs.s3.bucket=images", "blobs.s3.scratchMiB=63"), "'/blobs/s3/scratchMiB': minimum: got 63, want 64"),
    (("blobs.s3.bucket=images", "blobs.s3.secretKey=geheim"), "additional properties 'secretKey' not allowed"),
    # Listeners.
    (("listener.replicas=2", "listener.spool.accessMode=ReadWriteOnce"), "listener.replicas must be 1 with"),
    (("listener.graceSeconds=5",), "listener.preStopSeconds must be below listener.graceSeconds, got 5 and 5"),
    (("listener.host=127.0.0.1",), 'listener.host must be 0.0.0.0, or :: on clusters with IPv6, got "127.0.0.1"'),
    (("listener.serviceType=Loadbalancer",), "value must be one of 'ClusterIP', 'NodePort', 'LoadBalancer'"),
    (("listener.port=70000",), "'/listener/port': maximum: got 70,000, want 65,535"),
    (("listener.replicas=two",), "'/listener/replicas': got string, want integer"),
    (("worker.graceSeconds=10",), "'/worker/graceSeconds': minimum: got 10, want 25"),
    # Pools.
    (("pools.a.replicas=2", "pools.a.spool.accessMode=ReadWriteOnce"), "pools.a.replicas must be 1 with spool.access"),
    (("pools.a.graceSeconds=5",), "pools.a.graceSeconds must be above listener.preStopSeconds, got 5 and 5"),
    (("pools.a.tls.clientAuth=None",), "pools.a.tls.secretName must name a Secret with tls.crt and tls.key, got none"),
    (("pools.a.tls.secretName=",), "pools.a.tls.secretName must name a Secret with tls.crt and tls.key, got none"),
    (("pools.a.nodePort=30001",), "pools.a.nodePort needs serviceType NodePort or LoadBalancer, got ClusterIP"),
    (("pools.a.shares=16", "watchNamespaces={x}"), "pools need pacs among watchNamespaces, got x"),
    (("pools.a.sharess=16",), "'/pools/a': additional properties 'sharess' not allowed"),
    (("pools.A.shares=16",), 'pools must have names of 1 to 30 lower case letters, digits and -, got "A"'),
    # The API.
    ((*API, "api.documents.only=true"), "api.documents.only needs api.documents.configMap, got none"),
    ((*API, "api.origins={https://*.example.org}"), "got https://*.example.org: correct it"),
    ((*API, "api.traces.endpoint=collector:4318"), "api.traces.endpoint must be the URL of OTLP over HTTP"),
    ((*API, "api.traces.headersSecret=s"), "api.traces.headersSecret needs api.traces.endpoint, got none"),
    ((*API, "api.limits.atOnce=0"), "'/api/limits/atOnce': minimum: got 0, want 1"),
    (("api.enabled=true",), "api.tokensSecret must name a Secret with the key tokens.json: aegate token create NAME"),
    ((*API, "api.ingress.enabled=true"), "needs api.proxy.containers, got none: the API knows"),
    (("api.ingress.enabled=true",), "api.ingress.enabled needs api.enabled, got false"),
    ((*API, *PROXY, "api.ingress.enabled=true", "api.ingress.host=h"), "api.ingress.tlsSecret must name a Secret"),
    ((*API, *PROXY, "api.ingress.enabled=true", "api.ingress.tlsSecret=t"), "api.ingress.host must be the host name"),
    (("audit.collector=udp://audit:514", "audit.secret=s"), "audit.collector must be tls://host:port"),
    (("audit.collector=tls://audit:6514",), "audit.secret must name a Secret with ca.crt, tls.crt and tls.key"),
    ((*API, *PROXY, "api.httpRoute.enabled=true"), "api.httpRoute.parentRefs must name a Gateway, got none"),
    ((*API, *PROXY, "api.httpRoute.enabled=true", "api.httpRoute.parentRefs[0].name=g"), 'got no sectionName for "g"'),
    ((*API, *PROXY, "api.httpRoute.enabled=true"), "api.httpRoute.hostnames must hold the host name"),
    ((*API, *PROXY, "api.proxy.port=8080"), "api.proxy.port must be another than 8080"),
    ((*API, *PROXY, "api.proxy.port=8081"), "and 8081, its metrics': choose another"),
    ((*API, *PROXY, "api.proxy.containers[1].name=two"), "api.proxy.containers must hold one container, got 2"),
    ((*API, "api.tlsSecret=t"), "api.tlsSecret needs api.oidc or api.kubernetesTokens, got neither"),
    ((*API, *PROXY, "api.tlsSecret=t", "api.kubernetesTokens.enabled=true"), "two ways to the same port, got both"),
    ((*API, "api.oidc.issuer=http://x"), 'api.oidc.issuer must be an https URL, got "http://x"'),
    ((*API, "api.oidc.issuer=https://x"), "api.oidc.audience must be given with api.oidc.issuer"),
    ((*API, "api.oidc.issuer=https://x"), "api.oidc.mappingConfigMap must be given with api.oidc.issuer"),
    # Objects of Kubernetes.
    ((f"{PEER}.ipBlock.cidr=10.0.0.0/8", f"{PEER}.podSelector.matchLabels.a=b"),
     "monitoring.metricsFrom[0] must be an ipBlock alone, or a podSelector, a namespaceSelector or both, got ipBlock"),
    ((f"{PEER}.ipBlock.cidr=10.0.0.0/8", f"{PEER}.ipBlock.except[0]=10.0/8"),
     'monitoring.metricsFrom[0].ipBlock.except[0] must be a CIDR such as 10.0.0.0/8, got "10.0/8"'),
    (("listener.tolerations[0].operator=Equal",), "listener.tolerations[0] must have a key, or operator Exists, got"),
    ((f"{TAINT}.value=a",), "worker.tolerations[0] must have a key, or operator Exists, got neither"),
    ((f"{TAINT}.value=a", f"{TAINT}.operator=Exists"), "worker.tolerations[0].value goes with operator Equal, got"),
    ((f"{TAINT}.key=a", f"{TAINT}.tolerationSeconds=5"), "tolerationSeconds goes with effect NoExecute, got none"),
    # The rest.
    (("monitoring.serviceMonitor.interval=30 s",), "monitoring.serviceMonitor.interval must be a duration such as 30s"),
    (("imagee.repository=x",), "additional properties 'imagee' not allowed"),
    (("listener.spool.sise=1Gi",), "'/listener/spool': additional properties 'sise' not allowed"),
    (("worker.resources.limit.memory=1Gi",), "'/worker/resources': additional properties 'limit' not allowed"),
]  # fmt: skip

FORMS = [
    # Quantities.
    ("listener.receiver.resources.limits.memory=512MB", 'must be a quantity such as 500m or 512Mi, got "512MB"'),
    ("listener.indexer.resources.requests.cpu=one", 'must be a quantity such as 500m or 512Mi, got "one"'),
    ("pools.a.receiver.resources.limits.memory=1GB", 'must be a quantity such as 500m or 512Mi, got "1GB"'),
    ("worker.resources.limits.memory=1GB", 'must be a quantity such as 500m or 512Mi, got "1GB"'),
    ("worker.resources.limits.memory=", 'must be a quantity such as 500m or 512Mi, got ""'),
    ("worker.resources.requests.cpu=-1", 'must be a quantity such as 500m or 512Mi, got "-1"'),
    # Images.
    ("image.tag=my tag", 'must be a tag such as 1.2.3, got "my tag"'),
    ("image.tag=a/b", 'must be a tag such as 1.2.3, got "a/b"'),
    ("image.names.worker=Scu X", 'must be the name of an image such as scu, got "Scu X"'),
    ("image.repository=my registry/aegate", 'must be such as registry.example.org/aegate, got "my registry/aegate"'),
    ("database.trial.image=Postgres 17", 'must be an image such as postgres:17, got "Postgres 17"'),
    # Names of objects. What is no name of a Secret may be what belongs into one: it is not said.
    ("image.pullSecrets[0]=My Secret", "must be the name of a Secret, got another text: lower case letters, digits"),
    ("worker.tlsSecret=My Secret", "must be the name of a Secret, got another text"),
    ("audit.secret=My Secret", "must be the name of a Secret, got another text"),
    ("api.tokensSecret=To Kens", "must be the name of a Secret, got another text"),
    ("api.tlsSecret=T T", "must be the name of a Secret, got another text"),
    ("api.oidc.caSecret=T T", "must be the name of a Secret, got another text"),
    ("api.traces.headersSecret=Authorization: geheim", "must be the name of a Secret, got another text"),
    ("api.ingress.tlsSecret=T T", "must be the name of a Secret, got another text"),
    ("pools.a.tls.secretName=T T", "must be the name of a Secret, got another text"),
    ("pools.a.tls.caSecretName=T T", "must be the name of a Secret, got another text"),
    ("api.oidc.mappingConfigMap=a..b", 'must be the name of a ConfigMap, got "a..b"'),
    ("api.documents.configMap=A", 'must be the name of a ConfigMap, got "A"'),
    ("listener.spool.storageClassName=Fast Disk", 'must be the name of a StorageClass, got "Fast Disk"'),
    ("pools.a.spool.storageClassName=Fast Disk", 'must be the name of a StorageClass, got "Fast Disk"'),
    ("blobs.storageClassName=Fast Disk", 'must be the name of a StorageClass, got "Fast Disk"'),
    ("database.trial.storageClassName=-a", 'must be the name of a StorageClass, got "-a"'),
    ("worker.priorityClassName=High Prio", 'must be the name of a PriorityClass, got "High Prio"'),
    ("listener.priorityClassName=High Prio", 'must be the name of a PriorityClass, got "High Prio"'),
    ("api.ingress.className=Nginx", 'must be the name of an IngressClass, got "Nginx"'),
    ("listener.nodeSelector.zone=a b", 'must be the value of a label, got "a b"'),
    # Schedules.
    ("retention.schedule=daily", 'must be the five parts of cron such as 17 2 * * *, or @daily, got "daily"'),
    ("retention.schedule=@dayly", 'must be the five parts of cron such as 17 2 * * *, or @daily, got "@dayly"'),
    ("retention.schedule=99 99 99 99 99", "must be the five parts of cron"),
    ("retention.schedule=17 2 * * 7", "must be the five parts of cron"),
    ("retention.schedule=", "must be the five parts of cron"),
    # Networks.
    ("pools.a.sourceRanges[0]=10.0.0.0/99", 'must be a CIDR such as 10.0.0.0/8, got "10.0.0.0/99"'),
    ("pools.a.sourceRanges[0]=999.0.0.0/8", 'must be a CIDR such as 10.0.0.0/8, got "999.0.0.0/8"'),
    ("pools.a.sourceRanges[0]=fd00::1::/64", 'must be a CIDR such as 10.0.0.0/8, got "fd00::1::/64"'),
    ("pools.a.sourceRanges[0]=10.0.0.0", 'must be a CIDR such as 10.0.0.0/8, got "10.0.0.0"'),
    ("monitoring.metricsFrom[0].ipBlock.cidr=10.0.0.0/99", 'must be a CIDR such as 10.0.0.0/8, got "10.0.0.0/99"'),
    ("api.ingress.host=https://x/y", 'must be a host name such as aegate.example.org, got "https://x/y"'),
    ("api.ingress.host=10.0.0.1", 'must be a host name such as aegate.example.org, got "10.0.0.1"'),
    ("api.httpRoute.hostnames[0]=a b", 'must be a host name such as aegate.example.org, got "a b"'),
]  # fmt: skip
CLOSED = [
    ("networkPolicies.apiFrom[0].cidr=10.0.0.0/8", "'/networkPolicies/apiFrom/0': additional properties 'cidr' not"),
    ("monitoring.metricsFrom[0].podSelektor.matchLabels.a=b", "additional properties 'podSelektor' not allowed"),
    ("monitoring.metricsFrom[0].podSelector.app=b", "additional properties 'app' not allowed"),
    ("monitoring.metricsFrom[0].ipBlock.except[0]=10.0.0.0/8", "missing property 'cidr'"),
    ("worker.tolerations[0].operater=Exists", "'/worker/tolerations/0': additional properties 'operater' not allowed"),
    ("listener.tolerations[0].effect=NoShedule", "value must be one of 'NoSchedule', 'PreferNoSchedule', 'NoExecute'"),
    ("api.httpRoute.parentRefs[0].sektionName=x", "additional properties 'sektionName' not allowed"),
    ("worker.resources.limits.memroy=1Gi", "'/worker/resources/limits': additional properties 'memroy' not allowed"),
]  # fmt: skip
VALID = [
    *(f"worker.resources.limits.memory={q}" for q in ("1.5Gi", "1e9", "1E3", "0", ".5Gi", "5.Gi", "+1Gi", "512M")),
    *(f"worker.resources.requests.cpu={q}" for q in ("500m", "1", "0.5", "100000u")),
    *(f"worker.resources.limits.{name}=1" for name in ("ephemeral-storage", "hugepages-2Mi", r"example\.org/gpu")),
    "blobs.size=1e12", "blobs.size=0.5Ti", "listener.spool.storageClassName=", "pools.a.spool.size=",
    "image.tag=v1.2.3-rc.1_a", "image.names.worker=", "image.names.worker=team/aegate__scu",
    "image.repository=localhost:5000/aegate", "image.repository=a/b_c/d", "database.trial.image=localhost:5000/p/q:1",
    f"database.trial.image=postgres@sha256:{'0' * 64}", "worker.tlsSecret=a.b-c.d", "worker.priorityClassName=",
    *(f"retention.schedule={s}" for s in ("@daily", "@every 1h30m", "*/5 0-6 1\\,15 jan-MAR MON", "0 0 ? * 0")),
    *(f"pools.a.sourceRanges={{{c}}}" for c in ("10.1.2.3/8", "0.0.0.0/0", "::/0", "fd00::/8", "2001:db8::1/128")),
    "pools.a.sourceRanges={1:2:3:4:5:6:7:8/64}", "api.ingress.host=*.example.org", "api.ingress.host=pacs.1st",
    "worker.tolerations[0].operator=Exists", "worker.nodeSelector.zone=",
    "monitoring.metricsFrom[0].podSelector.matchLabels.a=b",
    "monitoring.metricsFrom[0].ipBlock.cidr=10.0.0.0/8",
]  # fmt: skip


@pytest.mark.parametrize(("values", "words"), WRONG, ids=[v[-1] for v, _ in WRONG])
def test_what_is_wrong_is_said(helm: Path, values: tuple[str, ...], words: str) -> None:
    said = refusal(helm, *sets(*GIVEN, *values))
    assert words in said
    assert "geheim" not in said


@pytest.mark.parametrize(("value", "words"), FORMS, ids=[value for value, _ in FORMS])
def test_a_value_of_another_form_is_said(helm: Path, value: str, words: str) -> None:
    said = refusal(helm, *sets(*GIVEN, value))
    path = value.partition("=")[0]
    assert f"- {path} {words}" in said
    assert "geheim" not in said


@pytest.mark.parametrize(("value", "words"), CLOSED, ids=[value for value, _ in CLOSED])
def test_an_object_of_kubernetes_is_closed_too(helm: Path, value: str, words: str) -> None:
    assert words in refusal(helm, *sets(*GIVEN, value))


def test_a_peer_that_names_nobody_is_said(helm: Path) -> None:
    """In a NetworkPolicy it would be refused; `{}` as a selector is everybody."""
    given = (*sets(*GIVEN), "--set-json")
    assert "monitoring.metricsFrom[0] must be an ipBlock alone" in refusal(
        helm, *given, "monitoring.metricsFrom=[{}]"
    )
    assert render(helm, *given, 'monitoring.metricsFrom=[{"namespaceSelector":{}}]')


@pytest.mark.parametrize("value", VALID)
def test_a_value_of_a_rarer_form_is_taken(helm: Path, value: str) -> None:
    assert render(helm, *sets(*GIVEN, value))


def test_a_pool_and_a_release_with_too_long_a_name_together(helm: Path) -> None:
    name, release = "p" * 30, "hospital-of-the-northern-county"
    said = refusal(helm, *sets(*GIVEN, f"pools.{name}.shares=4"), release=release)
    assert f"pools.{name} has too long a name beside release {release}" in said


def test_all_that_is_wrong_is_said_at_once(helm: Path) -> None:
    said = refusal(helm, *sets("title=", "blobs.size=x", "api.enabled=true"))
    for words in ("image.repository must", "title must", "blobs.size must", "api.tokensSecret must"):
        assert words in said


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (("monitoring.serviceMonitor.enabled=true",), "this cluster does not know monitoring.coreos.com/v1"),
        (
            ("monitoring.prometheusRule.enabled=true",),
            "install it first; for helm template add --api-versions",
        ),
        (
            (*API, *PROXY, "api.httpRoute.enabled=true"),
            "this cluster does not know gateway.networking.k8s.io/v1",
        ),
    ],
)
def test_kinds_that_the_cluster_does_not_know_are_asked_for(
    helm: Path, values: tuple[str, ...], words: str
) -> None:
    assert words in refusal(helm, *sets(*GIVEN, *values), known=())


def test_an_old_kubernetes_is_refused_with_the_version_that_is_needed(helm: Path) -> None:
    said = refusal(helm, *sets(*GIVEN), kubernetes="1.31.9")
    assert "requires kubeVersion: >=1.32.0-0 which is incompatible with Kubernetes v1.31.9" in said
    assert render(helm, *sets(*GIVEN), kubernetes="1.32.0-gke.100")


def test_a_password_of_any_characters_reaches_the_dsn(helm: Path) -> None:
    trial = (*with_values("namespaced"), "--set-literal", "database.trial.password=p@ss w/o:rd'\"%2B+")
    assert (
        "postgres://aegate_api:p%40ss%20w%2Fo%3Ard%27%22%252B%2B@aegate-trial-database.pacs.svc:5432/aegate"
        in render(helm, *trial)
    )
