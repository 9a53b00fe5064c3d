"""The HTTP session with a collector of traces, which may send anything, as slowly as it likes.

Rules kept here:
- To connect to an address, to send, and to receive the head of the response each take the timeout of the
  exporter at most: a collector that sends a byte now and then is given up. Of a host name with several
  addresses, each one that does not respond takes the whole timeout.
- To use the connection again, a body of a known length of `MOST_READ` bytes or less is read, for
  `BODY_SECONDS`, as it comes: a compressed one is not unpacked. Any other body is not read, and its
  connection closed.
- Nothing of a response is kept: no cookie either.
- A response whose head is whole counts by its status, whatever becomes of its body. An interim response and a
  redirection are failures.
"""

from __future__ import annotations

import contextlib
import io
from typing import Any, Final

from requests import PreparedRequest, Response, Session
from requests.adapters import HTTPAdapter
from urllib3 import BaseHTTPResponse, HTTPConnectionPool, HTTPResponse, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError

from gateway.socket_deadline import deadline

MOST_READ: Final = 64 * 1024
BODY_SECONDS: Final = 1.0
_NEITHER: Final = frozenset([*range(100, 200), *range(300, 400)])
"""The statuses that the exporter would take for success. Behind an interim one another response comes."""


class NeitherError(Exception):
    """A response says neither success nor failure; the exporter does not send its spans again."""


def collector_session() -> Session:
    """Return a session for an exporter."""
    session = Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, _BoundedAdapter())
    return session


class _Connection(HTTPConnection):
    """A connection whose timeout is that of each step, and not of each receive."""

    def connect(self) -> None:
        """Connect. Raises TimeoutError."""
        with deadline(lambda: self.sock, self.timeout):
            super().connect()

    def request(self, *args: Any, **options: Any) -> None:
        """Send a request. Raises TimeoutError."""
        with deadline(lambda: self.sock, self.timeout):
            super().request(*args, **options)

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]
        """Return a response once its head is here. Raises TimeoutError and NeitherError."""
        response = self._response_in_time()
        if response.status in _NEITHER:
            response.close()
            raise NeitherError(f"the collector responds with {response.status}: neither success nor failure")
        return response

    def _response_in_time(self) -> HTTPResponse:
        with deadline(lambda: self.sock, self.timeout):
            return super().getresponse()


class _TlsConnection(_Connection, HTTPSConnection):
    """The same over TLS."""


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class _BoundedAdapter(HTTPAdapter):
    """Reads the body of a response if it is short and its length is known."""

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        """Make the pools of connections."""
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        """Return the pools of connections through a proxy."""
        manager = super().proxy_manager_for(proxy, **options)
        manager.pool_classes_by_scheme = _POOLS
        return manager

    def build_response(self, req: PreparedRequest, resp: BaseHTTPResponse) -> Response:
        """Return a response with its body, if that is read."""
        response, body = super().build_response(req, resp), b""
        # A response that ends its connection has taken the socket away from it.
        used = resp.connection.sock if isinstance(resp.connection, _Connection) else None
        if used is not None and resp.length_remaining is not None and resp.length_remaining <= MOST_READ:
            with contextlib.suppress(HTTPError, TimeoutError), deadline(lambda: used, BODY_SECONDS):
                body = resp.read(MOST_READ, decode_content=False)
        if not resp.closed:
            resp.close()
        response.raw = io.BytesIO(body)
        return response


_POOLS: Final = {"http": _Pool, "https": _TlsPool}
