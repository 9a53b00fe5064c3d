"""The HTTP session with a collector of traces, which may send anything.

Rules kept here:
- Of a response, `MOST_READ` bytes are read, as they come: compressed ones are not unpacked. The connection of
  a longer response, or of a broken one, is closed; any other one is used again.
- Nothing of a response is kept: no cookie either.
- A response that has a status counts by it, whatever becomes of its body.
"""

from __future__ import annotations

import contextlib
import io
from typing import Final

from requests import PreparedRequest, Response, Session
from requests.adapters import HTTPAdapter
from urllib3 import BaseHTTPResponse
from urllib3.exceptions import HTTPError

MOST_READ: Final = 64 * 1024


def collector_session() -> Session:
    """Return a session for an exporter."""
    session = Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, _BoundedAdapter())
    return session


class _BoundedAdapter(HTTPAdapter):
    """Reads the beginning of each response."""

    def build_response(self, req: PreparedRequest, resp: BaseHTTPResponse) -> Response:
        """Return a response with as much of its body as is read."""
        response, body = super().build_response(req, resp), b""
        with contextlib.suppress(HTTPError):
            body = resp.read(MOST_READ, decode_content=False)
        if not resp.closed:
            resp.close()
        response.raw = io.BytesIO(body)
        return response
