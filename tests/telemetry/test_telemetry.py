from __future__ import annotations

import asyncio
import io
import json
import os
import platform
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from gateway.errors import Code
from gateway.telemetry import AccessEntry, Build, Log, Metrics
from gateway.telemetry.access_log import read_console_line
from gateway.telemetry.log import is_console
from gateway.telemetry.sink import open_sink
from tests.pipes import opened
from tests.telemetry.sources import sources

# 2026-11-23T16:44:00.123Z
NOON = 1795452240.123
OPEN_METRICS = "application/openmetrics-text;version=1.0.0"
ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


def entry(**changes: Any) -> AccessEntry:
    whole = AccessEntry(
        time=NOON,
        request_id="req-1",
        client="192.0.2.7",
        user_agent="curl/8.5.0",
        method="POST",
        route="POST /ledgers",
        path="/ledgers",
        key_id="api_key_1",
        owner="ops",
        decision="allow",
        code="",
        status=201,
        answered_by="core",
        stamped=True,
        bytes_in=20,
        bytes_out=90,
        gateway_ms=0.25,
        upstream_ms=3.5,
    )
    return msgspec.structs.replace(whole, **changes)


def members(**changes: Any) -> dict[str, Any]:
    return {
        "timestamp": "2026-11-23T16:44:00.123Z",
        "level": "info",
        "event": "request",
        "request_id": "req-1",
        "trace_id": "",
        "client": "192.0.2.7",
        "user_agent": "curl/8.5.0",
        "method": "POST",
        "route": "POST /ledgers",
        "path": "/ledgers",
        "key_id": "api_key_1",
        "owner": "ops",
        "certificate_subject": "",
        "decision": "allow",
        "code": "",
        "would_code": "",
        "status": 201,
        "answered_by": "core",
        "stamped": True,
        "bytes_in": 20,
        "bytes_out": 90,
        "gateway_ms": 0.25,
        "upstream_ms": 3.5,
    } | changes


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def written(*entries: AccessEntry, console: bool = False) -> str:
    stream = Terminal() if console else io.StringIO()
    log = Log(stream)
    for one in entries:
        log.record(one)
    log.flush()
    return stream.getvalue()


class TestRequestLines:
    def test_an_entry_is_one_json_line_with_its_members_in_order(self) -> None:
        line = written(entry())
        assert line == json.dumps(members(), separators=(",", ":")) + "\n"

    @pytest.mark.parametrize(
        ("time", "timestamp"),
        [
            (0.0, "1970-01-01T00:00:00.000Z"),
            (1795452239.9996, "2026-11-23T16:44:00.000Z"),
            (1795452239.9994, "2026-11-23T16:43:59.999Z"),
        ],
    )
    def test_timestamps_are_utc_rounded_to_milliseconds(self, time: float, timestamp: str) -> None:
        assert json.loads(written(entry(time=time)))["timestamp"] == timestamp

    def test_a_batch_keeps_its_order_and_each_entry_its_own_time(self) -> None:
        lines = written(*(entry(time=NOON + n, request_id=str(n)) for n in range(3))).splitlines()
        assert [(json.loads(line)["request_id"], json.loads(line)["timestamp"]) for line in lines] == [
            ("0", "2026-11-23T16:44:00.123Z"),
            ("1", "2026-11-23T16:44:01.123Z"),
            ("2", "2026-11-23T16:44:02.123Z"),
        ]

    @pytest.mark.parametrize(
        ("status", "level"), [(0, "warning"), (200, "info"), (404, "info"), (500, "error"), (503, "error")]
    )
    def test_the_level_follows_the_status(self, status: int, level: str) -> None:
        assert json.loads(written(entry(status=status))) == members(status=status, level=level)

    @pytest.mark.parametrize("console", [False, True])
    @pytest.mark.parametrize("field", ["request_id", "user_agent", "method", "path", "owner", "client"])
    @pytest.mark.parametrize(
        "hostile",
        [
            'x\n{"event":"request"}',
            "x\r\nforged",
            'x","decision":"allow',
            "x decision=allow",
            "\x1b[2J\x1b]0;title\x07",
            "\x00\x7f\x85\x9b31m",
            "\u2028\u2029\u202e",
            b"\xff\xfe\x80".decode("utf-8", "surrogateescape"),
            "\ud800",
            "\U0001f4b6",
        ],
    )
    def test_a_client_can_neither_break_a_line_nor_steer_a_terminal(
        self, console: bool, field: str, hostile: str
    ) -> None:
        line = ESCAPES.sub("", written(entry(**{field: hostile}), console=console))
        assert line.endswith("\n")
        assert all(" " <= character <= "~" or character == "\x7f" for character in line[:-1])

    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ('a","status":500,"b":"', 'a","status":500,"b":"'),
            ("line\nbreak", "line\nbreak"),
            ("Jos\u00e9 \U0001f4b6", "Jos\u00e9 \U0001f4b6"),
            (b"/\xff".decode("utf-8", "surrogateescape"), "/\\udcff"),
            ("\x7f\u00e9", "\x7f\u00e9"),
        ],
    )
    def test_text_comes_back_as_it_was_and_forges_no_member(self, text: str, shown: str) -> None:
        assert json.loads(written(entry(owner=text))) == members(owner=shown)

    @pytest.mark.parametrize("field", ["path", "user_agent", "request_id", "owner"])
    def test_long_text_is_cut(self, field: str) -> None:
        assert json.loads(written(entry(**{field: "a" * 5000}))) == members(**{field: "a" * 256})

    @pytest.mark.parametrize(
        ("took", "shown"),
        [(0.12348400002792914, 0.123), (0.0005, 0.001), (-1e-9, 0.0), (0.0, 0.0), (299_999.9996, 300_000.0)],
    )
    def test_times_are_rounded_to_microseconds(self, took: float, shown: float) -> None:
        line = json.loads(written(entry(gateway_ms=took, upstream_ms=took)))
        assert line == members(gateway_ms=shown, upstream_ms=shown)

    def test_a_path_is_cut_at_256_characters_even_in_a_short_line(self) -> None:
        assert json.loads(written(entry(path="/" * 257))) == members(path="/" * 256)

    def test_a_terminal_gets_a_readable_coloured_line_without_empty_members(self) -> None:
        line = written(entry(owner="the ops", key_id="", stamped=False, bytes_in=0), console=True)
        assert line == (
            "\x1b[2m2026-11-23T16:44:00.123Z\x1b[0m \x1b[32minfo    \x1b[0m POST /ledgers 201 0.2+3.5ms"
            '\x1b[2m request_id=req-1 client=192.0.2.7 user_agent=curl/8.5.0 route="POST /ledgers"'
            ' owner="the ops" decision=allow answered_by=core bytes_out=90\x1b[0m\n'
        )

    def test_a_client_cannot_forge_a_member_of_a_terminal_line(self) -> None:
        line = written(entry(method="", path="/a b=c", user_agent='x" owner=root "'), console=True)
        assert ' "" "/a b=c" 201 ' in line
        assert ' user_agent="x\\" owner=root \\"" ' in line


class TestLog:
    def test_recording_writes_nothing_before_the_flush(self) -> None:
        stream = io.BytesIO()
        log = Log(stream)
        log.record(entry())
        before = stream.getvalue()
        log.flush()
        log.flush()
        assert (before, stream.getvalue().count(b"\n")) == (b"", 1)

    def test_a_large_batch_does_not_wait_for_its_flush(self) -> None:
        """Lines of at most some hundred requests are kept in memory."""
        stream = io.StringIO()
        log = Log(stream)
        for _ in range(1000):
            log.record(entry())
        assert 0 < 1000 - stream.getvalue().count("\n") < 1000

    def test_an_event_is_written_at_once_behind_the_requests_before_it(self) -> None:
        stream = io.StringIO()
        log = Log(stream)
        log.record(entry(request_id="1"))
        log.events.info("between")
        log.record(entry(request_id="2"))
        seen = [json.loads(line) for line in stream.getvalue().splitlines()]
        log.close()
        seen += [json.loads(line) for line in stream.getvalue().splitlines()[len(seen) :]]
        assert [line.get("request_id", line["event"]) for line in seen] == ["1", "between", "2"]

    def test_a_flood_of_requests_leaves_room_for_events(self) -> None:
        with opened(os.pipe) as pipe:
            pipe.fill()
            log = Log(pipe.stream, sink=open_sink(pipe.stream, most=20_000, reserved=2_000))
            for number in range(1000):
                log.record(entry(request_id=str(number)))
            log.flush()
            log.events.warning("degraded")
            log.events.warning("restored")
            lines = pipe.drained(log).splitlines()
        events = [json.loads(line)["event"] for line in lines]
        assert events == ["request"] * (len(events) - 2) + ["degraded", "restored"]
        assert log.dropped == 1000 - (len(events) - 2) > 900

    async def test_run_flushes_for_ever(self) -> None:
        stream = SignallingStream()
        log = Log(stream)
        task = asyncio.create_task(log.run(interval=0))
        for number in range(3):
            log.record(entry(request_id=str(number)))
            await stream.line()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [json.loads(line)["request_id"] for line in stream.getvalue().splitlines()] == ["0", "1", "2"]


class SignallingStream(io.StringIO):
    """A stream on which a test can wait for the next write."""

    def __init__(self) -> None:
        super().__init__()
        self._written = asyncio.Event()

    def write(self, text: str) -> int:
        self._written.set()
        return super().write(text)

    async def line(self) -> None:
        await self._written.wait()
        self._written.clear()


class TestReadingConsoleLines:
    @pytest.mark.parametrize("colours", [False, True])
    @pytest.mark.parametrize(
        "changes",
        [
            {},
            {"method": "", "path": "", "status": 400},
            {"path": "/a b=c", "user_agent": 'x" owner=root "', "owner": "Jos\u00e9 \U0001f4b6"},
            {"path": "/x 200 1.0+2.0ms decision=allow", "route": "", "decision": "deny"},
        ],
    )
    def test_a_request_reads_as_it_was(self, changes: dict[str, Any], colours: bool) -> None:
        line = written(entry(**changes), console=True)
        read = read_console_line(line if colours else ESCAPES.sub("", line))
        whole = members(**changes)
        shown = {name for name, value in whole.items() if value} - {"timestamp", "level", "gateway_ms"}
        shown = (shown | {"method", "path", "status"}) - {"upstream_ms"}
        bare = {"bytes_in": "20", "bytes_out": "90", "stamped": "true"}
        assert read == {name: bare.get(name, whole[name]) for name in shown}

    def test_an_event_is_no_request(self) -> None:
        stream = io.StringIO()
        Log(stream, "console", now=lambda: NOON).events.info("listening", clients="127.0.0.1:5001")
        assert read_console_line(stream.getvalue()) == {"event": "listening clients=127.0.0.1:5001"}

    def test_what_a_collector_put_before_it_is_skipped(self) -> None:
        read = read_console_line("pod-1 | " + written(entry(), console=True))
        assert read is not None
        assert read["route"] == "POST /ledgers"

    @pytest.mark.parametrize("line", ["", "starting up", "2026-11-23 info x", '{"event":"request"}'])
    def test_another_line_is_none_of_the_log(self, line: str) -> None:
        assert read_console_line(line) is None


class TestApplicationEvents:
    def test_json_has_timestamp_level_and_event_first(self) -> None:
        stream = io.StringIO()
        log = Log(stream, "auto", "info", now=lambda: NOON).events
        log.warning("store unreachable", attempts=3, store="redis://127.0.0.1:6379/0")
        assert stream.getvalue() == (
            '{"timestamp":"2026-11-23T16:44:00.123Z","level":"warning","event":"store unreachable",'
            '"attempts":3,"store":"redis://127.0.0.1:6379/0"}\n'
        )

    def test_events_below_the_level_are_left_out(self) -> None:
        stream = io.StringIO()
        log = Log(stream, "json", "warning", now=lambda: NOON).events
        log.info("quiet")
        log.error("loud")
        assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["loud"]

    def test_an_unknown_level_is_an_error(self) -> None:
        with pytest.raises(KeyError):
            Log(io.StringIO(), "json", "shouting")

    def test_values_of_any_kind_are_shown(self) -> None:
        stream = io.StringIO()
        log = Log(stream, "json", "info", now=lambda: NOON).events
        log.info("kinds", nested={1: ["\udcff", None, True, 1.5]}, thing=Path("/x"), pair=("a", 1))
        assert json.loads(stream.getvalue()) == {
            "timestamp": "2026-11-23T16:44:00.123Z",
            "level": "info",
            "event": "kinds",
            "nested": {"1": ["\\udcff", None, True, 1.5]},
            "thing": "PosixPath('/x')",
            "pair": ["a", 1],
        }

    def test_a_json_event_with_an_exception_is_still_one_line(self) -> None:
        stream = io.StringIO()
        log = Log(stream, "json", "info", now=lambda: NOON).events
        log.error("failed", exc_info=ValueError("two\nlines"))
        (line,) = stream.getvalue().splitlines()
        assert json.loads(line)["exception"].endswith("ValueError: two\nlines")

    def test_a_terminal_gets_a_readable_coloured_line(self) -> None:
        stream = Terminal()
        Log(stream, "auto", "info", now=lambda: NOON).events.error("Core is gone", reason="no route")
        assert stream.getvalue() == (
            "\x1b[2m2026-11-23T16:44:00.123Z\x1b[0m \x1b[31merror   \x1b[0m Core is gone"
            '\x1b[2m reason="no route"\x1b[0m\n'
        )

    def test_console_lines_on_a_file_have_no_colours(self) -> None:
        stream = io.StringIO()
        log = Log(stream, "console", "info", now=lambda: NOON)
        log.record(AccessEntry(NOON, method="GET", path="/x", status=404))
        log.events.info("started", port=5001)
        assert stream.getvalue() == (
            "2026-11-23T16:44:00.123Z info     GET /x 404 0.0+0.0ms answered_by=gateway\n"
            "2026-11-23T16:44:00.123Z info     started port=5001\n"
        )

    def test_no_value_begins_a_line_or_steers_the_terminal(self) -> None:
        stream = io.StringIO()
        log = Log(stream, "console", "info", now=lambda: NOON).events
        log.info("a\nb", value="c\nd\x1b[2J\u2028\udcff")
        assert stream.getvalue() == (
            '2026-11-23T16:44:00.123Z info     "a\\nb" value="c\\nd\\u001b[2J\\u2028\\\\udcff"\n'
        )

    def test_every_line_of_a_traceback_is_marked(self) -> None:
        stream = io.StringIO()
        log = Log(stream, "console", "info", now=lambda: NOON).events
        try:
            int("x\n2026-11-23T16:44:00.123Z info     forged\x1b[2J", base=1)
        except ValueError as error:
            error.add_note("x\n2026-11-23T16:44:00.123Z info     forged\x1b[2J")
            log.exception("failed")
        first, *rest = stream.getvalue().splitlines()
        assert first == "2026-11-23T16:44:00.123Z error    failed"
        assert all(line.startswith("  | ") for line in rest)
        assert rest[-1] == "  | 2026-11-23T16:44:00.123Z info     forged\\x1b[2J"

    def test_two_loggers_share_nothing(self) -> None:
        first, second = io.StringIO(), io.StringIO()
        quiet = Log(first, "json", "error", now=lambda: NOON).events
        Log(second, "json", "debug", now=lambda: NOON).events.debug("heard")
        quiet.debug("unheard")
        assert (first.getvalue(), second.getvalue().count("\n")) == ("", 1)

    @pytest.mark.parametrize(
        ("stream", "fmt", "console"),
        [
            (Terminal(), "auto", True),
            (io.StringIO(), "auto", False),
            (io.StringIO(), "console", True),
            (Terminal(), "json", False),
        ],
    )
    def test_the_format_follows_the_stream_unless_it_is_named(
        self, stream: io.StringIO, fmt: str, console: bool
    ) -> None:
        assert is_console(stream, fmt) is console


def metrics() -> Metrics:
    counted = sources(
        requests_in_flight=lambda: 5,
        connections=lambda: 4,
        upstream_connections=lambda: {"idle": 2, "busy": 1},
        key_cache=lambda: {"hit": 10, "miss": 3},
        log_lines_dropped=lambda: 7,
    )
    return Metrics(counted, Build("1.2.3", "interpreted"))


class Made(Collector):
    """A collector that counts the pages that it was part of."""

    pages = 0

    def collect(self) -> Iterable[Metric]:
        self.pages += 1
        return ()


def samples(counted: Metrics, family: str) -> dict[str, float]:
    text = counted.exposition("")[0].decode()
    lines = (line for line in text.splitlines() if line.startswith(f"blnk_gateway_{family}"))
    pairs = (line.removeprefix(f"blnk_gateway_{family}").rpartition(" ") for line in lines)
    return {labels: float(value) for labels, _, value in pairs}


class TestMetrics:
    def test_requests_are_counted_by_route_method_status_code_and_who_answered(self) -> None:
        counted = metrics()
        counted.requests.count(entry())
        counted.requests.count(entry())
        counted.requests.count(entry(route="", status=404, code="GEN_NOT_FOUND", answered_by="gateway"))
        assert samples(counted, "requests_total") == {
            '{answered_by="core",code="",method="POST",route="POST /ledgers",status="201"}': 2,
            '{answered_by="gateway",code="GEN_NOT_FOUND",method="POST",route="",status="404"}': 1,
        }

    def test_what_a_client_makes_up_adds_no_series(self) -> None:
        counted = metrics()
        for number in range(3):
            counted.requests.count(
                entry(method=f"FOO{number}", path=f"/{number}", owner=f"{number}", user_agent=f"{number}")
            )
        assert samples(counted, "requests_total") == {
            '{answered_by="core",code="",method="other",route="POST /ledgers",status="201"}': 3,
        }

    def test_durations_fall_into_cumulative_buckets_bounds_included(self) -> None:
        counted = metrics()
        for gateway_ms in (0.5, 1.0, 1.1, 59_000.0, 70_000.0):
            counted.requests.count(entry(gateway_ms=gateway_ms, upstream_ms=0.0))
        route = 'route="POST /ledgers"'
        inner = ["0.0025", "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5"]
        outer = ["1.0", "2.5", "5.0", "10.0", "30.0"]
        bounds = {"0.001": 2.0} | dict.fromkeys(inner + outer, 3.0) | {"60.0": 4.0, "+Inf": 5.0}
        assert samples(counted, "request_duration_seconds") == {
            **{f'_bucket{{le="{bound}",{route}}}': count for bound, count in bounds.items()},
            f"_count{{{route}}}": 5,
            f"_sum{{{route}}}": pytest.approx(129.0026),
        }

    def test_revocations_are_counted_by_their_lag_and_clocks_that_disagree_add_none(self) -> None:
        counted = metrics()
        for seconds in (-0.2, 0.005, 0.7, 61.0):
            counted.revocation_applied(seconds)
        lags = samples(counted, "key_revocation_lag_seconds")
        bounds = dict.fromkeys(("0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5"), 2.0)
        bounds |= dict.fromkeys(("1.0", "2.5", "5.0", "10.0", "60.0"), 3.0) | {"+Inf": 4.0}
        assert lags == {
            **{f'_bucket{{le="{bound}"}}': count for bound, count in bounds.items()},
            "_count": 4,
            "_sum": pytest.approx(61.705),
        }

    def test_cores_time_is_counted_only_where_core_was_asked(self) -> None:
        counted = metrics()
        counted.requests.count(entry(upstream_ms=20.0))
        counted.requests.count(entry(upstream_ms=0.0, status=401, answered_by="gateway"))
        upstream = samples(counted, "upstream_duration_seconds")
        requests = samples(counted, "request_duration_seconds")
        route = '{route="POST /ledgers"}'
        assert (upstream[f"_count{route}"], upstream[f"_sum{route}"]) == (1, 0.02)
        assert (requests[f"_count{route}"], round(requests[f"_sum{route}"], 6)) == (2, 0.0205)

    def test_stamps_and_bytes_add_up_by_route_over_all_outcomes(self) -> None:
        counted = metrics()
        counted.requests.count(entry())
        counted.requests.count(entry(status=400, stamped=False, bytes_in=5, bytes_out=10))
        counted.requests.count(entry(route="GET /ledgers", method="GET", stamped=False, bytes_in=0))
        assert {
            family: samples(counted, family)
            for family in ("stamped_total", "request_bytes_total", "response_bytes_total")
        } == {
            "stamped_total": {'{route="POST /ledgers"}': 1, '{route="GET /ledgers"}': 0},
            "request_bytes_total": {'{route="POST /ledgers"}': 25, '{route="GET /ledgers"}': 0},
            "response_bytes_total": {'{route="POST /ledgers"}': 100, '{route="GET /ledgers"}': 90},
        }

    def test_refusals_of_our_master_key_have_a_counter_of_their_own(self) -> None:
        counted = metrics()
        before = samples(counted, "upstream_refused_total")
        for route in ("GET /ledgers", "POST /ledgers"):
            counted.requests.count(entry(route=route, status=502, code=Code.UPSTREAM_REFUSED.code))
        assert (before, samples(counted, "upstream_refused_total")) == ({"": 0}, {"": 2})

    def test_refusals_are_counted_by_code_and_start_at_zero(self) -> None:
        """An alert on a rate needs the first sample of a series before the first refusal."""
        counted = metrics()
        before = samples(counted, "refusals_total")
        counted.requests.count(entry(status=403, code="AUTH_UNKNOWN_RESOURCE", answered_by="gateway"))
        for route in ("", "POST /ledgers"):
            counted.requests.count(entry(route=route, status=429, code=Code.RATE_LIMITED.code))
        changed = {'{code="AUTH_UNKNOWN_RESOURCE"}': 1, '{code="GEN_RATE_LIMITED"}': 2}
        assert before == {f'{{code="{code.code}"}}': 0 for code in Code}
        assert samples(counted, "refusals_total") == before | changed

    def test_what_others_count_is_read_at_the_scrape(self) -> None:
        counted = metrics()
        assert {
            family: samples(counted, family)
            for family in (
                "requests_in_flight",
                "connections",
                "upstream_connections",
                "key_cache_total",
                "log_lines_dropped_total",
                "ready",
                "build_info",
            )
        } == {
            "requests_in_flight": {"": 5},
            "connections": {"": 4},
            "upstream_connections": {'{state="idle"}': 2, '{state="busy"}': 1},
            "key_cache_total": {'{result="hit"}': 10, '{result="miss"}': 3},
            "log_lines_dropped_total": {"": 7},
            "ready": {"": 1},
            "build_info": {
                f'{{build="interpreted",python="{platform.python_version()}",version="1.2.3"}}': 1
            },
        }

    @pytest.mark.parametrize(
        ("accept", "content_type", "end"),
        [
            ("", "text/plain; version=0.0.4; charset=utf-8", False),
            ("*/*", "text/plain; version=0.0.4; charset=utf-8", False),
            (
                OPEN_METRICS,
                "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores",
                True,
            ),
        ],
    )
    def test_the_accept_header_chooses_the_format(self, accept: str, content_type: str, end: bool) -> None:
        counted = metrics()
        counted.requests.count(entry())
        page, shown = counted.exposition(accept)
        assert (shown, page.endswith(b"# EOF\n")) == (content_type, end)

    def test_two_metrics_share_no_registry(self) -> None:
        first, second = metrics(), metrics()
        first.requests.count(entry())
        assert samples(second, "requests_total") == {}

    async def test_one_page_is_made_for_all_who_ask_at_once(self) -> None:
        """Scrapes at once share one page of each format; a page is made in its own turn of the event loop."""
        counted, made = metrics(), Made()
        counted.add(made)
        asking = [asyncio.ensure_future(counted.shared_exposition("")) for _ in range(20)]
        asking += [asyncio.ensure_future(counted.shared_exposition(OPEN_METRICS)) for _ in range(20)]
        by_turn = []
        while not all(page.done() for page in asking):
            before = made.pages
            await asyncio.sleep(0)
            by_turn.append(made.pages - before)
        assert [count for count in by_turn if count] == [1, 1]
        assert len({page.result() for page in asking[:20]}) == 1
        assert len({page.result() for page in asking}) == 2

    async def test_a_scrape_that_is_given_up_does_not_end_the_others(self) -> None:
        counted = metrics()
        asking = [asyncio.ensure_future(counted.shared_exposition("")) for _ in range(2)]
        await asyncio.sleep(0)
        asking[0].cancel()
        page, _ = await asking[1]
        assert b"blnk_gateway_build_info" in page
