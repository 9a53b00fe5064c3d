"""RFC 3339 times are read and written as in Go, as recorded from a live Core."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from gateway.gocompat.times import Instant, read_instant


@pytest.mark.parametrize(
    ("sent", "echoed"),
    [
        ("2999-01-02T03:04:05Z", "2999-01-02T03:04:05Z"),
        ("2999-01-02T03:04:05+02:00", "2999-01-02T03:04:05+02:00"),
        ("2999-01-02T03:04:05-07:30", "2999-01-02T03:04:05-07:30"),
        ("2999-01-02T03:04:05+00:00", "2999-01-02T03:04:05Z"),
        ("2999-01-02T03:04:05-00:00", "2999-01-02T03:04:05Z"),
        ("2999-01-02T03:04:05+14:60", "2999-01-02T03:04:05+15:00"),
        ("2999-01-02T03:04:05.10Z", "2999-01-02T03:04:05.1Z"),
        ("2999-01-02T03:04:05.000Z", "2999-01-02T03:04:05Z"),
        ("2999-01-02T03:04:05.9999999999Z", "2999-01-02T03:04:05.999999999Z"),
        ("2999-01-02T03:04:05.120+05:30", "2999-01-02T03:04:05.12+05:30"),
        ("2999-01-02T03:04:05,5Z", "2999-01-02T03:04:05.5Z"),
        ("2999-01-02T3:04:05Z", "2999-01-02T03:04:05Z"),
        ("0001-01-01T00:00:00.000000001Z", "0001-01-01T00:00:00.000000001Z"),
        ("9999-12-31T23:59:59-01:00", "9999-12-31T23:59:59-01:00"),
        ("2996-02-29T00:00:00Z", "2996-02-29T00:00:00Z"),
    ],
)
def test_a_time_is_echoed_as_go_marshals_it(sent: str, echoed: str) -> None:
    assert str(read_instant(sent)) == echoed


@pytest.mark.parametrize(
    ("sent", "unparsed", "element"),
    [
        ("2999-01-02", "", "T"),
        ("2999-01-02T03:04:05", "", "Z07:00"),
        ("2999-01-02t03:04:05Z", "t03:04:05Z", "T"),
        ("2999-01-02T03:04:05z", "z", "Z07:00"),
        ("2999-01-02T03:04:05+0200", "+0200", "Z07:00"),
        ("2999-01-02T03:04:05 02:00", " 02:00", "Z07:00"),
        ("2999-01-02T03:04:05.Z", ".Z", "Z07:00"),
        ("10000-01-01T00:00:00Z", "0-01-01T00:00:00Z", "-"),
        ("2999-1-2T03:04:05Z", "1-2T03:04:05Z", "01"),
        ("2999-01-02T03:04Z", "Z", ":"),
        ("", "", "2006"),
        ("tomorrow", "tomorrow", "2006"),
        ('<"\\\u00e9\n>', r"<\"\\\xc3\xa9\x0a>", "2006"),
    ],
)
def test_what_go_cannot_parse_is_refused_in_its_words(sent: str, unparsed: str, element: str) -> None:
    quoted = unparsed if element == "2006" else sent
    with pytest.raises(ValueError, match="parsing") as failure:
        read_instant(sent)
    assert str(failure.value) == (
        f'parsing time "{quoted}" as "2006-01-02T15:04:05Z07:00": cannot parse "{unparsed}" as "{element}"'
    )


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        ("2999-13-01T00:00:00Z", "month out of range"),
        ("2999-00-01T00:00:00Z", "month out of range"),
        ("2999-01-00T00:00:00Z", "day out of range"),
        ("2999-02-29T00:00:00Z", "day out of range"),
        ("2999-01-02T24:00:00Z", "hour out of range"),
        ("2999-01-02T23:60:00Z", "minute out of range"),
        ("2016-12-31T23:59:60Z", "second out of range"),
        ("2999-01-02T03:04:05+25:00", "time zone offset hour out of range"),
        ("2999-01-02T03:04:05+24:61", "time zone offset minute out of range"),
        ("2999-01-02T03:04:05ZZ", 'extra text: "Z"'),
    ],
)
def test_what_is_out_of_range_is_refused_in_gos_words(sent: str, reason: str) -> None:
    with pytest.raises(ValueError, match="parsing") as failure:
        read_instant(sent)
    assert str(failure.value) == f'parsing time "{sent}": {reason}'


@pytest.mark.parametrize("sent", ["0000-01-01T00:00:00Z", "2999-01-02T03:04:05-24:00"])
def test_what_core_would_take_and_then_fail_on_is_refused(sent: str) -> None:
    with pytest.raises(ValueError, match="out of range"):
        read_instant(sent)


@pytest.mark.parametrize(
    ("sent", "listed"),
    [
        ("2999-01-02T03:04:05.000000499Z", "2999-01-02T03:04:05Z"),
        ("2999-01-02T03:04:05.0000005Z", "2999-01-02T03:04:05Z"),
        ("2999-01-02T03:04:05.0000015Z", "2999-01-02T03:04:05.000002Z"),
        ("2999-01-02T03:04:05.9999995Z", "2999-01-02T03:04:06Z"),
        ("2999-01-02T03:04:05-07:30", "2999-01-02T10:34:05Z"),
        ("9999-12-31T23:59:59-01:00", "9999-12-31T23:59:59-01:00"),
        ("9999-12-31T23:59:59.999999999Z", "9999-12-31T23:59:59.999999999Z"),
    ],
)
def test_a_time_is_listed_in_utc_and_microseconds_while_a_year_can_hold_it(sent: str, listed: str) -> None:
    assert str(read_instant(sent).stored()) == listed


def test_an_instant_counts_seconds_since_the_epoch() -> None:
    assert read_instant("1970-01-01T01:00:00.5+01:00").unix == 0.5


def test_a_datetime_becomes_an_instant_to_the_microsecond() -> None:
    assert str(Instant.of(datetime(2026, 1, 2, 3, 4, 5, 60_000, tzinfo=UTC))) == "2026-01-02T03:04:05.06Z"
