"""The log of a process: request lines in batches and application events at once, in order on one stream.

Rules kept here:
- Recording a request is one append; lines are encoded in small batches, so that no turn of the event loop is
  long, and passed to the sink in large ones: each of those wakes its thread.
- An event is passed on behind the request lines that were recorded before it. It is urgent, so it is dropped
  later than they are: see `sink`.
- Nothing here blocks, and no failure of the stream is raised: lost lines are counted in `dropped`.
- No logging configuration is global: each log has its own stream.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, BinaryIO, Final, TextIO, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from gateway.telemetry.access_log import (
    AccessEntry,
    ConsoleLines,
    JsonLines,
    Timestamps,
    console_line,
    json_text,
    quoted,
)
from gateway.telemetry.sink import LineSink, open_sink

# Encoding a line takes 2 us. An entry may hold up to 16 KiB that a client sent; its line is bounded.
_MOST_ENTRIES: Final = 64
_MOST_BYTES: Final = 1 << 16


class Log:
    """Request lines and events on one stream; `events` is the structlog logger of the latter."""

    def __init__(
        self,
        stream: TextIO | BinaryIO,
        fmt: str = "auto",
        level: str = "info",
        *,
        now: Callable[[], float] = time.time,
        sink: LineSink | None = None,
    ) -> None:
        """Take `fmt` (`auto`, `json` or `console`), the lowest `level` of events, and `now` in Unix seconds.

        Raises KeyError for an unknown level.
        """
        console = is_console(stream, fmt)
        self._sink = sink or open_sink(stream)
        colours = console and stream.isatty()
        self._line: Callable[[AccessEntry], bytes] = ConsoleLines(colours=colours) if console else JsonLines()
        self._entries: list[AccessEntry] = []
        self._encoded: list[bytes] = []
        self._bytes = 0
        render = _ConsoleEvents(colours=colours) if console else _json_event
        self.events = _logger(self._event, render, level, now)

    @property
    def dropped(self) -> int:
        """Return how many lines were never written."""
        return self._sink.dropped

    def record(self, entry: AccessEntry) -> None:
        """Log a request with the next batch; the caller neither changes nor reads `entry` from then on."""
        self._entries.append(entry)
        if len(self._entries) >= _MOST_ENTRIES:
            self._encode()
            if self._bytes >= _MOST_BYTES:
                self.flush()

    def flush(self) -> None:
        """Pass the recorded requests to the sink."""
        self._encode()
        if self._encoded:
            encoded, self._encoded, self._bytes = self._encoded, [], 0
            self._sink.put(b"".join(encoded))

    def _encode(self) -> None:
        entries, self._entries = self._entries, []
        lines = b"".join(map(self._line, entries))
        if lines:
            self._encoded.append(lines)
            self._bytes += len(lines)

    async def run(self, interval: float = 0.2) -> None:
        """Flush every `interval` seconds until cancelled."""
        while True:
            await asyncio.sleep(interval)
            self.flush()

    def close(self, patience: float = 1.0) -> None:
        """Write the remaining lines, for `patience` seconds at most; later lines are dropped."""
        self.flush()
        self._sink.close(patience)

    def _event(self, text: str) -> None:
        self.flush()
        self._sink.put(text.encode() + b"\n", urgent=True)


def is_console(stream: TextIO | BinaryIO, fmt: str) -> bool:
    """Return whether lines are for people: `fmt` is `console`, or it is `auto` and `stream` is a terminal."""
    return fmt == "console" or (fmt == "auto" and stream.isatty())


def _logger(
    write: Callable[[str], None],
    render: Callable[[WrappedLogger, str, EventDict], str],
    level: str,
    now: Callable[[], float],
) -> FilteringBoundLogger:
    stamp = Timestamps()

    def add_timestamp(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        event["timestamp"] = stamp.at(now())
        return event

    processors: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.format_exc_info,
        add_timestamp,
        render,
    ]
    logger: Any = structlog.wrap_logger(
        _EventLogger(write),
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        context_class=dict,
        cache_logger_on_first_use=False,
    )
    return cast("FilteringBoundLogger", logger.bind())


class _EventLogger:
    """The logger to which structlog passes rendered events, at each level."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self.debug = self.info = self.warning = self.error = self.critical = write


def _json_event(_: WrappedLogger, __: str, event: EventDict) -> str:
    first = {name: event.pop(name) for name in ("timestamp", "level", "event")}
    return json_text(first | dict(event))


class _ConsoleEvents:
    """Renders an application event for people; a traceback follows, with each of its lines marked."""

    def __init__(self, *, colours: bool) -> None:
        self._colours = colours

    def __call__(self, _: WrappedLogger, __: str, event: EventDict) -> str:
        timestamp, level, text = (event.pop(name) for name in ("timestamp", "level", "event"))
        traceback = str(event.pop("exception", ""))
        # Blanks are allowed in the text of an event; with any other special character it is shown as JSON.
        shown = text if all(map(_is_word, str(text).split(" "))) else quoted(text)
        line = console_line(timestamp, level, shown, dict(event), colours=self._colours)
        marked = (f"  | {part.encode('unicode_escape').decode()}\n" for part in traceback.splitlines())
        return (line + "".join(marked)).removesuffix("\n")


def _is_word(text: str) -> bool:
    return quoted(text) == text
