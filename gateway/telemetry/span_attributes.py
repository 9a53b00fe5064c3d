"""Names and attributes of spans, by OpenTelemetry's stable conventions for HTTP. Pure.

Rules kept here:
- A span holds what the gateway knows: names of routes, ids of keys, codes. What a client writes as it likes
  (`User-Agent`, `Host`, an unknown method, the path) stays in the log of the gateway: a collector may be
  another company's. Of a listed route, too, a path may hold a key where the route has a parameter.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from gateway.telemetry.access_log import AccessEntry
from gateway.telemetry.request_counts import KNOWN_METHODS

Attributes = dict[str, str | int]

_CUT: Final = "connection_cut"


def method_of(entry: AccessEntry) -> str:
    """Return the method for the name of a span."""
    return entry.method if entry.method in KNOWN_METHODS else "HTTP"


def name_of(entry: AccessEntry) -> str:
    """Return the name of the span of a request: its route, or its method if it has none."""
    return entry.route or method_of(entry)


def _request_attributes(entry: AccessEntry) -> Attributes:
    """Return what both spans have: stable attributes of OpenTelemetry's conventions for HTTP."""
    attributes: Attributes = {
        "http.request.method": entry.method if entry.method in KNOWN_METHODS else "_OTHER"
    }
    if entry.status:
        attributes["http.response.status_code"] = entry.status
    return attributes


def own_attributes(entry: AccessEntry, scheme: str) -> Attributes:
    """Return the attributes of the span of a request, which came with this scheme."""
    attributes = _request_attributes(entry)
    attributes["url.scheme"] = "https" if scheme == "https" else "http"
    attributes["client.address"] = entry.client
    attributes["blnk.request_id"] = entry.request_id
    if entry.route:
        attributes["http.route"] = entry.route.partition(" ")[2]
    for name, value in (
        ("blnk.key_id", entry.key_id),
        ("blnk.decision", entry.decision),
        ("blnk.code", entry.code or entry.would_code),
    ):
        if value:
            attributes[name] = value
    return attributes


def exchange_attributes(entry: AccessEntry) -> Attributes:
    """Return the attributes of the exchange with Core."""
    attributes = _request_attributes(entry)
    if entry.answered_by != "core":
        # The status is that of the gateway's own response.
        attributes.pop("http.response.status_code", None)
    return attributes


def core_attributes(upstream: str) -> Attributes:
    """Return the attributes that each exchange with Core at this URL has."""
    url = urlsplit(upstream)
    port = url.port or (443 if url.scheme == "https" else 80)
    return {"server.address": url.hostname or "", "server.port": port}


def error_of(entry: AccessEntry) -> str:
    """Return the type of a failure: the gateway's code, Core's status, or that the connection broke."""
    return entry.code or str(entry.status or _CUT)
