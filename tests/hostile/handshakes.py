"""Handshakes of TLS that an attacker makes, who does not care whom it speaks with."""

from __future__ import annotations

import contextlib
import ssl
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.hostile.lines import Line
from tests.tls_records import Records, logged_secret

_PIECE = 1 << 16


def hello() -> bytes:
    """Return what begins a handshake; it may be sent again and again."""
    outgoing = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        _context().wrap_bio(ssl.MemoryBIO(), outgoing).do_handshake()
    return outgoing.read()


async def shake_hands(line: Line) -> Records:
    """Make a handshake, and return what can be sent behind it. Raises EOFError."""
    with TemporaryDirectory(prefix="blnk-gateway-hostile-") as folder:
        secrets = Path(folder) / "secrets"
        context = _context()
        context.keylog_filename = str(secrets)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing)
        first = b""
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                sent = outgoing.read()
                first = first or sent
                await line.send(sent)
                incoming.write(await line.take(_PIECE))
            else:
                await line.send(outgoing.read())
                return Records(tls, logged_secret(secrets, first))


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
