"""Values of the chart that work, each for one way to run it."""

from __future__ import annotations

from typing import Any

CORE = {"url": "http://core:5001", "podLabels": {"app": "core"}}

INGRESS: dict[str, Any] = {"core": CORE, "redis": {"kind": "external"}}
BUNDLED: dict[str, Any] = {"core": CORE, "redis": {"kind": "bundled"}}
TRIAL: dict[str, Any] = {"core": CORE, "redis": {"kind": "memory"}, "replicas": 1}
SIDECAR: dict[str, Any] = {
    "form": "sidecar",
    "core": {"port": 5100, "podLabels": {"app": "core"}},
    "redis": {"kind": "bundled"},
}
EVERYTHING: dict[str, Any] = {
    "name": "front",
    "image": {
        "repository": "registry.example/blnk-gateway",
        "digest": "sha256:" + "0" * 64,
        "pullSecrets": [{"name": "registry"}],
    },
    "core": CORE
    | {
        "namespace": "core",
        "port": 5100,
        "database": True,
        "alsoAllow": [
            {"from": [{"podSelector": {"matchLabels": {"app": "prometheus"}}}], "ports": [{"port": 5004}]}
        ],
    },
    "redis": {"kind": "bundled", "bundled": {"storageClass": "fast", "storage": "2Gi"}},
    "restartOnChange": True,
    "settings": {
        "keys": {"authority": "core", "grace": "30s"},
        "limits": {"connections": 1000000, "rate": 200},
        "drain": {"timeout": "90500ms"},
        "trusted_proxies": ["10.0.0.0/8", "fd00::/8"],
    },
    "observe": True,
    "bindAddress": "[::]",
    "admin": {"enabled": True},
    "autoscaling": {"enabled": True},
    "spread": "required",
    "serviceAccountName": "gateway",
    "priorityClassName": "high",
    "nodeSelector": {"pool": "edge"},
    "tolerations": [{"key": "edge", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
    "podLabels": {"team": "ledger"},
    "podAnnotations": {"note": "none"},
    "extraEnv": [{"name": "SSL_CERT_FILE", "value": "/etc/core-ca/ca.pem"}],
    "extraVolumes": [{"name": "core-ca", "configMap": {"name": "core-ca"}}],
    "extraVolumeMounts": [{"name": "core-ca", "mountPath": "/etc/core-ca", "readOnly": True}],
    "service": {"type": "LoadBalancer", "annotations": {"cloud": "internal"}},
    "networkPolicy": {
        "clients": [{"podSelector": {"matchLabels": {"app": "client"}}}],
        "monitoring": [{"podSelector": {"matchLabels": {"app": "prometheus"}}}],
        "admin": [{"podSelector": {"matchLabels": {"app": "operator"}}}],
    },
    "ingress": {
        "enabled": True,
        "className": "nginx",
        "annotations": {"nginx.ingress.kubernetes.io/proxy-body-size": "256m"},
        "host": "ledger.example",
        "tlsSecret": "ledger-tls",
    },
    "httpRoute": {
        "enabled": True,
        "parentRefs": [{"name": "public", "sectionName": "https"}],
        "hostnames": ["ledger.example"],
    },
    "monitoring": {
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
    },
}
TLS: dict[str, Any] = {
    "core": {
        "url": "https://core:5001",
        "podLabels": {"app": "core"},
        "tls": {"ca": {"name": "core-ca", "key": "root.pem"}, "secret": "gateway-at-core"},
    },
    "redis": {"kind": "external"},
    "tls": {
        "secret": "gateway-tls",
        "listeners": ["listen", "admin", "health"],
        "clientCa": {"name": "clients", "key": "ca.crt"},
    },
    "admin": {"enabled": True},
    "monitoring": {
        "serviceMonitor": {
            "enabled": True,
            "tlsConfig": {"ca": {"secret": {"name": "gateway-tls", "key": "ca.crt"}}, "serverName": "ledger"},
        }
    },
}
AUDITED: dict[str, Any] = BUNDLED | {
    "auditShipper": {"enabled": True, "name": "siem", "podAnnotations": {"fluentbit.io/parser": "json"}},
    "nodeSelector": {"pool": "edge"},
}
SIDECAR_WITH_BOTH: dict[str, Any] = SIDECAR | {
    "redis": {"kind": "external"},
    "secrets": {"auditRedisUrl": {"name": "audit"}},
    "tls": {"secret": "gateway-tls"},
    "auditShipper": {"enabled": True},
    "extraVolumes": [{"name": "redis-ca", "configMap": {"name": "redis-ca"}}],
    "extraVolumeMounts": [{"name": "redis-ca", "mountPath": "/etc/redis-ca", "readOnly": True}],
}
MATRIX = {
    "ingress": INGRESS,
    "bundled": BUNDLED,
    "trial": TRIAL,
    "sidecar": SIDECAR,
    "everything": EVERYTHING,
    "tls": TLS,
    "audited": AUDITED,
    "sidecar with both": SIDECAR_WITH_BOTH,
}
