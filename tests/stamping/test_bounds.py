"""No body blocks the event loop for long: a body that is slow to stamp is stamped in short steps."""

from __future__ import annotations

import time

import pytest

from gateway.errors import Code, GatewayError
from gateway.policy.routes import Stamp
from gateway.proxy.errors import code_of
from gateway.stamping.stamp import CHEAP_SECONDS, stamp_at_once, stamp_in_steps

SIZE = 5 * 1024 * 1024
# Seconds of CPU time that one step may take in the best of RUNS: 2 ms, and as much again for noise.
LONGEST = 0.004
RUNS = 5
# Seconds of this thread's own time that it takes to copy SIZE bytes into memory that the process has not used
# yet. On a virtual machine whose host is short of memory it takes several times as long, and so do all steps.
COPY = 0.0005
COPIES = 9

Outcome = Code | None


def filled(head: bytes, part: bytes, tail: bytes) -> bytes:
    """Return `part` repeated, with commas between, up to SIZE bytes."""
    times = (SIZE - len(head) - len(tail)) // (len(part) + 1)
    return head + b",".join([part] * times) + tail


ITEM = (
    b'{"amount":1234,"precision":100,"reference":"ref-%06d","currency":"USD","source":"@src-account-123",'
    b'"destination":"@dst-account-456","description":"bulk","allow_overdraft":true,"meta_data":{"a":"%b"}}'
)
BULK = b'{"transactions":[%b]}' % b",".join(ITEM % (n, b"x" * 40) for n in range(10_000))
MEMBERS = b",".join(b'"%06d":1' % n for n in range(470_000))
DEEP = b"[" * 400 + b"]" * 400

CASES: dict[str, tuple[Stamp, bytes, Outcome]] = {
    "a real batch of 10,000 items": (Stamp.BULK, BULK, None),
    "... each with a forged stamp": (Stamp.BULK, BULK.replace(b'{"a"', b'{"BLNK_GENERATED_BY":1,"a"'), None),
    "empty items": (Stamp.BULK, filled(b'{"transactions":[', b"{}", b"]}"), Code.BULK_LIMIT),
    "numbers as items": (Stamp.BULK, filled(b'{"transactions":[', b"1", b"]}"), Code.BULK_LIMIT),
    "members at the top": (Stamp.CREATE, b"{%b}" % MEMBERS, None),
    "... all with escaped names": (Stamp.CREATE, filled(b"{", b'"\\u0061":1', b"}"), None),
    "... of a batch": (Stamp.BULK, b"{%b}" % MEMBERS, None),
    "members of meta_data": (Stamp.CREATE, b'{"meta_data":{%b}}' % MEMBERS, None),
    "... with a forged stamp": (
        Stamp.CREATE,
        b'{"meta_data":{"BLNK_GENERATED_BY":1,%b}}' % MEMBERS,
        None,
    ),
    "one string": (Stamp.CREATE, b'{"a":"%b"}' % (b"x" * (SIZE - 8)), None),
    "one string of escapes": (Stamp.CREATE, b'{"a":"%b"}' % (b"\\u0041" * (SIZE // 6 - 2)), None),
    "one string beyond ASCII": (
        Stamp.CREATE,
        b'{"a":"%b"}' % ("\U0001f600".encode() * (SIZE // 4 - 2)),
        None,
    ),
    "one name of escapes": (Stamp.CREATE, b'{"%b":1}' % (b"\\u0041" * (SIZE // 6 - 2)), None),
    "one number": (Stamp.CREATE, b'{"a":%b}' % (b"1" * (SIZE - 6)), None),
    "flat arrays": (Stamp.CREATE, filled(b'{"a":[', b"[]", b"]}"), None),
    "nested arrays": (Stamp.CREATE, filled(b'{"a":[', DEEP, b"]}"), None),
    "... in meta_data with a forged stamp": (
        Stamp.CREATE,
        filled(b'{"meta_data":{"BLNK_GENERATED_BY":1,"a":[', DEEP, b"]}}"),
        None,
    ),
    "strings of a bracket": (Stamp.CREATE, filled(b'{"a":[', b'["["]', b"]}"), None),
    "escapes beside brackets": (Stamp.CREATE, b'{"a":[%b"%b"]}' % (b"[]," * 1000, b"\\\\" * 2_500_000), None),
    "lone surrogates": (Stamp.CREATE, b'{"a":"%b"}' % (rb"\ud83d" * (SIZE // 6 - 2)), None),
    "nesting without end": (Stamp.CREATE, b'{"a":%b' % (b"[" * (SIZE - 6)), Code.MALFORMED_BODY),
    "blanks": (Stamp.CREATE, b"{}" + b" " * (SIZE - 2), None),
    "nothing but blanks": (Stamp.CREATE, b" " * SIZE, None),
    "blanks between names": (
        Stamp.CREATE,
        b'{"meta_data":{"a":1%b,"BLNK_GENERATED_BY":1}}' % (b" " * (SIZE - 50)),
        None,
    ),
    "meta_data over and over": (Stamp.CREATE, filled(b"{", b'"meta_data":{}', b"}"), Code.MALFORMED_BODY),
    "30 kB of empty items": (Stamp.BULK, b'{"transactions":[%b]}' % b",".join([b"{}"] * 9999), None),
}
# The most expensive bodies that are stamped without steps.
CHEAP: dict[str, tuple[Stamp, bytes]] = {
    "one string": (Stamp.CREATE, b'{"a":"%b"}' % (b"x" * 60_000)),
    "brackets": (Stamp.CREATE, b'{"a":[%b]}' % b",".join([b"[]"] * 1500)),
    "escaped names": (Stamp.CREATE, b"{%b}" % b",".join([b'"\\u0061":1'] * 100)),
    "escaped names of meta_data": (
        Stamp.CREATE,
        b'{"meta_data":{"BLNK_GENERATED_BY":1,%b}}' % b",".join([b'"\\u0061":1'] * 100),
    ),
    "repeated meta_data": (Stamp.CREATE, b"{%b}" % b",".join([b'"meta_data":{}'] * 100)),
    "empty items": (Stamp.BULK, b'{"transactions":[%b]}' % b",".join([b"{}"] * 30)),
    "forged items": (
        Stamp.BULK,
        b'{"transactions":[%b]}' % b",".join([b'{"meta_data":{"BLNK_GENERATED_BY":1}}'] * 12),
    ),
    # No name of these needs a look, so many names are cheap.
    "members at the top": (Stamp.CREATE, b"{%b}" % b",".join(b'"%06d":1' % n for n in range(5000))),
    "members of meta_data": (
        Stamp.CREATE,
        b'{"meta_data":{%b}}' % b",".join(b'"%06d":1' % n for n in range(5000)),
    ),
    "objects": (Stamp.CREATE, b'{"a":[%b]}' % b",".join([b'{"a":{}}'] * 800)),
    "members and brackets": (Stamp.CREATE, b"{%b}" % b",".join(b'"%06d":[]' % n for n in range(1400))),
}


# Records of which a name has to be looked at, and so all names: whoever sends them must not gain by it.
SLOW: dict[str, tuple[Stamp, bytes]] = {
    name: (Stamp.CREATE, b"{%b,%b}" % (head, b",".join(b'"%06d":1' % n for n in range(4000))))
    for name, head in {
        "an escaped name": b'"\\u0061":1',
        "a repeated meta_data": b'"meta_data":{},"meta_data":{}',
        "meta_data in another object": b'"a":{"meta_data":{}}',
        "meta_data in capitals": b'"META_DATA":{}',
        "a forged stamp": b'"meta_data":{"BLNK_GENERATED_BY":1}',
    }.items()
} | {
    "numbers as items": (Stamp.BULK, b'{"transactions":[%b]}' % b",".join([b"0"] * 30_000)),
    "texts as items": (Stamp.BULK, b'{"transactions":[%b]}' % b",".join([b'""'] * 20_000)),
    "a name of escapes": (Stamp.CREATE, b'{"META_DATA_":0,"%b":0}' % (rb"\"" * 30_000)),
    "a value of escapes": (Stamp.CREATE, b'{"\\u0041":0,"a":"%b"}' % (rb"\ud800" * 10_000)),
}


def step_seconds(how: Stamp, body: bytes) -> tuple[list[float], Outcome]:
    """Return the seconds that each step took, and the outcome."""
    taken: list[float] = []
    outcome: Outcome = None
    steps = stamp_in_steps(body, how, "api_key_x", max_length=SIZE + 1024 * 1024)
    ended = False
    while not ended:
        began = time.thread_time()
        try:
            next(steps)
        except StopIteration:
            ended = True
        except GatewayError as error:
            ended, outcome = True, code_of(error)
        taken.append(time.thread_time() - began)
    return taken, outcome


def slowness() -> float:
    """How many times as long as on a quiet machine this one takes to use memory; at least 1."""
    halves = [b"x" * (SIZE // 2)] * 2
    kept: list[bytes] = []
    taken: list[float] = []
    for _ in range(COPIES):
        began = time.thread_time()
        kept.append(b"".join(halves))
        taken.append(time.thread_time() - began)
    return max(1.0, sorted(taken)[COPIES // 2] / COPY)


@pytest.mark.parametrize("name", CASES)
def test_no_step_is_long(name: str) -> None:
    """Each step of a body that is slow to stamp stays below the bound, and the outcome is as expected."""
    how, body, expected = CASES[name]
    best: list[float] = []
    for _ in range(RUNS):
        taken, outcome = step_seconds(how, body)
        assert outcome == expected
        # The best time of each step counts, because noise hits another step in each run.
        best = list(map(min, best or taken, taken))
        if max(best) < LONGEST:
            return
    assert max(best) < LONGEST * slowness(), best.index(max(best))


def at_once(how: Stamp, body: bytes) -> tuple[bytes | None, float]:
    """Return what stamping at once gives, and the least of the seconds that it takes."""
    taken: list[float] = []
    for _ in range(RUNS):
        began = time.thread_time()
        stamped = stamp_at_once(body, how, "api_key_x", max_length=SIZE)
        taken.append(time.thread_time() - began)
    return stamped, min(taken)


@pytest.mark.parametrize("name", CHEAP)
def test_what_is_stamped_at_once_is_cheap(name: str) -> None:
    """The most expensive bodies by byte, name, bracket and item take at most twice the estimate."""
    stamped, seconds = at_once(*CHEAP[name])
    assert stamped is not None
    assert seconds < 2 * CHEAP_SECONDS


@pytest.mark.parametrize("name", SLOW)
def test_that_a_body_is_slow_is_found_out_cheaply(name: str) -> None:
    """The longest records that are found not to be plain take at most twice the estimate; steps follow."""
    stamped, seconds = at_once(*SLOW[name])
    assert stamped is None
    assert seconds < 2 * CHEAP_SECONDS


@pytest.mark.parametrize("name", CASES)
def test_what_is_slow_is_not_stamped_at_once(name: str) -> None:
    """Every body that is slow to stamp is stamped in steps."""
    how, body, _ = CASES[name]
    assert stamp_at_once(body, how, "api_key_x", max_length=SIZE) is None
