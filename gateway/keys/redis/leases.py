"""One Lua script that shares the limits of keys among all replicas.

Rules kept here:
- One call settles and leases many keys. Its time is that of Redis, so replicas need no common clock.
- The bucket of a key is one value: its level, when it was changed, when it was made, and the requests that
  were reported since then. It expires once it would be full, so that Redis holds only the keys in use.
- A bucket that was lost, or that an older copy of the data brought back, is made anew at no more than the
  lowest level that a replica remembers. So a restart of Redis gives nobody a second burst.
- A replica that has not asked for 5 s is not counted any more.
- Whatever a value holds, the script does not fail: one that cannot be read is a lost bucket. So is one with a
  number that the script does not write: none (`nan`), one that is too large, a time that is more than a day
  ahead, or a debt that no key can have, whatever its rate. A value of another type is replaced.
- A debt is at most a burst and what flows in within a day, so no value keeps a key out for longer. A key
  whose rate was lowered may have a larger one, which counts as that much.
- A replica that seems to have asked in the future is not counted either: the clock of Redis was set back, or
  the value is damaged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from gateway.keys.leases import Lease, LeaseBatch, LeaseRequest
from gateway.keys.redis import names as names
from gateway.keys.redis.connection import RedisLink
from gateway.keys.redis.errors import redis_errors

REPLICA_SECONDS: Final = 5
"""How long a replica counts after it asked for leases."""

# KEYS: the set of replicas, then the bucket of each key. ARGV: the replica, the seconds for which it counts,
# then eight numbers for each key: rate, capacity, spent, granted, wanted, estimate, began, seen.
# Numbers are returned as texts: Redis would cut off their fractions. A bucket lives for 1e12 ms at most,
# because Redis refuses an end that is too far away. TIME is the only command that a user who was made for an
# older version may lack.
_SCRIPT: Final = """\
local time = redis.pcall('TIME')
if time.err then return {err = "NOPERM No permissions to run the 'time' command"} end
local now = time[1] + time[2] / 1000000

local added = redis.pcall('ZADD', KEYS[1], now, ARGV[1])
if type(added) == 'table' and string.find(added.err, 'WRONGTYPE', 1, true) then
  redis.call('DEL', KEYS[1])
  added = redis.pcall('ZADD', KEYS[1], now, ARGV[1])
end
if type(added) == 'table' then return added end
for _, range in ipairs({{'-inf', now - ARGV[2]}, {now + ARGV[2], '+inf'}}) do
  local gone = redis.call('ZRANGEBYSCORE', KEYS[1], range[1], range[2], 'LIMIT', 0, 1000)
  if #gone > 0 then redis.call('ZREM', KEYS[1], unpack(gone)) end
end

local DAY = 86400
-- More than a burst and a day of the highest rate and burst that can be set, 1,000,000 each.
local NO_DEBT = 1e11

local function number(text)
  local found = tonumber(text)
  if found and found == found and math.abs(found) < 1e15 then return found end
end

local function settle(name, rate, capacity, spent, granted, wanted, estimate, began, seen)
  local kept = redis.call('MGET', name)[1] or ''
  local level, changed, made, total = kept:match('^(%S+) (%S+) (%S+) (%S+)$')
  level, changed, made, total = number(level), number(changed), number(made), number(total)
  local lowest = -(capacity + DAY * rate)
  local known = level and changed and made and total
  if not known or level < -NO_DEBT or math.max(changed, made) > now + DAY then
    level, changed, made, total = capacity, now, now, 0
  elseif made == began and changed < seen - 0.001 then
    made = now
  end
  level = math.min(capacity, math.max(lowest, level) + math.max(0, now - changed) * rate)
  if made ~= began and estimate >= 0 then
    level = math.min(level, estimate)
  else
    level = math.min(capacity, math.max(lowest, level - spent + granted))
  end
  total = total + spent
  local given = math.max(0, math.min(wanted, math.floor(level)))
  level = level - given
  local value = string.format('%.6f %.6f %.6f %d', level, now, made, total)
  redis.call('SET', name, value, 'PX', math.min(1e12, math.ceil(((capacity - level) / rate + 2) * 1000)))
  return {tostring(given), string.format('%.6f', level), string.format('%.6f', made), total}
end

local leases = {}
for i = 2, #KEYS do
  local numbers = {}
  for j = 1, 8 do numbers[j] = tonumber(ARGV[(i - 2) * 8 + 2 + j]) end
  leases[i - 1] = settle(KEYS[i], unpack(numbers))
end
return {string.format('%.6f', now), redis.call('ZCARD', KEYS[1]), leases}
"""


class RedisLeases:
    """Gives leases over a connection of its own, so that no other command waits for them."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link

    async def lease(self, replica: str, requests: Sequence[LeaseRequest]) -> LeaseBatch:
        """Settle what a replica spent, and give it its next leases. Raises StoreUnavailableError."""
        places = [names.LIMIT_REPLICAS, *(names.limit_name(request.key_id) for request in requests)]
        words = [word for request in requests for word in _words(request)]
        async with redis_errors():
            now, replicas, leases = await self._link.limits.eval(
                _SCRIPT, len(places), *places, replica, REPLICA_SECONDS, *words
            )
            return LeaseBatch(float(now), max(1, int(replicas)), tuple(map(_read_lease, leases)))


def _words(request: LeaseRequest) -> tuple[float, ...]:
    memory = request.memory
    return (
        request.rate,
        request.capacity,
        request.spent,
        request.granted,
        request.wanted,
        memory.estimate,
        memory.began,
        memory.seen,
    )


def _read_lease(reply: Any) -> Lease:
    granted, level, began, total = reply
    return Lease(float(granted), float(level), float(began), int(total))
