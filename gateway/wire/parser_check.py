"""Checks at the start that the request parser reads recorded heads as it did when it was tested.

Rules kept here:
- aiohttp's parser is no documented API, so the gateway feeds it recorded heads before it listens, and does
  not run with a parser that reads one of them differently.
"""

from __future__ import annotations

import asyncio
from typing import Any

from gateway.wire.aiohttp_parser import new_parser

_HOST = b"Host: x\r\n"
_ACCEPTED: tuple[tuple[bytes, tuple[Any, ...]], ...] = (
    (
        b"GET /a%2Fb?c=%zz HTTP/1.1\r\nHost: x\r\nX-Blnk-Key:  k \r\n\r\n",
        ("GET", "/a%2Fb?c=%zz", (1, 1), ((b"Host", b"x"), (b"X-Blnk-Key", b"k")), False, False, b""),
    ),
    (
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi",
        ("POST", "/", (1, 1), ((b"Host", b"x"), (b"Content-Length", b"2")), False, False, b"hi"),
    ),
    (
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;e=v\r\na\r\n1\r\nb\r\n0\r\n\r\n",
        ("POST", "/", (1, 1), ((b"Host", b"x"), (b"Transfer-Encoding", b"chunked")), False, True, b"ab"),
    ),
    # Framed by its length alone: an empty coding is refused by rules of our own.
    (
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: \r\nContent-Length: 2\r\n\r\nhi",
        (
            *("POST", "/", (1, 1)),
            ((b"Host", b"x"), (b"Transfer-Encoding", b""), (b"Content-Length", b"2")),
            *(False, False, b"hi"),
        ),
    ),
    (b"GET / HTTP/1.0\r\n\r\n", ("GET", "/", (1, 0), (), True, False, b"")),
    (
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        ("GET", "/", (1, 1), ((b"Host", b"x"), (b"Connection", b"close")), True, False, b""),
    ),
)
_REFUSED: tuple[bytes, ...] = (
    b"POST / HTTP/1.1\r\n" + _HOST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\n" + _HOST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    b"POST / HTTP/1.1\r\n" + _HOST + b"Content-Length: +3\r\n\r\nabc",
    b"POST / HTTP/1.1\r\n" + _HOST + b"Transfer-Encoding: identity\r\n\r\n",
    b"POST / HTTP/1.1\r\n" + _HOST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + _HOST + b"A: b\r\n c\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + _HOST + b"A : b\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + _HOST + b"A: a\0b\r\n\r\n",
    b"GET / HTTP/1.1\nHost: x\n\n",
    b"GET / HTTP/1.1\r\n" + _HOST + _HOST + b"\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET /\xe9 HTTP/1.1\r\n" + _HOST + b"\r\n",
    b"get / HTTP/1.1\r\n" + _HOST + b"\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
)


def parser_misreads(loop: asyncio.AbstractEventLoop) -> list[bytes]:
    """Return the recorded heads that the installed parser reads differently than when they were recorded."""
    wrong = [head for head, expected in _ACCEPTED if _read(head, loop) != expected]
    return wrong + [head for head in _REFUSED if _read(head, loop) is not None]


def _read(head: bytes, loop: asyncio.AbstractEventLoop) -> tuple[Any, ...] | None:
    try:
        messages, _, _ = new_parser(loop).feed_data(head)
    except Exception:  # whatever it raises is a refusal
        return None
    if len(messages) != 1:
        return ()
    message, payload = messages[0]
    body = payload.read_nowait(-1)
    if payload.total_bytes != len(body) or message._replace(path="*").path != "*":
        return ()
    return (
        message.method,
        message.path,
        tuple(message.version),
        tuple(message.raw_headers),
        message.should_close,
        message.chunked,
        body,
    )
