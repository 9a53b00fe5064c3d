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


@contextlib.contextmanager
def deadline(sock: Callable[[], socket.socket | None], seconds: float | None) -> Iterator[None]:
    """Shut a socket down after so many seconds; None for never. Raises TimeoutError if the block took longer.

    `sock` gives the socket that is in use then. Until a connection is made, there may be none that can be
    shut down: the timeout of a socket bounds how long it takes to connect to one address, and a handshake of
    TLS.
    """
    if seconds is None:
        yield
        return
    over = threading.Event()

    def shut_down() -> None:
        over.set()
        if (found := sock()) is not None:
            with contextlib.suppress(OSError):
                # That of an SSLSocket would also take its TLS away from whoever is reading.
                socket.socket.shutdown(found, socket.SHUT_RDWR)

    timer = threading.Timer(seconds, shut_down)
    timer.daemon = True
    timer.start()
    try:
        yield
    except Exception as problem:
        if over.is_set():
            raise _too_late(seconds) from problem
        raise
    finally:
        timer.cancel()
        timer.join()
    if over.is_set():
        raise _too_late(seconds)


def _too_late(seconds: float) -> TimeoutError:
    return TimeoutError(f"it took longer than {seconds:g} s")
