"""What a person gets wrong is answered in words: what was expected, what came, the next step."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.chart.rendering import GIVEN, refusal, render, sets, with_values

API = ("api.enabled=true", "api.tokensSecret=tokens")
PROXY = ("api.proxy.containers[0].name=proxy",)
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
    (("pools.a.sourceRanges={10.0.0.0}",), 'pools.a.sourceRanges must hold CIDRs such as 10.0.0.0/8, got "10.0.0.0"'),
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
    # The rest.
    (("retention.schedule=daily",), 'retention.schedule must have the five parts of cron'),
    (("monitoring.serviceMonitor.interval=30 s",), "monitoring.serviceMonitor.interval must be a duration such as 30s"),
    (("imagee.repository=x",), "additional properties 'imagee' not allowed"),
    (("listener.spool.sise=1Gi",), "'/listener/spool': additional properties 'sise' not allowed"),
    (("worker.resources.limit.memory=1Gi",), "'/worker/resources': additional properties 'limit' not allowed"),
]  # fmt: skip


@pytest.mark.parametrize(("values", "words"), WRONG, ids=[v[-1] for v, _ in WRONG])
def test_what_is_wrong_is_said(helm: Path, values: tuple[str, ...], words: str) -> None:
    said = refusal(helm, *sets(*GIVEN, *values))
    assert words in said
    assert "geheim" not in said


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
