"""Heads of HTTP/1.1 messages as bytes: built and read, by the tests' clients and by their stand-in for Core.

Rules kept here:
- Nothing is checked: a message that the gateway should have refused is read as a careless server reads it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

HEAD_END = b"\r\n\r\n"
GARBAGE = "garbage"

_STATUS = re.compile(rb"HTTP/1\.1 (\d\d\d)")
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)

Headers = list[tuple[str, str]]


def values_of(headers: Iterable[tuple[str, str]], name: str) -> list[str]:
    """Return every value of the header; its name is compared without case."""
    wanted = name.lower()
    return [value for key, value in headers if key.lower() == wanted]


def build_head(start_line: str, headers: Iterable[tuple[str, str]]) -> bytes:
    """Return a head that ends in its empty line; text is encoded as Latin-1."""
    lines = [start_line, *(f"{name}: {value}" for name, value in headers)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def read_head(data: bytes) -> tuple[str, Headers]:
    """Return the start line and the headers of a head that ends in its empty line."""
    start_line, *lines = data[: -len(HEAD_END)].decode("latin-1").split("\r\n")
    return start_line, [read_header(line) for line in lines]


def read_header(line: str) -> tuple[str, str]:
    """Return the name and the value of a header or trailer; a line without a colon is a name alone."""
    name, _, value = line.partition(":")
    return name, value.strip()


def read_chunk_size(line: bytes) -> int:
    """Return the size that a chunk's first line announces. Raises ValueError."""
    return int(line.split(b";")[0], 16)


def read_status_and_length(head: bytes) -> tuple[str, int]:
    """Return the status of a response, or GARBAGE, and its Content-Length, 0 if it has none.

    It is read without a list of headers, for clients that count thousands of responses in a second.
    """
    status, length = _STATUS.match(head), _LENGTH.search(head + b"\r\n")
    return status[1].decode() if status else GARBAGE, int(length[1]) if length else 0
