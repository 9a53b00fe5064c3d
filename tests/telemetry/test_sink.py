"""Lines go to descriptors that are full, gone, closed or out of space; nothing waits or is raised."""

from __future__ import annotations

import io
import os
import select
import socket
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.telemetry.sink import LineSink, open_sink
from tests.pipes import KINDS, Pipe, opened

LINE = b"a line of the log\n"
AT_ONCE = 0.5


@pytest.fixture(params=KINDS)
def pipe(request: pytest.FixtureRequest) -> Iterator[Pipe]:
    with opened(KINDS[request.param]) as made:
        yield made


def lines(first: int, last: int) -> bytes:
    return b"".join(b"line %d\n" % number for number in range(first, last))


def at_once(sink: LineSink, text: bytes) -> None:
    """Hand the text over, and check that this takes no time."""
    began = time.monotonic()
    sink.put(text)
    assert time.monotonic() - began < AT_ONCE


class TestNobodyReads:
    def test_nobody_waits_and_nothing_is_lost_within_the_bound(self, pipe: Pipe) -> None:
        sink = open_sink(pipe.stream)
        for number in range(0, 50_000, 1000):
            at_once(sink, lines(number, number + 1000))
        assert pipe.drained(sink) == lines(0, 50_000)
        assert sink.dropped == 0

    def test_it_was_full_before(self, pipe: Pipe) -> None:
        pipe.fill()
        sink = open_sink(pipe.stream)
        at_once(sink, LINE)
        assert pipe.drained(sink) == LINE

    def test_somebody_made_it_non_blocking(self, pipe: Pipe) -> None:
        os.set_blocking(pipe.stream.fileno(), False)
        sink = open_sink(pipe.stream)
        at_once(sink, lines(0, 50_000))
        assert pipe.drained(sink) == lines(0, 50_000)
        assert sink.dropped == 0

    def test_beyond_the_bound_whole_lines_are_dropped_and_counted(self, pipe: Pipe) -> None:
        pipe.fill()
        sink = open_sink(pipe.stream, most=10 * len(LINE) + 5, reserved=0)
        for _ in range(4):
            at_once(sink, LINE * 7)
        assert (pipe.drained(sink), sink.dropped) == (LINE * 10, 18)

    def test_the_reserve_is_for_urgent_lines(self, pipe: Pipe) -> None:
        pipe.fill()
        sink = open_sink(pipe.stream, most=10 * len(LINE), reserved=4 * len(LINE))
        sink.put(LINE * 8)
        sink.put(b"urgent\n", urgent=True)
        assert (pipe.drained(sink), sink.dropped) == (LINE * 6 + b"urgent\n", 2)

    def test_the_end_is_waited_for_only_so_long(self, pipe: Pipe) -> None:
        pipe.fill()
        sink = open_sink(pipe.stream)
        sink.put(LINE)
        began = time.monotonic()
        sink.close(0.1)
        assert 0.1 <= time.monotonic() - began < 0.1 + AT_ONCE

    def test_a_stopped_terminal_goes_on_where_it_stopped(self) -> None:
        with opened(KINDS["terminal"]) as terminal:
            termios.tcflow(terminal.stream, termios.TCOOFF)
            sink = open_sink(terminal.stream)
            at_once(sink, LINE)
            nothing = select.select([terminal.reader], [], [], 0.1)[0]
            termios.tcflow(terminal.stream, termios.TCOON)
            assert (nothing, terminal.drained(sink)) == ([], LINE)

    def test_a_socket_is_as_good(self) -> None:
        """A socket, which is what systemd's journal gives, is written like a pipe."""
        ours, theirs = socket.socketpair()
        with opened(lambda: (theirs.detach(), ours.detach())) as made:
            sink = open_sink(made.stream)
            at_once(sink, lines(0, 100_000))
            assert made.drained(sink) == lines(0, 100_000)


class TestErrors:
    def test_a_reader_that_is_gone_costs_the_lines(self) -> None:
        with opened(os.pipe) as pipe:
            sink = open_sink(pipe.stream)
            os.close(pipe.reader)
            sink.put(LINE)
            sink.put(LINE * 2)
            sink.close(10.0)
            pipe.reader = os.open(os.devnull, os.O_RDONLY)
        assert sink.dropped == 3

    def test_a_full_disk_costs_the_lines(self) -> None:
        with Path("/dev/full").open("wb", buffering=0) as stream:
            sink = open_sink(stream)
            sink.put(LINE * 3)
            sink.close(10.0)
        assert sink.dropped == 3

    def test_a_stream_that_is_closed_meanwhile_costs_nothing(self) -> None:
        """The sink has a descriptor of its own, so it goes on writing after its stream is closed."""
        with opened(os.pipe) as pipe:
            sink = open_sink(pipe.stream)
            pipe.stream.close()
            sink.put(LINE)
            assert (pipe.drained(sink), sink.dropped) == (LINE, 0)

    @pytest.mark.parametrize("beneath", [False, True])
    def test_a_stream_that_was_closed_before_costs_the_lines(self, beneath: bool) -> None:
        """Lines are dropped, whether the stream was closed or only its descriptor."""
        reader, writer = os.pipe()
        os.close(reader)
        stream = os.fdopen(writer, "wb", buffering=0)
        if beneath:
            os.close(writer)
        else:
            stream.close()
        sink = open_sink(stream)
        sink.put(LINE * 2)
        sink.close(10.0)
        assert sink.dropped == 2
        if beneath:
            with pytest.raises(OSError, match="Bad file descriptor"):
                stream.close()

    def test_what_comes_after_the_end_is_dropped_and_counted(self) -> None:
        with opened(os.pipe) as pipe:
            sink = open_sink(pipe.stream)
            sink.put(LINE)
            text = pipe.drained(sink)
            sink.put(LINE * 2)
            sink.close(10.0)
        assert (text, sink.dropped) == (LINE, 2)


class TestStreams:
    def test_a_file_gets_everything_in_order(self, tmp_path: Path) -> None:
        with (tmp_path / "log").open("w") as stream:
            sink = open_sink(stream)
            for number in range(0, 1000, 10):
                sink.put(lines(number, number + 10))
            sink.close(10.0)
        assert (tmp_path / "log").read_bytes() == lines(0, 1000)

    def test_a_line_longer_than_a_pipe_takes_at_once_is_written_whole(self) -> None:
        long = b"x" * 200_000 + b"\n"
        with opened(os.pipe) as pipe:
            sink = open_sink(pipe.stream)
            sink.put(LINE + long + LINE)
            assert pipe.drained(sink) == LINE + long + LINE

    def test_a_stream_in_memory_has_every_line_at_once(self) -> None:
        text, data = io.StringIO(), io.BytesIO()
        for stream in (text, data):
            open_sink(stream).put(LINE)
        assert (text.getvalue().encode(), data.getvalue()) == (LINE, LINE)
