"""The user of gateways in Redis: the rights that they need and no others, as in deploy/README.md."""

from __future__ import annotations

USER = "blnk-gateway"
PASSWORD = "of-the-tests"
RULES = (
    "~{blnk-gateway}:* resetchannels -@all +ping +select +role +wait +info +config|get +cluster|slots "
    "+eval +get +mget +set +del +exists +scan +zadd +zcard +zcount +zrevrange +zrangebyscore +zrem +zmscore "
    "+sadd +srem +smembers +xadd +xread +xrange +xrevrange"
)


def options() -> list[str]:
    """The user as options of redis-server; tests look inside as the one who needs no password."""
    return ["--user", USER, "on", f">{PASSWORD}", *RULES.split()]


def url(*places: str, scheme: str = "redis", path: str = "/0") -> str:
    """A URL that logs in as that user."""
    return f"{scheme}://{USER}:{PASSWORD}@{','.join(places)}{path}"
