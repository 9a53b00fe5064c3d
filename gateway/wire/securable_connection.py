"""A client's connection that may be over TLS, as TLS and the listeners see it."""

from __future__ import annotations

import asyncio

from gateway.wire.client_certificate import ClientCertificate


class SecurableConnection(asyncio.Protocol):
    """A connection that may be over TLS.

    It is made before the handshake, with a transport whose extra info has an `sslcontext`, and may write once
    `secured` was called.
    """

    __slots__ = ()

    def secured(self, certificate: ClientCertificate) -> None:
        """Take note that the handshake is done, and what the client has shown."""

    def hold_records(self, size: int) -> None:
        """Take note of the bytes that are held of records: not whole, or not opened yet."""
