"""Read the URL of a Redis: which peers are asked for the primary, how, and as which user.

Rules kept here:
- `redis://`, and `rediss://` over TLS; `+sentinel` names Sentinels and the service that they watch,
  `+cluster` names some nodes of a Cluster.
- A part that is not understood is refused. No text raised here repeats the URL, whose password is a secret.
"""

from __future__ import annotations

import enum
import ipaddress
import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, unquote

TLS_OPTIONS: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
SENTINEL_OPTIONS: Final = ("sentinel_username", "sentinel_password")

_URL: Final = re.compile(
    r"(?P<scheme>rediss?)(?P<kind>\+sentinel|\+cluster)?://"
    r"(?:(?P<user>[^:/?#\[\]]*)(?::(?P<password>[^/?#\[\]]*))?@)?"
    r"(?P<hosts>[^@/?#]+)(?P<path>/[^?#]*)?(?:\?(?P<query>[^#]*))?",
    re.ASCII,
)
_HOST: Final = re.compile(
    r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9_.-]+))(?::(?P<port>[0-9]{1,5}))?", re.ASCII
)
_DATABASE: Final = re.compile("[0-9]{1,4}", re.ASCII)

_FORMS: Final = (
    "write redis://user:password@host:6379/0, rediss:// for TLS, redis+sentinel://host,host/NAME/0 or "
    "redis+cluster://host,host"
)

Place = tuple[str, int]
"""A host name or IP address, and a port."""


class Topology(enum.Enum):
    """The ways in which the primary is found."""

    SINGLE = ""
    SENTINEL = "+sentinel"
    CLUSTER = "+cluster"


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisUrl:
    """The parts of the URL of a Redis; `service` is the name under which Sentinels watch the primary."""

    kind: Topology
    places: tuple[Place, ...]
    tls: bool = False
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    database: int = 0
    service: str = ""
    options: dict[str, str] = field(default_factory=dict, repr=False)


def read_url(text: str) -> RedisUrl:
    """Return the parts of a URL.

    `redis://user:password@host:port/database`, `redis+sentinel://.../service/database` with Sentinels in
    place of the host, separated by commas, `redis+cluster://` with nodes; `rediss` for TLS. Query:
    `ssl_ca_certs`, `ssl_certfile`, `ssl_keyfile` (files), `sentinel_username`, `sentinel_password`.

    Raises:
        ValueError: it is not such a URL; the message says what to write instead.
    """
    match = _URL.fullmatch(text)
    if match is None or not re.fullmatch("[!-~]+", text):
        raise ValueError(_FORMS)
    kind, tls = Topology(match["kind"] or ""), match["scheme"] == "rediss"
    service, database = _read_path(kind, match["path"] or "/")
    return RedisUrl(
        kind=kind,
        places=_read_places(kind, match["hosts"]),
        tls=tls,
        user=unquote(match["user"]) if match["user"] else None,
        password=unquote(match["password"]) if match["password"] else None,
        database=database,
        service=service,
        options=_read_options(kind, match["query"] or "", tls=tls),
    )


def _read_places(kind: Topology, text: str) -> tuple[Place, ...]:
    hosts = text.split(",")
    if kind is Topology.SINGLE and len(hosts) > 1:
        raise ValueError("write one host; several are redis+sentinel:// or redis+cluster://")
    return tuple(_read_place(host, 26379 if kind is Topology.SENTINEL else 6379) for host in hosts)


def _read_place(text: str, usual: int) -> Place:
    match = _HOST.fullmatch(text)
    port = int(match["port"] or usual) if match else 0
    if match is None or not 0 < port < 65536 or (match["v6"] and not _is_v6(match["v6"])):
        raise ValueError("write each host as host:port, or [::1]:port")
    return match["v6"] or match["host"], port


def _is_v6(text: str) -> bool:
    try:
        return bool(ipaddress.IPv6Address(text))
    except ValueError:
        return False


def _read_path(kind: Topology, path: str) -> tuple[str, int]:
    """Return the name of the service that Sentinels watch, else an empty one, and the database."""
    parts = [unquote(part) for part in path.removeprefix("/").split("/")]
    service = parts.pop(0) if kind is Topology.SENTINEL else ""
    database = (parts or [""])[0] or "0"
    if kind is Topology.SENTINEL and not service:
        raise ValueError("write what the Sentinels call the primary after them, as /mymaster")
    if len(parts) > 1 or not _DATABASE.fullmatch(database):
        raise ValueError("write the number of the database last, as /0")
    if kind is Topology.CLUSTER and int(database):
        raise ValueError("write no database: a Cluster has but one")
    return service, int(database)


def _read_options(kind: Topology, query: str, *, tls: bool) -> dict[str, str]:
    pairs = parse_qsl(query, keep_blank_values=True)
    known = (TLS_OPTIONS if tls else ()) + (SENTINEL_OPTIONS if kind is Topology.SENTINEL else ())
    options = dict(pairs)
    if len(options) < len(pairs) or not options.keys() <= set(known):
        if not known:
            raise ValueError("write nothing behind ?: with this scheme there are no options")
        raise ValueError(f"write each option once; with this scheme there are {', '.join(known)}")
    return options
