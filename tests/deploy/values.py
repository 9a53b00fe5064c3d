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
MATRIX = {
    "ingress": INGRESS,
    "bundled": BUNDLED,
    "trial": TRIAL,
    "sidecar": SIDECAR,
    "everything": EVERYTHING,
}
