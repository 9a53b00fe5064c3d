"""The parser of PROXY headers: what the specification allows, and nothing else."""

from __future__ import annotations

import contextlib
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.proxy_header import (
    MOST_BYTES,
    UNKNOWN_PEER,
    BadProxyHeaderError,
    ProxyHeader,
    read_proxy_header,
)
from tests.conftest import examples

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
FOUR = socket.inet_aton("203.0.113.7") + socket.inet_aton("192.0.2.1") + b"\x30\x39\x01\xbb"
SIX = socket.inet_pton(socket.AF_INET6, "2001:db8::7") + socket.inet_pton(socket.AF_INET6, "2001:db8::1")
SIX += b"\x30\x39\x01\xbb"
MAPPED = socket.inet_pton(socket.AF_INET6, "::ffff:203.0.113.7") * 2 + b"\x30\x39\x01\xbb"
UNIX = b"/run/client".ljust(108, b"\0") * 2
EXTENSION = b"\x02\x00\x07example"


def binary(command: int, family: int, block: bytes) -> bytes:
    """Return a header of version 2."""
    return SIGNATURE + bytes((command, family)) + len(block).to_bytes(2, "big") + block


VALID = {
    b"PROXY TCP4 203.0.113.7 192.0.2.1 12345 443\r\n": "203.0.113.7",
    b"PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n": "0.0.0.0",
    b"PROXY TCP6 2001:db8::7 2001:db8::1 12345 443\r\n": "2001:db8::7",
    b"PROXY TCP6 2001:DB8:0:0:0:0:0:7 ::1 1 1\r\n": "2001:db8::7",
    b"PROXY TCP6 ::ffff:203.0.113.7 ::1 1 1\r\n": "203.0.113.7",
    b"PROXY UNKNOWN\r\n": UNKNOWN_PEER,
    b"PROXY UNKNOWN " + b"f" * 91 + b"\r\n": UNKNOWN_PEER,
    binary(0x21, 0x11, FOUR): "203.0.113.7",
    binary(0x21, 0x11, FOUR + EXTENSION): "203.0.113.7",
    binary(0x21, 0x21, SIX): "2001:db8::7",
    binary(0x21, 0x21, MAPPED): "203.0.113.7",
    binary(0x21, 0x00, b""): UNKNOWN_PEER,
    binary(0x21, 0x00, b"anything"): UNKNOWN_PEER,
    binary(0x21, 0x12, FOUR): UNKNOWN_PEER,
    binary(0x21, 0x22, SIX): UNKNOWN_PEER,
    binary(0x21, 0x31, UNIX): UNKNOWN_PEER,
    binary(0x21, 0x32, UNIX): UNKNOWN_PEER,
    binary(0x20, 0x00, b""): "",
    binary(0x20, 0x11, FOUR): "",
    binary(0x20, 0x99, b"anything"): "",
    binary(0x21, 0x11, FOUR.ljust(MOST_BYTES - 16, b"\0")): "203.0.113.7",
}
INVALID = (
    b"GET / HTTP/1.1\r\n",
    b"\x16\x03\x01",
    b"proxy TCP4",
    b"PROXY\r\n",
    b"PROXY \r\n",
    b"PROXY TCP4\r\n",
    b"PROXY UDP4 1.2.3.4 1.2.3.4 1 1\r\n",
    b"PROXY UNKNOWNX\r\n",
    b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
    b"PROXY TCP4 1.2.3.4 1.2.3.4 1 1 \r\n",
    b"PROXY TCP4  1.2.3.4 1.2.3.4 1 1\r\n",
    b"PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n",
    b"PROXY TCP4 1.2.3.4 1.2.3.4 01 1\r\n",
    b"PROXY TCP4 1.2.3.4 1.2.3.4 -1 1\r\n",
    b"PROXY TCP4 01.2.3.4 1.2.3.4 1 1\r\n",
    b"PROXY TCP4 1.2.3.256 1.2.3.4 1 1\r\n",
    b"PROXY TCP4 ::1 ::1 1 1\r\n",
    b"PROXY TCP6 1.2.3.4 ::1 1 1\r\n",
    b"PROXY TCP6 fe80::1%eth0 ::1 1 1\r\n",
    b"PROXY TCP4 1.2.3.4 1.2.3.4 1 1\n" + b"x" * 107,
    b"PROXY TCP4 " + b"1" * 200,
    b"PROXY UNKNOWN " + b"f" * 92 + b"\r\n",
    binary(0x11, 0x11, FOUR),
    binary(0x22, 0x11, FOUR),
    binary(0x2F, 0x00, b""),
    binary(0x21, 0x11, FOUR[:-1]),
    binary(0x21, 0x21, FOUR),
    binary(0x21, 0x13, FOUR),
    binary(0x21, 0x41, FOUR),
    binary(0x21, 0x10, FOUR),
    binary(0x21, 0x11, FOUR.ljust(MOST_BYTES - 15, b"\0")),
    SIGNATURE[:-1] + b"X",
)


@pytest.mark.parametrize(("header", "client"), VALID.items())
def test_a_header_names_the_client_and_ends_where_it_says(header: bytes, client: str) -> None:
    """A header is read with whatever follows it, and is not whole before its last byte."""
    for behind in (b"", b"GET / HTTP/1.1\r\n", header):
        assert read_proxy_header(header + behind) == ProxyHeader(client, len(header))
    assert [read_proxy_header(header[:length]) for length in range(len(header))] == [None] * len(header)


@pytest.mark.parametrize("data", INVALID)
def test_anything_else_is_refused(data: bytes) -> None:
    """What is no header is refused, with text that does not repeat it."""
    with pytest.raises(BadProxyHeaderError, match=r"^(it|its|the)\b[A-Za-z ]+$"):
        read_proxy_header(data)


def test_what_begins_with_no_signature_is_refused_with_its_first_byte() -> None:
    """A TLS handshake or a request is refused at once, not when it is long enough."""
    for first in range(256):
        refused = first not in (ord("P"), ord("\r"))
        with pytest.raises(BadProxyHeaderError) if refused else contextlib.nullcontext():
            assert read_proxy_header(bytes((first,))) is None


PIECES = st.sampled_from([*VALID, *INVALID, SIGNATURE, b"PROXY ", b"TCP4 ", b"1.2.3.4 ", b"\r\n", b"\0"])


@given(st.one_of(st.binary(max_size=300), st.lists(st.one_of(PIECES, st.binary(max_size=8))).map(b"".join)))
@examples(400)
def test_no_bytes_make_it_raise_anything_else_or_read_beyond_its_bound(data: bytes) -> None:
    """Whatever comes, the parser returns or raises its own error, and no header goes beyond the bytes."""
    try:
        header = read_proxy_header(data)
    except BadProxyHeaderError:
        return
    if header is None:
        assert len(data) < MOST_BYTES
    else:
        assert header.length <= min(len(data), MOST_BYTES)
        assert read_proxy_header(data[: header.length]) == header


@given(st.one_of(st.binary(max_size=300), st.lists(PIECES).map(b"".join)), st.data())
@examples(200)
def test_pieces_change_nothing(data: bytes, chance: st.DataObject) -> None:
    """A prefix gives the same header or the same refusal as the whole, or is not whole yet."""

    def outcome(part: bytes) -> ProxyHeader | str | None:
        try:
            return read_proxy_header(part)
        except BadProxyHeaderError:
            return "refused"

    found = outcome(data[: chance.draw(st.integers(0, len(data)))])
    assert found in (None, outcome(data))
