"""Would this Redis keep what it was told? What an operator is to know of its settings.

Rules kept here:
- Where the store is the only record of the keys, a Redis that writes nothing to disk loses every key and
  every revocation with its process, and one that evicts names loses them one by one.
- CONFIG GET is asked first. Where it is forbidden or renamed, INFO tells part of it, and what neither tells
  is said to be unchecked, never taken for good.
"""

from __future__ import annotations

from typing import Any, Final

from redis.exceptions import ResponseError

_NAMES: Final = ("appendonly", "save", "maxmemory-policy")

NOT_PERSISTED: Final = (
    'Redis persists nothing (appendonly no, save ""): a restart loses every key and every revocation; '
    "set appendonly yes"
)
EVICTS: Final = (
    "Redis may evict keys (its maxmemory-policy is not noeviction): evicted ones get 401; "
    "set maxmemory-policy noeviction"
)
PERSISTENCE_UNKNOWN: Final = (
    "whether Redis persists could not be checked: CONFIG GET is not allowed, and INFO does not say so"
)
EVICTION_UNKNOWN: Final = (
    "whether Redis evicts keys could not be checked: neither CONFIG GET nor INFO is allowed"
)


async def durability_warnings(client: Any) -> tuple[str, ...]:
    """What speaks against keeping keys in the Redis of a client of redis-py; empty if nothing does.

    Raises:
        redis.exceptions.RedisError: it does not answer.
    """
    settings = await _settings(client)
    persists, policy = _persists(settings), settings.get("maxmemory-policy")
    warnings = []
    if persists is not True:
        warnings.append(PERSISTENCE_UNKNOWN if persists is None else NOT_PERSISTED)
    if policy != "noeviction":
        warnings.append(EVICTION_UNKNOWN if policy is None else EVICTS)
    return tuple(warnings)


def _persists(settings: dict[str, str]) -> bool | None:
    """Whether anything is written to disk; None if that cannot be told."""
    if settings.get("appendonly") == "yes" or settings.get("save"):
        return True
    return False if settings.keys() >= {"appendonly", "save"} else None


async def _settings(client: Any) -> dict[str, str]:
    """What is known of `appendonly`, `save` and `maxmemory-policy`."""
    try:
        # One by one: not every version takes several, and `*` would bring passwords.
        pairs = [await client.execute_command("CONFIG", "GET", name) for name in _NAMES]
    except ResponseError:
        return await _from_info(client)
    return {pair[0].decode(): pair[1].decode() for pair in pairs if len(pair) == 2}


async def _from_info(client: Any) -> dict[str, str]:
    """The same from INFO, which does not tell `save`."""
    try:
        told = await client.info("persistence") | await client.info("memory")
    except ResponseError:
        return {}
    settings = {"appendonly": "yes"} if told.get("aof_enabled") == 1 else {}
    if "maxmemory_policy" in told:
        settings["maxmemory-policy"] = str(told["maxmemory_policy"])
    return settings
