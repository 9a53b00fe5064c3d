"""The Redis user of the gateway: it has the rights in deploy/README.md and no others."""

from __future__ import annotations

USER = "blnk-gateway"
PASSWORD = "of-the-tests"
RULES = (
    "~{blnk-gateway}:* resetchannels -@all +ping +select +role +wait +info +config|get +cluster|slots "
    "+eval +time +get +mget +set +del +exists +scan +zadd +zcard +zcount +zrevrange +zrangebyscore +zrem "
    "+zmscore +sadd +srem +smembers +xadd +xread +xrange +xrevrange"
)


def options() -> list[str]:
    """Return the user as options of redis-server; tests inspect Redis as the default user."""
    return ["--user", USER, "on", f">{PASSWORD}", *RULES.split()]


def url(*places: str, scheme: str = "redis", path: str = "/0") -> str:
    """Return a URL that logs in as that user."""
    return f"{scheme}://{USER}:{PASSWORD}@{','.join(places)}{path}"


def documented(text: str, user: str) -> list[str]:
    """Return the rules of a user in a document, without its password."""
    line = next(line for line in text.splitlines() if line.startswith(f"ACL SETUSER {user} on "))
    return line.split()[5:]
