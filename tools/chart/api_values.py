"""The chart's values of the GraphQL API: how many, whom it believes, how it is reached."""

from __future__ import annotations

from tools.chart.fields import integer, labels, name, resources, section, switch, text, texts
from tools.chart.kubernetes import objects, parent_refs, placement

API = section(
    "api",
    "The GraphQL API. Local tokens never go beyond loopback; people of oidc or kubernetesTokens do, with tlsSecret.",
    switch("enabled", "Whether to run it."),
    integer("replicas", "How many.", 2, least=1, most=100),
    name(
        "tokensSecret",
        "Secret with the key tokens.json, as `aegate token create` writes it. Must be given without oidc and "
        "kubernetesTokens.",
        "Secret",
    ),
    name(
        "tlsSecret",
        "Secret of type kubernetes.io/tls, with which the API itself serves people of oidc or kubernetesTokens on "
        "proxy.port. Empty: it listens on loopback.",
        "Secret",
    ),
    section(
        "oidc",
        "An OpenID provider, whose bearer tokens count.",
        text("issuer", "Its URL, as its tokens name it. Empty: none."),
        text("audience", "What tokens must be made for. Must be given."),
        name(
            "mappingConfigMap",
            "ConfigMap with the key mapping.yaml, the rules from claims to permissions. Must be given.",
            "ConfigMap",
        ),
        name(
            "caSecret",
            "Secret with ca.crt, the authority behind it. Empty: those that everybody trusts.",
            "Secret",
        ),
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
        name(
            "configMap",
            "ConfigMap whose keys end with .graphql, one document each. Empty: there are none.",
            "ConfigMap",
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
        name(
            "headersSecret",
            "Secret with the key headers, such as authorization=Bearer%20TOKEN, for the collector. Empty: none.",
            "Secret",
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
        name("className", "IngressClass. Empty: the cluster's default.", "IngressClass"),
        text("host", "Host name. Must be given.", form="host name"),
        name(
            "tlsSecret",
            "Secret of type kubernetes.io/tls. Must be given: answers are patient data.",
            "Secret",
        ),
        labels(
            "annotations",
            "By default the time-outs of ingress-nginx that WebSocket and server-sent events need.",
            {
                "nginx.ingress.kubernetes.io/proxy-read-timeout": "3600",
                "nginx.ingress.kubernetes.io/proxy-send-timeout": "3600",
                "nginx.ingress.kubernetes.io/proxy-buffering": "off",
            },
            form="",
        ),
    ),
    section(
        "httpRoute",
        "An HTTPRoute of the Gateway API to the proxy. TLS ends at the Gateway's listener.",
        switch("enabled", "Whether to make it."),
        parent_refs(
            "parentRefs", "The Gateways, with sectionName of a listener that has TLS. Must be given."
        ),
        texts("hostnames", "Host names. Must be given.", form="host name"),
    ),
    resources("Requests and limits.", cpu="50m", memory="128Mi", limit="512Mi"),
    *placement(),
)
