"""One Lua script that makes a change to keys: it compares, counts, and only then writes.

Rules kept here:
- Nothing is written unless every value is still as it was read. So of two writers the second one is refused,
  and a script that is sent twice changes nothing the second time.
- The keys of an owner are counted in the same script that adds one: a quota is exact.
- Commands run in the order given and stop at the first error. `record_commands` puts the record last, so that
  a command which Redis refuses leaves no part of a change that anybody believes. Commands that undo run then:
  an index entry that stayed would count against the quota of its owner.
- Every name is among KEYS, as a Cluster demands. Values are compared and written as bytes.
- EVAL, never EVALSHA: Redis may forget a script at any time, and a second attempt could run twice.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from gateway.keys.quota import Quota
from gateway.keys.redis import names as names

Word = str | bytes | int | float

# ARGV: how many names are compared, the value of each (empty for none), the quota (live keys, records, the
# time after which a key must end to be live; 0 live keys for no quota), the number of the last word of the
# commands that write, and for each command how many words it has, then the words, with the number of a name
# in KEYS in place of that name. Commands that undo follow those that write.
#
# MGET, unlike GET, reads a value of another type as none. Errors of commands that a script calls get the form
# that they have outside of one: Redis 6 puts other words first, and none says NOPERM for a missing right.
_SCRIPT: Final = """\
local failure
local writing = false

local function call(keyword, ...)
  local reply = redis.pcall(keyword, ...)
  if type(reply) == 'table' and reply.err then
    failure = reply.err:match('^@user_script: %d+: %-(.+)') or reply.err
    if failure:find("can't access", 1, true) or failure:find('access a key', 1, true) then
      failure = 'NOPERM No permissions to access a key'
    elseif failure:find("can't run this command", 1, true) or failure:find('ACL failure', 1, true) then
      failure = "NOPERM No permissions to run the '" .. keyword:lower() .. "' command"
    end
    error(failure)
  end
  return reply
end

local compared = tonumber(ARGV[1])
local undo_at = tonumber(ARGV[compared + 5]) + 1

local function each(at, beyond, run)
  while at < beyond do
    local last = at + tonumber(ARGV[at])
    run(ARGV[at + 1], KEYS[tonumber(ARGV[at + 2])], unpack(ARGV, at + 3, last))
    at = last + 1
  end
end

local function change()
  for i = 1, compared do
    if (call('MGET', KEYS[i])[1] or '') ~= ARGV[i + 1] then return {'changed', 0} end
    -- It fails for a value of another type, which must not be replaced as if nothing were there.
    if ARGV[i + 1] == '' then call('GET', KEYS[i]) end
  end
  local at = compared + 2
  local most_live, most_records, time = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), ARGV[at + 2]
  if most_live > 0 then
    local owner, ends = KEYS[compared + 1], KEYS[compared + 2]
    local records = call('ZCARD', owner)
    if records >= most_records then return {'records', records} end
    if records >= most_live then
      if call('ZCARD', ends) < records then return {'unindexed', records} end
      local live = call('ZCOUNT', ends, '(' .. time, '+inf')
      if live >= most_live then return {'live', live} end
    end
  end
  writing = true
  each(at + 4, undo_at, call)
  return {'written', 0}
end

local done, outcome = pcall(change)
if failure and writing then
  each(undo_at, #ARGV + 1, redis.pcall)
end
if failure then return {err = failure} end
if not done then error(outcome) end
return outcome
"""


class Outcome(enum.Enum):
    """The outcome of a script."""

    WRITTEN = b"written"
    CHANGED = b"changed"  # a value is not as it was read: nothing was written
    TOO_MANY_RECORDS = b"records"  # the owner has as many as its quota allows: nothing was written
    TOO_MANY_LIVE = b"live"  # likewise
    UNINDEXED = b"unindexed"  # when the owner's keys end is not known of all: nothing was written


@dataclass(frozen=True, slots=True)
class Command:
    """A command that writes under one name; with `undoes`, it is run only if another one is refused.

    `audits` is the kind of the audit entry that it appends; "" for any other command.
    """

    keyword: str
    name: bytes
    words: tuple[Word, ...] = ()
    undoes: bool = False
    audits: str = ""


@dataclass(frozen=True, slots=True)
class OwnerQuota:
    """The number of keys that an owner may have when one is added at `time` (Unix seconds)."""

    owner: str
    quota: Quota
    time: float


def eval_command(
    values: Mapping[bytes, bytes | None], commands: Sequence[Command], counted: OwnerQuota | None = None
) -> list[Any]:
    """Return the EVAL command that makes a change.

    Args:
        values: what each name held when it was read, None for nothing.
        commands: what to write, and what undoes it.
        counted: the quota to hold the change to; None for none.
    """
    numbers = {name: number for number, name in enumerate(values, 1)}
    limits: list[Word] = [0, 0, 0]
    if counted is not None:
        for name in (names.owner_name(counted.owner), names.ends_name(counted.owner)):
            numbers[name] = len(numbers) + 1
        limits = [counted.quota.live, counted.quota.records, counted.time]
    writes, undoes = (
        [word for command in commands if command.undoes is undo for word in _numbered(command, numbers)]
        for undo in (False, True)
    )
    compared = [value or b"" for value in values.values()]
    begun: list[Word] = [len(compared), *compared, *limits]
    return ["EVAL", _SCRIPT, len(numbers), *numbers, *begun, len(begun) + 1 + len(writes), *writes, *undoes]


def read_outcome(reply: Any) -> tuple[Outcome, int]:
    """Return the outcome in a response to EVAL, and the number that belongs to it."""
    outcome, count = reply
    return Outcome(outcome), int(count)


def _numbered(command: Command, numbers: dict[bytes, int]) -> Iterator[Word]:
    """Yield the words of a command for the script; a name that has no number yet gets the next one."""
    number = numbers.setdefault(command.name, len(numbers) + 1)
    yield from (2 + len(command.words), command.keyword, number)
    yield from command.words
