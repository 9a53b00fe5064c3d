"""The load at fixed times, over real sockets: how latencies count, and what fails."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.bench.load import LoadError, Request
from tests.bench.open_loop import percentile, status_of
from tests.bench.paced import Plan, message, paced

RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
REFUSED = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"
STALL = 0.3


@pytest.mark.parametrize(
    ("received", "status"),
    [
        (b"", 0),
        (RESPONSE[:20], 0),
        (RESPONSE[:-1], 0),
        (RESPONSE, 200),
        (REFUSED, 503),
    ],
    ids=["nothing", "half a head", "half a body", "whole", "without a body"],
)
def test_a_response_counts_once_it_is_whole(received: bytes, status: int) -> None:
    """Its length is in its head."""
    assert status_of(received) == status


def test_percentiles_are_values_that_were_measured() -> None:
    """Half of the values are below the middle one."""
    assert [percentile([1.0, 2.0, 3.0, 4.0], part) for part in (0.0, 0.5, 0.99)] == [1.0, 3.0, 4.0]


class Server:
    """Responds on each connection; before one response it stalls for STALL seconds."""

    def __init__(self, *, stall_at: int = -1, refuse_at: int = -1, close_at: int = -1) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._moments = (stall_at, refuse_at, close_at)
        self._served = 0

    def run(self) -> None:
        """Serve one connection after the other until the listener is closed."""
        try:
            while True:
                connection, _ = self._listener.accept()
                with connection:
                    self._serve(connection)
        except OSError:
            return

    def _serve(self, connection: socket.socket) -> None:
        stall_at, refuse_at, close_at = self._moments
        while _read_request(connection):
            if self._served == close_at:
                return
            if self._served == stall_at:
                time.sleep(STALL)
            connection.sendall(REFUSED if self._served == refuse_at else RESPONSE)
            self._served += 1

    def close(self) -> None:
        # Wakes accept(), which close alone does not.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def _read_request(connection: socket.socket) -> bool:
    """Read a whole request; return False if there is none."""
    received = connection.recv(65536)
    length = re.search(rb"Content-Length: (\d+)", received)
    whole = received.find(b"\r\n\r\n") + 4 + (int(length[1]) if length else 0)
    rest = whole - len(received)
    while rest > 0 and (piece := connection.recv(1 << 20)):
        rest -= len(piece)
    return bool(received)


@contextmanager
def serving(**moments: int) -> Iterator[Server]:
    """Run a server in a thread."""
    server = Server(**moments)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join()


def plan(port: int) -> Plan:
    """Return 40 requests in 0.4 s over one connection."""
    return Plan(port, [message(Request(port, "GET", "/", "a key"))], 100, 40, 1)


def test_requests_that_wait_for_a_stall_count_from_when_they_were_due() -> None:
    """One stall of 0.3 s makes thirty requests late, and not only the one that met it."""
    with serving(stall_at=5) as server:
        found = paced(plan(server.port), 0)
    assert found.requests == 40
    assert found.longest_ms >= STALL * 1e3
    assert found.p50_ms >= STALL * 1e3 / 4


def test_a_request_that_fills_the_socket_is_sent_whole() -> None:
    """A body of 5 MB does not fit at once, neither before the load nor in it."""
    with serving() as server:
        large = message(Request(server.port, "POST", "/", "a key", "x" * 5_000_000))
        assert paced(Plan(server.port, [large], 1e9, 3, 1), 0).requests == 3


@pytest.mark.parametrize(
    ("moments", "error"),
    [
        ({"refuse_at": 20}, r"responses were not a success: \{'503': 1\}"),
        ({"close_at": 20}, "the server closed a connection"),
        ({"close_at": 0}, "the server closed a connection"),
    ],
    ids=["a refusal", "a closed connection", "closed before the load"],
)
def test_what_is_no_success_fails_the_load(moments: dict[str, int], error: str) -> None:
    """Refusals are cheap, and would look like speed."""
    with serving(**moments) as server, pytest.raises(LoadError, match=error):
        paced(plan(server.port), 0)


def test_nothing_that_listens_fails_the_load() -> None:
    """The error is that of the connection."""
    with serving() as server:
        port = server.port
    with pytest.raises(LoadError, match="Connection refused"):
        paced(plan(port), 0)
