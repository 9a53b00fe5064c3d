"""Processes that begin to listen on one path at the same time."""

from __future__ import annotations

import multiprocessing
import socket
from collections.abc import Sequence
from multiprocessing.synchronize import Barrier
from pathlib import Path

from gateway.config import UnixAddress
from gateway.server.unix_sockets import UnusablePathError, opened

Outcomes = list[tuple[str, bool]]


def race(paths: Sequence[str], processes: int) -> list[Outcomes]:
    """Let processes begin to listen on each path in turn; return, for each process, what came of each.

    That is why it was refused, "" if it was not, and whether its socket still is the one at the path once all
    of them have tried.
    """
    spawning = multiprocessing.get_context("spawn")
    barrier = spawning.Barrier(processes)
    with spawning.Pool(processes, _begin, [barrier]) as pool:
        return pool.map(_run, [list(paths)] * processes, chunksize=1)


_barriers: list[Barrier] = []


def _begin(barrier: Barrier) -> None:
    _barriers.append(barrier)


def _run(paths: Sequence[str]) -> Outcomes:
    return [_one(UnixAddress(path), _barriers[0]) for path in paths]


def _one(address: UnixAddress, barrier: Barrier) -> tuple[str, bool]:
    barrier.wait()
    try:
        listening = opened(address, 0o600, 10)
    except UnusablePathError as refused:
        barrier.wait()
        return str(refused), False
    with listening:
        barrier.wait()
        return "", _reaches(address, listening)


def _reaches(address: UnixAddress, listening: socket.socket) -> bool:
    """Return whether who connects to the path reaches this socket."""
    listening.settimeout(1)
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(address.path)
            listening.accept()[0].close()
        except OSError:
            return False
    return Path(address.path).exists()
