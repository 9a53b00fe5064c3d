"""The log: request lines in batches, application events one by one.

Rules kept here:
- Recording a request is one append; encoding and writing happen in `flush`.
- A reader that stalls stops neither the event loop nor the memory's bound: what it does not take is kept
  up to a number of lines, then counted and dropped.
- No logging configuration is global: a logger is built on the stream it was given.
"""

from __future__ import annotations

import asyncio
import io
import logging
import os
import select
import stat
import sys
import time
from collections.abc import Callable
from typing import Any, BinaryIO, Final, Protocol, TextIO, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from gateway.telemetry.lines import (
    AccessEntry,
    ConsoleLines,
    JsonLines,
    Timestamps,
    console_line,
    json_text,
    quoted,
)

# How soon a stalled reader is offered the rest: a pipe holds 64 KiB, so this allows some 13 MB a second.
_RETRY_SECONDS: Final = 0.005


class _Sink(Protocol):
    def take(self, lines: bytes, start: int, patience: float) -> int:
        """Write a piece that begins at `start`; how many bytes went, 0 after `patience` seconds of stall.

        Raises OSError if the reader is gone.
        """


class _Descriptor:
    """A pipe, socket, terminal or file, written to only as far as it does not block.

    `select` promises room for PIPE_BUF bytes, and a pipe takes that many in one piece, so whole lines of
    up to this size are never torn by another writer to the same pipe. Files never stall: they take all.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        mode = os.fstat(descriptor).st_mode
        stalls = stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(descriptor)
        self._piece = select.PIPE_BUF if stalls else sys.maxsize

    def take(self, lines: bytes, start: int, patience: float) -> int:
        if not select.select((), (self._descriptor,), (), patience)[1]:
            return 0
        try:
            return os.write(self._descriptor, lines[start : self._end(lines, start)])
        except BlockingIOError:
            # Whoever shares the descriptor made it non-blocking, and it filled up in between.
            return 0

    def _end(self, lines: bytes, start: int) -> int:
        """Where the piece of whole lines that begins at `start` ends; too long a line is its own."""
        if len(lines) - start <= self._piece:
            return len(lines)
        end = lines.rfind(b"\n", start, start + self._piece) + 1
        return end or lines.index(b"\n", start) + 1


class _Memory:
    """A stream without a descriptor; it takes everything at once."""

    def __init__(self, stream: TextIO | BinaryIO) -> None:
        self._stream = stream

    def take(self, lines: bytes, start: int, _patience: float) -> int:
        piece = lines[start:]
        if isinstance(self._stream, io.TextIOBase):
            self._stream.write(piece.decode())
        else:
            cast("BinaryIO", self._stream).write(piece)
        return len(piece)


class AccessLog:
    """The request log on one stream. `dropped` counts the lines that were never written."""

    def __init__(self, stream: TextIO | BinaryIO, *, console: bool, most_pending: int = 10_000) -> None:
        self._sink = _sink_for(stream)
        self._line: Callable[[AccessEntry], bytes] = ConsoleLines() if console else JsonLines()
        self._most_pending = most_pending
        self._pending: list[AccessEntry] = []
        self._unsent = b""
        self.dropped = 0

    def record(self, entry: AccessEntry) -> None:
        """Keep `entry` for the next flush; the caller changes it no more."""
        if len(self._pending) < self._most_pending:
            self._pending.append(entry)
        else:
            self.dropped += 1

    def flush(self, patience: float = 0.0) -> None:
        """Write everything pending, as far as the stream takes it.

        `patience` is how many seconds a full stream is waited for before the rest is left for a later
        flush; more than 0 blocks the caller and is meant for the end of the process.
        """
        if self._unsent:
            self._send(self._unsent, patience)
        if self._pending and not self._unsent:
            batch, self._pending = self._pending, []
            self._send(b"".join(map(self._line, batch)), patience)

    async def run(self, interval: float = 0.2) -> None:
        """Flush every `interval` seconds for ever; after cancelling it, flush once more."""
        while True:
            await asyncio.sleep(_RETRY_SECONDS if self._unsent else interval)
            self.flush()

    def _send(self, lines: bytes, patience: float) -> None:
        start = 0
        try:
            while start < len(lines) and (taken := self._sink.take(lines, start, patience)):
                start += taken
        except OSError:
            # The reader is gone or the disk is full: requests go on being answered.
            self.dropped += lines.count(b"\n", start)
            start = len(lines)
        self._unsent = lines[start:]


def is_console(stream: TextIO | BinaryIO, fmt: str) -> bool:
    """Whether lines on `stream` are for people: `fmt` says so, or is `auto` and it is a terminal."""
    return fmt == "console" or (fmt == "auto" and stream.isatty())


def configure_log(
    stream: TextIO, fmt: str, level: str, *, now: Callable[[], float] = time.time
) -> FilteringBoundLogger:
    """A structlog logger for application events at `level` or above, written to `stream` at once.

    `fmt` is `auto`, `json` or `console`; `now` gives Unix seconds. Raises KeyError for an unknown level.
    """
    stamp = Timestamps()

    def add_timestamp(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        event["timestamp"] = stamp.at(now())
        return event

    processors: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.format_exc_info,
        add_timestamp,
        _ConsoleEvents(colours=stream.isatty()) if is_console(stream, fmt) else _json_event,
    ]
    logger: Any = structlog.wrap_logger(
        # Not PrintLogger: print() writes text and line feed apart, and another writer fits in between.
        structlog.WriteLogger(stream),
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        context_class=dict,
        cache_logger_on_first_use=False,
    )
    return cast("FilteringBoundLogger", logger.bind())


def _json_event(_: WrappedLogger, __: str, event: EventDict) -> str:
    first = {name: event.pop(name) for name in ("timestamp", "level", "event")}
    return json_text(first | dict(event))


class _ConsoleEvents:
    """Renders an application event for people; a traceback follows, each of its lines marked."""

    def __init__(self, *, colours: bool) -> None:
        self._colours = colours

    def __call__(self, _: WrappedLogger, __: str, event: EventDict) -> str:
        timestamp, level, text = (event.pop(name) for name in ("timestamp", "level", "event"))
        traceback = str(event.pop("exception", ""))
        # Blanks are welcome in an event's text; whatever else is special shows up as JSON.
        shown = text if all(map(_is_word, str(text).split(" "))) else quoted(text)
        line = console_line(timestamp, level, shown, dict(event), colours=self._colours)
        marked = (f"  | {part.encode('unicode_escape').decode()}\n" for part in traceback.splitlines())
        return (line + "".join(marked)).removesuffix("\n")


def _is_word(text: str) -> bool:
    return quoted(text) == text


def _sink_for(stream: TextIO | BinaryIO) -> _Sink:
    try:
        return _Descriptor(stream.fileno())
    except io.UnsupportedOperation:
        return _Memory(stream)
