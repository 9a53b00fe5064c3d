"""The TLS of one client's connection: records in, bytes out, and the other way round. No I/O.

Rules kept here:
- OpenSSL does all of TLS; this only moves bytes into it and out of it.
- OpenSSL gets at most one record's worth of bytes at a time, because its buffers never shrink.
- It gets nothing before the first record is whole, so that a client which sends a part of it costs no more
  than that part.
- A session whose records carry next to no data is ended: a KeyUpdate (RFC 8446 section 4.6.3) has 27 bytes
  and costs 10 us or more.
- Records are opened for as long as the caller allows: those that carry a little between KeyUpdates are no
  reason to end a session, and 256 KiB of them take 30 ms.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable
from typing import Final

RECORD: Final = 16 * 1024
"""The most bytes that one record carries (RFC 8446 section 5.1)."""
HANDSHAKE_HOLDS: Final = 48 * 1024
"""The bytes that OpenSSL holds for a handshake that is not done."""
_HEADER: Final = 5
_PER_BYTE: Final = 32
"""The bytes of records that one byte of data may take: a record of one byte has 23, or 30 with TLS 1.2."""
_MOST_BARREN: Final = 2 * RECORD
"""The bytes of records beyond that."""
_HANDSHAKE_RECORD: Final = b"\x16"


class TlsSession:
    """One session, the server's side of it.

    `begun` says that OpenSSL has got the first record. `ended` says that the client has ended the session: no
    further bytes come. `partial` says that a record has come which is not whole, so that OpenSSL holds up to
    `RECORD` bytes of it.
    """

    __slots__ = ("_barren", "_context", "_incoming", "_outgoing", "_tls", "begun", "ended", "partial")

    _tls: ssl.SSLObject

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._barren = 0
        self.begun = False
        self.ended = False
        self.partial = False

    def shake_hands(self, records: bytes) -> bytes | None:
        """Go on with the handshake; return what came behind it once it is done, None before.

        Raises ssl.SSLError if it fails.
        """
        if not self.begun:
            self._tls = self._context.wrap_bio(self._incoming, self._outgoing, server_side=True)
            self.begun = True
        for start in range(0, len(records), RECORD):
            self._incoming.write(records[start : start + RECORD])
            with contextlib.suppress(ssl.SSLWantReadError):
                self._tls.do_handshake()
                return records[start + RECORD :]
        return None

    @property
    def unopened(self) -> bool:
        """True if OpenSSL has bytes that it has not looked at."""
        return self._incoming.pending > 0

    def certificate(self) -> bytes:
        """Return the certificate that the client has shown, in DER; empty for none."""
        return self._tls.getpeercert(binary_form=True) or b""

    def open(self, records: bytes, is_over: Callable[[], bool]) -> tuple[bytes, bytes]:
        """Return the bytes that `records` complete, and the rest of `records` once `is_over` returns True.

        Raises ssl.SSLError for a record that is not right, and for too many that carry nothing.
        """
        opened: list[bytes] = []
        self._open(records[:RECORD], opened)
        start = RECORD
        while start < len(records) and not is_over():
            self._open(records[start : start + RECORD], opened)
            start += RECORD
        return (opened[0] if len(opened) == 1 else b"".join(opened)), records[start:]

    def _open(self, records: bytes, opened: list[bytes]) -> None:
        before = len(opened)
        self._read(records, opened)
        carried = sum(map(len, opened[before:]))
        self._barren = max(0, self._barren + len(records) - _PER_BYTE * carried)
        if self._barren > _MOST_BARREN:
            raise ssl.SSLError("too many records without data")

    def _read(self, records: bytes, opened: list[bytes]) -> None:
        self._incoming.write(records)
        self.partial = False
        # Without this question each read of a whole record would be followed by one that raises.
        while not self.ended and (self._incoming.pending or self._tls.pending()):
            try:
                data = self._tls.read(RECORD)
            except ssl.SSLWantReadError:
                self.partial = True
                return
            if data:
                opened.append(data)
            else:
                self.ended = True

    def seal(self, data: bytes) -> bytes:
        """Return the records that carry `data`. Raises ssl.SSLError if the session is broken."""
        if len(data) <= RECORD:
            self._tls.write(data)
            return self._outgoing.read()
        sealed: list[bytes] = []
        for start in range(0, len(data), RECORD):
            self._tls.write(data[start : start + RECORD])
            sealed.append(self._outgoing.read())
        return b"".join(sealed)

    def close(self) -> bytes:
        """Return the record that ends this side (`close_notify`), after which nothing is sealed."""
        # It is written before OpenSSL finds that the client's own has not come.
        with contextlib.suppress(ssl.SSLError):
            self._tls.unwrap()
        return self._outgoing.read()

    def due(self) -> bytes:
        """Return what OpenSSL wants to send by itself: the handshake, a ticket, an alert."""
        return self._outgoing.read()


def begins_whole(records: bytes) -> bool:
    """Return True if the first record is whole, or is not one with which a handshake begins."""
    if not records.startswith(_HANDSHAKE_RECORD):
        return True
    if len(records) < _HEADER:
        return False
    length = int.from_bytes(records[3:_HEADER], "big")
    return length > RECORD or len(records) >= _HEADER + length
