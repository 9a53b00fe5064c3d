"""The queue of bodies that are slow to stamp: keys take turns, a few milliseconds in each turn of a loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from gateway.errors import Code, GatewayError
from gateway.fairness.errors import OverloadedError
from gateway.fairness.shares import Caller
from gateway.policy.routes import Access, Route, Stamp
from gateway.proxy.errors import code_of
from gateway.proxy.stamp_queue import TURN_SECONDS, StampQueue
from gateway.stamping.stamp import stamp
from gateway.wire.errors import ClientGoneError

BULK = Route("POST", "/transactions/bulk", Access.SCOPES, ("transactions:write",), Stamp.BULK)
LEDGERS = Route("POST", "/ledgers", Access.SCOPES, ("ledgers:write",), Stamp.CREATE)
MOST = 1 << 23
# Some 50 ms of work, in 30 kB.
SLOW = b'{"transactions":[%b]}' % b",".join([b"{}"] * 9999)
QUICK = b'{"transactions":[%b]}' % b",".join([b"{}"] * 200)


class Clients:
    """The clients of a queue; `finished` names the bodies in the order in which they were done."""

    def __init__(self, queue: StampQueue) -> None:
        self.finished: list[str] = []
        self._queue = queue

    def send(
        self,
        name: str,
        body: bytes,
        key: str,
        wanted: Callable[[], bool] = lambda: True,
        network: str = "here",
    ) -> asyncio.Task[bytes]:
        return asyncio.ensure_future(self._send(name, body, Caller(key, network), wanted))

    async def _send(self, name: str, body: bytes, caller: Caller, wanted: Callable[[], bool]) -> bytes:
        stamped = await self._queue.stamp(body, BULK, caller, MOST, wanted)
        self.finished.append(name)
        return stamped


@pytest.fixture
def clients() -> Clients:
    return Clients(StampQueue(time.monotonic))


async def test_what_is_cheap_does_not_wait(clients: Clients) -> None:
    """A body that is quick to stamp is stamped in the turn in which it is sent, whatever waits."""
    slow = clients.send("slow", SLOW, "mallory")
    await asyncio.sleep(0)
    cheap = StampQueue(time.monotonic).stamp(b'{"a":1}', LEDGERS, Caller("acme", "here"), MOST, lambda: True)
    with pytest.raises(StopIteration) as done:
        cheap.send(None)
    assert done.value.value == b'{"a":1,"meta_data":{"BLNK_GENERATED_BY":"acme"}}'
    await slow


async def test_what_comes_out_is_what_is_stamped_at_once(clients: Clients) -> None:
    """Each body comes out as if it were stamped at once, and what is refused is refused."""
    sent = {key: clients.send(key, SLOW, key) for key in ("acme", "globex")}
    for key, task in sent.items():
        assert await task == stamp(SLOW, Stamp.BULK, key, max_length=MOST)
    with pytest.raises(GatewayError) as refused:
        await clients.send("", SLOW[:-1] + b",", "acme")
    assert code_of(refused.value) is Code.MALFORMED_BODY


async def test_keys_take_turns_and_bodies_of_a_key_keep_their_order(clients: Clients) -> None:
    """Many bodies of one key delay another key's body by a turn or two, not by all of them."""
    tasks = [clients.send(f"mallory {n}", SLOW, "mallory") for n in range(6)]
    await asyncio.sleep(0)
    tasks.append(clients.send("acme", QUICK, "acme"))
    await asyncio.gather(*tasks)
    assert clients.finished == ["acme", *(f"mallory {n}" for n in range(6))]


async def test_networks_take_turns_however_many_keys_one_of_them_has(clients: Clients) -> None:
    """Many keys of one network delay another network's key by a turn or two, not by one for each key."""
    tasks = [clients.send(f"mallory {n}", SLOW, f"mallory {n}") for n in range(6)]
    await asyncio.sleep(0)
    tasks.append(clients.send("acme", QUICK, "acme", network="there"))
    await asyncio.gather(*tasks)
    assert clients.finished[0] == "acme"
    assert sorted(clients.finished[1:]) == [f"mallory {n}" for n in range(6)]


async def test_the_network_that_has_most_waiting_gives_way() -> None:
    """The network with most waiting loses its newest body, even if each of its keys has only one."""
    clients = Clients(StampQueue(time.monotonic, most_waiting=3))
    mallory = [clients.send("mallory", QUICK, f"mallory {n}") for n in range(3)]
    other = clients.send("acme", QUICK, "acme", network="there")
    outcomes = await asyncio.gather(*mallory, other, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes].count(OverloadedError) == 1
    assert clients.finished.count("acme") == 1


async def test_a_turn_of_the_event_loop_is_short_however_many_wait(clients: Clients) -> None:
    """Twenty bodies take as much of each turn as one does."""
    tasks = [clients.send("", SLOW, f"key {n % 4}") for n in range(20)]
    turns = []
    last = time.thread_time()
    while not all(task.done() for task in tasks):
        await asyncio.sleep(0)
        now = time.thread_time()
        turns.append(now - last)
        last = now
    # A turn ends with the step in which its time is used up.
    assert sorted(turns)[int(len(turns) * 0.9)] < 2 * TURN_SECONDS


async def test_nothing_is_stamped_for_a_client_that_has_gone(clients: Clients) -> None:
    """The body of a client that has gone is dropped at its turn, and the next is stamped."""
    here = True
    gone = [clients.send("", SLOW, "acme", lambda: here) for _ in range(20)]
    await asyncio.sleep(0)
    here = False
    began = time.thread_time()
    await clients.send("acme", QUICK, "acme")
    assert time.thread_time() - began < 0.05
    assert {type(problem) for problem in await asyncio.gather(*gone, return_exceptions=True)} == {
        ClientGoneError
    }


async def test_one_that_gives_up_is_not_waited_for(clients: Clients) -> None:
    """A request that is cancelled takes no turn."""
    tasks = [clients.send("", SLOW, "acme") for _ in range(20)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    began = time.thread_time()
    await clients.send("acme", QUICK, "acme")
    assert time.thread_time() - began < 0.05


async def test_the_key_that_has_most_waiting_gives_way() -> None:
    """When the queue is full, bodies of the key with most are refused for another key's, newest first."""
    clients = Clients(StampQueue(time.monotonic, most_waiting=6))
    mallory = [clients.send(f"mallory {n}", QUICK, "mallory") for n in range(6)]
    others = [clients.send("acme", QUICK, "acme"), clients.send("globex", QUICK, "globex")]
    late = clients.send("late", QUICK, "mallory")
    outcomes = await asyncio.gather(*mallory, late, *others, return_exceptions=True)
    refused = [code_of(outcome) for outcome in outcomes if isinstance(outcome, GatewayError)]
    assert refused == [Code.UNAVAILABLE] * 3
    assert sorted(clients.finished) == ["acme", "globex", *(f"mallory {n}" for n in range(4))]


async def test_a_key_of_many_alike_is_refused_itself() -> None:
    """When the queue is full of keys with one body each, the newcomer is refused."""
    clients = Clients(StampQueue(time.monotonic, most_waiting=3))
    first = [clients.send(key, QUICK, key) for key in ("acme", "globex", "initech")]
    with pytest.raises(GatewayError) as refused:
        await clients.send("umbrella", QUICK, "umbrella")
    assert code_of(refused.value) is Code.UNAVAILABLE
    await asyncio.gather(*first)
