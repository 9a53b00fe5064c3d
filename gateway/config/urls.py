"""Parses the URLs of Core, of its database, of the key store and of the collector of traces."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import SplitResult, urlsplit

from gateway.config.values import BadValueError, Raw, text
from gateway.keys.redis.url import read_url

MEMORY_STORE: Final = "memory://"
"""The store of a trial: the memory of one process."""


def upstream_url(raw: Raw) -> str:
    """Return `http://host:port` or `https://host:port` without a path: targets are forwarded as received."""
    url = _http_url(raw)
    if url is None or url.path not in ("", "/"):
        raise BadValueError("write http://host:port or https://host:port, without a path or a password")
    return text(raw)


def collector_url(raw: Raw) -> str:
    """Return the URL of a collector, `http://` or `https://` with a path, without a password or a query."""
    url = _http_url(raw)
    if url is None or url.path in ("", "/"):
        raise BadValueError("write http://host:4318/v1/traces or https://, with a path, without a password")
    return text(raw)


def store_url(raw: Raw) -> str:
    """Return `memory://`, or the URL of a Redis, of its Sentinels or of a Cluster."""
    url = text(raw)
    if url == MEMORY_STORE:
        return url
    try:
        read_url(url)
    except ValueError as problem:
        raise BadValueError(f"{problem}; or memory:// for a trial") from None
    return url


def database_url(raw: Raw) -> str:
    """Return the URL of a PostgreSQL as libpq reads it, also with several hosts or with parameters."""
    if isinstance(raw, str) and _DATABASE.fullmatch(raw):
        return raw
    raise BadValueError("write postgres://user:password@host:5432/database")


_DATABASE = re.compile(r"postgres(?:ql)?://[!-.0->A-~]+@[!-.0->A-~]+/[!->@-~]+(?:\?[!-~]*)?")


def _http_url(raw: Raw) -> SplitResult | None:
    """Return the parts of an HTTP URL without a user, a password, a query or a fragment, else None."""
    try:
        url = text(raw)
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    plain = (
        re.fullmatch(r"[!-~]+", url)
        and parts.scheme in ("http", "https")
        and parts.hostname
        and port != 0
        and "@" not in parts.netloc
        and not parts.query
        and not parts.fragment
    )
    return parts if plain else None
