"""A deadline for everything that blocks on one connection.

Rules kept here:
- A peer that sends a byte now and then holds nobody for longer: the timeout of a socket is that of each
  receive, so the socket is shut down once the time is over, and whoever reads it sees its end.
- What was read until then is not taken for whole: the block ends with TimeoutError, whatever else it did.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final

AGAIN_SECONDS: Final = 0.1
"""How often a socket is looked for."""


@contextlib.contextmanager
def deadline(sock: Callable[[], Any], seconds: float | None) -> Iterator[None]:
    """Shut a socket down after so many seconds; None for never. Raises TimeoutError if the block took longer.

    `sock` gives the socket that is in use then, or what has it as its `socket`. The time counts from when
    there is one; until then, its own timeout bounds how long it takes to connect to each address.
    """
    if seconds is None:
        yield
        return
    ended, over = threading.Event(), threading.Event()

    def shut_down() -> None:
        while sock() is None:
            if ended.wait(AGAIN_SECONDS):
                return
        if not ended.wait(seconds):
            over.set()
            _shut_down(sock())

    watch = threading.Thread(target=shut_down, daemon=True)
    watch.start()
    try:
        yield
    except Exception as problem:
        if over.is_set():
            raise _too_late(seconds) from problem
        raise
    finally:
        ended.set()
        watch.join()
    if over.is_set():
        raise _too_late(seconds)


def _shut_down(found: Any) -> None:
    while found is not None and not isinstance(found, socket.socket):
        # TLS within the TLS of a proxy is an object above a socket.
        found = getattr(found, "socket", None)
    if found is not None:
        with contextlib.suppress(OSError):
            # That of an SSLSocket would also take its TLS away from whoever is reading.
            socket.socket.shutdown(found, socket.SHUT_RDWR)


def _too_late(seconds: float) -> TimeoutError:
    return TimeoutError(f"it took longer than {seconds:g} s")
