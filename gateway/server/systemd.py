"""The state of the process, told to systemd over the socket that it names (sd_notify(3)).

Rules kept here:
- READY is sent once the gateway is ready, and after each reload; never before the gateway was ready.
- The watchdog is fed by the event loop itself, so that it starves if the loop is blocked.
- Nothing waits for systemd: what its socket does not take yet is sent with the next look.
"""

from __future__ import annotations

import asyncio
import enum
import socket
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from gateway.admin.health import Health

LOOK_SECONDS: Final = 0.25
_SHORTEST_LOOK: Final = 0.05
_MOST_UNSENT: Final = 16
_MOST_STATUS: Final = 500


@dataclass(frozen=True, slots=True)
class NotifySocket:
    """The socket of systemd, and the seconds within which it wants to hear from us; 0.0 for no watchdog."""

    address: str
    watchdog: float = 0.0

    @classmethod
    def of(cls, variables: Mapping[str, str], pid: int) -> NotifySocket | None:
        """Return what the environment says, as sd_notify(3) and sd_watchdog_enabled(3) describe it.

        `pid` is that of this process: the watchdog may be for another one. Sockets of virtual machines
        (`vsock:`) are not supported.
        """
        address = variables.get("NOTIFY_SOCKET", "")
        if address[:1] not in ("/", "@"):
            return None
        interval = variables.get("WATCHDOG_USEC", "")
        ours = variables.get("WATCHDOG_PID", str(pid)) == str(pid)
        watched = ours and interval.isascii() and interval.isdigit()
        return cls(address, int(interval) / 1e6 if watched else 0.0)


class _State(enum.Enum):
    """The state that systemd knows."""

    STARTING = enum.auto()
    READY = enum.auto()
    STOPPING = enum.auto()


class Announcer:
    """Tells systemd the state of the gateway.

    Args:
        target: where systemd listens.
        health: the state.
        monotonic: gives nanoseconds of CLOCK_MONOTONIC, by which systemd orders its signal and our reload.
    """

    def __init__(self, target: NotifySocket, health: Health, monotonic: Callable[[], int]) -> None:
        address = target.address
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._feed_seconds = target.watchdog / 2
        self._health = health
        self._monotonic = monotonic
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._unsent: deque[str] = deque(maxlen=_MOST_UNSENT)
        self._state = _State.STARTING
        self._status = ""

    async def run(self) -> None:
        """Follow the state, and feed the watchdog; returns only by cancellation."""
        loop, feed = asyncio.get_running_loop(), self._feed_seconds
        look = max(_SHORTEST_LOOK, min(LOOK_SECONDS, feed or LOOK_SECONDS))
        next_feed = loop.time()
        while True:
            self._look()
            if feed and loop.time() >= next_feed:
                next_feed = loop.time() + feed - look / 2
                self._send("WATCHDOG=1")
            self._flush()
            await asyncio.sleep(look)

    def reloading(self) -> None:
        """Say that the configuration is read again."""
        if self._state is _State.READY:
            self._send(f"RELOADING=1\nMONOTONIC_USEC={self._monotonic() // 1000}")

    def reloaded(self) -> None:
        """Say that the configuration was read, be it live or refused."""
        if self._state is _State.READY:
            self._send("READY=1")

    def stopping(self) -> None:
        """Say that the gateway ends."""
        self._state = _State.STOPPING
        self._send("STOPPING=1")

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _look(self) -> None:
        """Say what has changed since the last look."""
        if self._state is _State.STARTING and self._health.ready:
            self._state = _State.READY
            self._send("READY=1")
        if (status := _status(self._health)) != self._status:
            self._status = status
            self._send(f"STATUS={status}")

    def _send(self, message: str) -> None:
        self._unsent.append(message)
        self._flush()

    def _flush(self) -> None:
        while self._unsent:
            try:
                self._socket.sendto(self._unsent[0].encode("utf-8", "replace"), self._address)
            except BlockingIOError:
                return
            except OSError:
                # Nobody listens there: it makes no difference for clients.
                pass
            self._unsent.popleft()


def _status(health: Health) -> str:
    """Return the state in one line."""
    if reasons := health.reasons:
        text = f"not ready: {'; '.join(reasons)}"
    elif health.degraded:
        text = f"degraded: {'; '.join(f'{name}: {reason}' for name, reason in health.degraded.items())}"
    else:
        text = "ready"
    return " ".join(text.split())[:_MOST_STATUS]
