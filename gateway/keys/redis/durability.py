"""Warn of a Redis that can lose keys, that has little room for more, or that takes no change.

Rules kept here:
- A Redis that writes nothing to disk loses all records with its process. One that writes later loses the
  last ones, and one that evicts names loses them one by one. Where the store is the only record of the keys,
  those keys are lost.
- A full Redis takes no change: no key can be revoked. The warning comes while there is room left.
- CONFIG GET is asked first. Where it is forbidden or renamed, INFO has part of it. A setting that neither
  shows is reported as unchecked, never taken for good.
"""

from __future__ import annotations

from typing import Any, Final

from redis.exceptions import NoPermissionError, ResponseError

_NAMES: Final = ("appendonly", "appendfsync", "save", "maxmemory-policy")

NOT_PERSISTED: Final = (
    'Redis persists nothing (appendonly no, save ""): a restart loses all that it keeps of keys, revocations '
    "included; set appendonly yes and appendfsync always"
)
SNAPSHOTS: Final = (
    "Redis persists snapshots alone (appendonly no): a crash loses what it was told of keys since the last; "
    "set appendonly yes and appendfsync always"
)
WRITTEN_LATER: Final = (
    "Redis writes changes to disk after it has answered (appendfsync is not always): a crash of its host "
    "loses what it was told of keys last; set appendfsync always"
)
EVICTS: Final = (
    "Redis may evict what it keeps of keys (its maxmemory-policy is not noeviction); "
    "set maxmemory-policy noeviction"
)
PERSISTENCE_UNKNOWN: Final = (
    "whether Redis keeps each change (appendonly yes, appendfsync always) could not be checked: "
    "CONFIG GET is not allowed"
)
EVICTION_UNKNOWN: Final = (
    "whether Redis evicts keys could not be checked: neither CONFIG GET nor INFO is allowed"
)


NEARLY_FULL_RATIO: Final = 0.9
ROOM_RATIO: Final = 0.85
"""A Redis that was nearly full counts as having room again below this."""
NEARLY_FULL: Final = (
    f"Redis uses more than {NEARLY_FULL_RATIO:.0%} of its maxmemory: when it is full no key can be made or "
    "revoked; raise maxmemory"
)

NO_CHANGES: Final = (
    "Redis does not let the user of keys.store run eval: no key can be created or revoked; "
    "see the rights in deploy/README.md"
)


async def memory_ratio(client: Any) -> float | None:
    """Return how much of its `maxmemory` a Redis uses; None without one, or where INFO is forbidden.

    Raises:
        redis.exceptions.RedisError: it does not respond.
    """
    try:
        memory = await client.info("memory")
    except ResponseError:
        return None
    # As Redis does before it takes a change: buffers for replicas and for the disk are left out.
    used = memory.get("used_memory", 0) - memory.get("mem_not_counted_for_evict", 0)
    limit = memory.get("maxmemory", 0)
    return max(0.0, used / limit) if limit else None


async def durability_warnings(client: Any) -> tuple[str, ...]:
    """Return what speaks against keeping keys in the Redis of a client of redis-py; empty if nothing does.

    Raises:
        redis.exceptions.RedisError: it does not respond.
    """
    settings = await _settings(client)
    policy = settings.get("maxmemory-policy")
    warnings = [_persistence(settings)]
    if policy != "noeviction":
        warnings.append(EVICTION_UNKNOWN if policy is None else EVICTS)
    return tuple(filter(None, warnings))


async def change_warnings(client: Any) -> tuple[str, ...]:
    """Return what keeps a Redis from taking changes of keys; empty if nothing does.

    Raises:
        redis.exceptions.RedisError: it does not respond.
    """
    try:
        await client.eval("return 1", 0)
    except NoPermissionError:
        return (NO_CHANGES,)
    return ()


def too_few_acknowledge(connected: int, configured: int) -> str:
    """Return the warning for fewer `keys.replicas` than there are, where one of them may become primary."""
    return (
        f"keys.replicas is {configured}, and {connected} Redis replicas are connected: a failover to one "
        f"that was cut off can lose acknowledged revocations; set keys.replicas to {connected}"
    )


def _persistence(settings: dict[str, str]) -> str:
    """Return what is wrong with how it persists; empty if nothing is."""
    if settings.get("appendonly") == "yes" and "appendfsync" in settings:
        return "" if settings["appendfsync"] == "always" else WRITTEN_LATER
    if not settings.keys() >= {"appendonly", "save"} or settings["appendonly"] == "yes":
        return PERSISTENCE_UNKNOWN
    return SNAPSHOTS if settings["save"] else NOT_PERSISTED


async def _settings(client: Any) -> dict[str, str]:
    """Return the settings that are known."""
    try:
        # One by one: not every version takes several, and `*` would return passwords.
        pairs = [await client.execute_command("CONFIG", "GET", name) for name in _NAMES]
    except ResponseError:
        return await _from_info(client)
    return {pair[0].decode(): pair[1].decode() for pair in pairs if len(pair) == 2}


async def _from_info(client: Any) -> dict[str, str]:
    """Return the same from INFO, which has neither `save` nor `appendfsync`."""
    try:
        memory = await client.info("memory")
    except ResponseError:
        return {}
    return {"maxmemory-policy": str(memory["maxmemory_policy"])} if "maxmemory_policy" in memory else {}
