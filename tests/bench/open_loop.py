"""Send requests at fixed times, whatever the server does: `python -m tests.bench.open_loop`.

The plan comes on standard input as one line of JSON. Once all connections have had a response, `ready` is
printed; the load begins with the next line of standard input, and its result is printed as one line of JSON.

Rules kept here:
- A latency counts from the time at which the request was due, so a server that falls behind cannot hide it.
- A connection has one request at a time. If all are busy, a request waits, and its latency counts on.
- The connections take turns, so that each is as idle as the others.
"""

from __future__ import annotations

import gc
import json
import re
import select
import socket
import sys
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_PATIENCE = 20.0


@dataclass(slots=True)
class Connection:
    """A connection with at most one request, which was due at `due`."""

    socket: socket.socket
    due: float = 0.0
    received: bytes = b""

    def send(self, request: bytes, due: float) -> None:
        """Send a request; wait where it does not fit into the socket at once. Raises OSError."""
        self.due, self.received = due, b""
        sent = self.socket.send(request)
        if sent < len(request):
            before = self.socket.gettimeout()
            self.socket.settimeout(_PATIENCE)
            self.socket.sendall(request[sent:])
            self.socket.settimeout(before)

    def receive(self) -> int:
        """Read what is there; return the status once the response is whole, else 0. Raises OSError."""
        piece = self.socket.recv(1 << 18)
        if not piece:
            raise ConnectionError("the server closed a connection")
        self.received += piece
        return status_of(self.received)


@dataclass(slots=True)
class Tally:
    """The seconds that each response took, and how many had each status."""

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)

    def result(self) -> dict[str, Any]:
        """Return the result as JSON holds it; latencies in milliseconds."""
        ordered = sorted(self.seconds)
        return {
            "requests": len(ordered),
            "statuses": {str(status): count for status, count in sorted(self.statuses.items())},
            "p50_ms": percentile(ordered, 0.5) * 1e3,
            "p99_ms": percentile(ordered, 0.99) * 1e3,
            "longest_ms": ordered[-1] * 1e3,
        }


def status_of(received: bytes) -> int:
    """Return the status of a response with a Content-Length that is whole, else 0."""
    head, ended, body = received.partition(b"\r\n\r\n")
    length = _LENGTH.search(head) if ended else None
    if length is None or len(body) < int(length[1]):
        return 0
    return int(head[9:12])


def percentile(ordered: Sequence[float], part: float) -> float:
    """Return the value below which `part` of the ordered values are."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


def connect(port: int, count: int, request: bytes) -> Iterator[Connection]:
    """Yield connections that have had a response each. Raises OSError."""
    for _ in range(count):
        made = socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(made)
        connection.send(request, 0.0)
        while not connection.receive():
            pass
        made.setblocking(False)
        yield connection


class Player:
    """Sends requests in turn at `rate` a second over idle connections, and reads the responses."""

    def __init__(self, poll: select.epoll, connections: Sequence[Connection], rate: float) -> None:
        self._poll = poll
        self._by_number = {one.socket.fileno(): one for one in connections}
        self._idle = deque(connections)
        self._rate = rate
        for number in self._by_number:
            poll.register(number, select.EPOLLIN)

    def play(self, requests: Sequence[bytes], count: int) -> Tally:
        """Send `count` requests and await all responses. Raises OSError."""
        tally = Tally()
        began = perf_counter() + 0.01
        latest = began + count / self._rate + _PATIENCE
        sent = 0
        while len(tally.seconds) < count:
            now = perf_counter()
            while self._idle and sent < count and began + sent / self._rate <= now:
                self._idle.popleft().send(requests[sent % len(requests)], began + sent / self._rate)
                sent += 1
            if now > latest:
                raise TimeoutError("the server did not respond to every request")
            next_due = began + sent / self._rate - perf_counter()
            self._receive(tally, next_due if self._idle and sent < count else 1.0)
        return tally

    def _receive(self, tally: Tally, patience: float) -> None:
        # epoll can only wait for whole milliseconds.
        select.select([self._poll], [], [], max(0.0, patience))
        for number, _ in self._poll.poll(0):
            connection = self._by_number[number]
            if status := connection.receive():
                tally.seconds.append(perf_counter() - connection.due)
                tally.statuses[status] += 1
                self._idle.append(connection)


def main() -> None:
    plan = json.loads(sys.stdin.readline())
    requests = [text.encode("latin-1") for text in plan["requests"]]
    # Made first: select takes only descriptors below 1,024.
    with select.epoll() as poll:
        connections = list(connect(plan["port"], plan["connections"], plan["first"].encode("latin-1")))
        player = Player(poll, connections, plan["rate"])
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        if sys.stdin.readline():
            gc.disable()
            sys.stdout.write(json.dumps(player.play(requests, plan["count"]).result()) + "\n")


if __name__ == "__main__":
    main()
