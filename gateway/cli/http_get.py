"""One GET of a command, whose peer may be anything.

Rules kept here:
- The whole exchange has a longest time, however slowly the peer sends.
- The beginning of a body is read, and no more, whatever the sizes of its chunks say.
"""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Final

from gateway.socket_deadline import deadline

_MOST_READ: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class GetResponse:
    """A response, with `Proxy-Status` and the beginning of its body."""

    status: int
    proxy_status: str
    body: bytes


def get(
    connection: http.client.HTTPConnection, target: str, headers: Mapping[str, str], seconds: float
) -> GetResponse:
    """Return the response to a GET that is whole after so many seconds, and close the connection.

    It is made if it is not open, which takes its own timeout at most.

    Raises:
        OSError: there is no connection, it was lost, or (TimeoutError) the time is over.
        ValueError: the target or a header cannot be sent.
        http.client.HTTPException: what responds does not speak HTTP.
    """
    with closing(connection):
        if connection.sock is None:
            connection.connect()
        # The connection forgets the socket of a response that ends it.
        used = connection.sock
        with deadline(lambda: used, seconds):
            connection.request("GET", target, headers=dict(headers))
            response = connection.getresponse()
            return GetResponse(response.status, response.getheader("Proxy-Status", ""), _beginning(response))


def _beginning(response: http.client.HTTPResponse) -> bytes:
    """Return the first bytes of a body: `read` takes a chunk of a negative size for one without end."""
    body = b""
    while len(body) < _MOST_READ and (part := response.read1(_MOST_READ - len(body))):
        body += part
    return body[:_MOST_READ]
