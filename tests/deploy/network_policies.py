"""Decides which connections NetworkPolicies allow, as Kubernetes defines it.

Rules kept here:
- A pod that no policy for ingress selects accepts everything. Policies add up: one rule that allows a
  connection is enough (kubernetes.io, "Network Policies", "The two sorts of pod isolation").
- Selectors select pods only, never an address outside of the cluster.
- A form of selector that the chart does not use is an error, not a guess.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any

Policy = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod; a host outside of the cluster has no namespace."""

    namespace: str
    labels: Mapping[str, str]
    address: str = "10.1.2.3"


def accepts(policies: Iterable[Policy], target: Pod, port: int, source: Pod) -> bool:
    """Return whether `target` accepts a TCP connection of `source` to this port."""
    selecting = [
        policy
        for policy in policies
        if policy["metadata"]["namespace"] == target.namespace
        and "Ingress" in policy["spec"]["policyTypes"]
        and _selects(policy["spec"]["podSelector"], target.labels)
    ]
    return not selecting or any(
        _has_port(rule, port) and _has_peer(rule, policy["metadata"]["namespace"], source)
        for policy in selecting
        for rule in policy["spec"].get("ingress", [])
    )


def _has_port(rule: Mapping[str, Any], port: int) -> bool:
    ports = rule.get("ports", [])
    return not ports or any(one.get("protocol", "TCP") == "TCP" and one["port"] == port for one in ports)


def _has_peer(rule: Mapping[str, Any], namespace: str, source: Pod) -> bool:
    peers = rule.get("from", [])
    return not peers or any(_is_peer(peer, namespace, source) for peer in peers)


def _is_peer(peer: Mapping[str, Any], namespace: str, source: Pod) -> bool:
    if "ipBlock" in peer:
        return ip_address(source.address) in ip_network(peer["ipBlock"]["cidr"])
    if not source.namespace:
        return False
    if "namespaceSelector" in peer:
        named = {"kubernetes.io/metadata.name": source.namespace}
        here = _selects(peer["namespaceSelector"], named)
    else:
        here = source.namespace == namespace
    return here and _selects(peer.get("podSelector", {}), source.labels)


def _selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    if selector.keys() - {"matchLabels"}:
        raise NotImplementedError(f"a selector with {sorted(selector)}")
    wanted: Mapping[str, str] = selector.get("matchLabels", {})
    return wanted.items() <= labels.items()
