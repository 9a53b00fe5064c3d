"""A deadline for what blocks on a socket, with real sockets."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from gateway.socket_deadline import deadline

SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Transport:
    """TLS within TLS: an object above the socket."""

    socket: socket.socket


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A socket whose peer sends nothing."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours


def test_what_reads_a_silent_socket_fails_after_its_time(silent: socket.socket) -> None:
    began = time.monotonic()
    with pytest.raises(TimeoutError, match=r"it took longer than 0\.2 s"), deadline(lambda: silent, SECONDS):
        silent.recv(1)
    assert time.monotonic() - began < SECONDS + 1


def test_a_socket_below_another_object_is_shut_down(silent: socket.socket) -> None:
    with pytest.raises(TimeoutError), deadline(lambda: Transport(silent), SECONDS):
        silent.recv(1)


def test_the_time_counts_from_when_there_is_a_socket(silent: socket.socket) -> None:
    """To connect may take long, and what comes then, such as the response of a proxy, has its own time."""
    began = time.monotonic()
    used: list[socket.socket] = []

    def connect_late() -> None:
        with deadline(lambda: used[0] if used else None, SECONDS):
            time.sleep(2 * SECONDS)
            used.append(silent)
            silent.recv(1)

    with pytest.raises(TimeoutError):
        connect_late()
    assert 3 * SECONDS < time.monotonic() - began + 0.01 < 3 * SECONDS + 1


def test_what_ends_in_time_keeps_its_socket(silent: socket.socket) -> None:
    with deadline(lambda: silent, SECONDS):
        pass
    assert silent.send(b"x") == 1


def test_another_failure_in_time_is_raised_as_it_is(silent: socket.socket) -> None:
    with pytest.raises(KeyError), deadline(lambda: silent, SECONDS):
        raise KeyError
