"""Bodies in chunks, taken out of their framing: what is read, and what is refused."""

from __future__ import annotations

import pytest

from gateway.wire.body_framing import ChunkedBody
from gateway.wire.errors import BadFramingError

LONGEST = 4096
TRAILERS = 64 * 1024


def read(*segments: bytes) -> tuple[bytes, bool, bytes]:
    """Return the body, whether it is whole, and what is left of the segments."""
    body, held, data = ChunkedBody(), b"", b""
    for segment in segments:
        text = held + segment
        held = text[body.read(text, 0, len(held)) :]
        data += body.take()
    return data, body.complete, held


@pytest.mark.parametrize(
    ("text", "data"),
    [
        (b"0\r\n\r\n", b""),
        (b"1000\r\n" + bytes(0x1000) + b"\r\n0\r\n\r\n", bytes(0x1000)),
        (b"000000000000000A\r\n0123456789\r\n000\r\n\r\n", b"0123456789"),
        (b'1;a;b=c;d="\\"\xff \t"\r\nx\r\n0;e\r\nA: b\r\nContent-Length: 5\r\n\r\n', b"x"),
    ],
)
def test_chunks_are_read_however_they_are_cut(text: bytes, data: bytes) -> None:
    """Sizes, extensions and trailers are framing, and nothing of them is in the body."""
    assert read(*[bytes([byte]) for byte in text], b"") == (data, True, b"")
    assert read(text + b"behind") == (data, True, b"behind")


@pytest.mark.parametrize(
    "text",
    [
        *(b"\r\n", b"g\r\n", b" 1\r\n", b"1 \r\n", b"+1\r\n", b"0x1\r\n", b"1_0\r\n", b"1" * 17 + b"\r\n"),
        *(b"1;\r\n", b"1;a=\r\n", b"1;a b\r\n", b'1;a="\r\n', b'1;a="b\r\n', b'1;a="\\"\r\n', b"1;a\x00\r\n"),
        *(b"1\nx", b"1\rx", b"1\r\nxy", b"1\r\nx\n", b"0\r\nA\r\n", b"0\r\nA : b\r\n", b"0\r\n b\r\n"),
    ],
)
def test_anything_else_is_refused_however_it_is_cut(text: bytes) -> None:
    """No other line is a size or a trailer, and no chunk is longer than its size."""
    with pytest.raises(BadFramingError):
        read(text)
    with pytest.raises(BadFramingError):
        read(*[bytes([byte]) for byte in text])


@pytest.mark.parametrize("text", [b"z", b"1\n", b"1\r\nxy", b"0\r\nA\x00"])
def test_what_cannot_become_a_chunk_is_refused_before_its_line_ends(text: bytes) -> None:
    """A client that frames its body wrongly does not wait for its time to be over."""
    with pytest.raises(BadFramingError):
        read(text)


@pytest.mark.parametrize("start", [b"1;", b"0\r\nA:"], ids=["size", "trailer"])
def test_lines_are_bounded_whole_or_not(start: bytes) -> None:
    """A line with a size, and a trailer, have 4,096 bytes at most, with their end."""
    line = start + b"a" * (LONGEST - len(start.rpartition(b"\n")[2]) - 2)
    read(line, b"\r\n")
    for segments in ((line + b"a\r\n",), (line + b"a", b"\r\n"), (line + b"aa",)):
        with pytest.raises(BadFramingError):
            read(*segments)


def test_trailers_are_bounded_together() -> None:
    """All trailers of a body have 64 KiB at most."""
    line = b"A: " + b"a" * 1019 + b"\r\n"
    read(b"0\r\n", *[line] * (TRAILERS // len(line)))
    with pytest.raises(BadFramingError):
        read(b"0\r\n", *[line] * (TRAILERS // len(line)), line)
