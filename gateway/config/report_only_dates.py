"""Parses and renders the dates until which a route or a key is report-only.

Rules kept here:
- A date is the last day, in UTC; on the next day requests are refused again without a reload.
- A date is at most 30 days ahead. A date that is over has no effect, so that an old file still loads.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from gateway.config.values import BadValueError, Raw
from gateway.policy.report_only import KeyDates
from gateway.policy.routes import RouteTable

MODE: Final = "report-only"
MOST_DAYS: Final = 30
MOST_KEYS: Final = 100
TOO_FAR: Final = f"report-only lasts at most {MOST_DAYS} days: write an earlier date"

_DAY: Final = 86_400.0
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_ENTRY: Final = re.compile(r"(api_key_[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})=(.*)", re.ASCII)


def end_of_day(raw: Raw) -> float:
    """Return the end of a day such as `2026-12-24`, in Unix seconds."""
    if isinstance(raw, str) and _DATE.fullmatch(raw):
        try:
            return (datetime.fromisoformat(raw).replace(tzinfo=UTC) + timedelta(days=1)).timestamp()
        except (ValueError, OverflowError):
            pass
    raise BadValueError('write a date in quotes, as "2026-12-24"; its day, in UTC, is included')


def last_day(until: float) -> str:
    """Return the day that ends at `until`, as a file has it."""
    return datetime.fromtimestamp(until - _DAY, UTC).strftime("%Y-%m-%d")


def key_dates(raw: Raw) -> KeyDates:
    """Return key ids and dates from pairs `ID=DATE`, of a mapping or of a variable with commas."""
    pairs = [pair.strip() for pair in raw.split(",") if pair.strip()] if isinstance(raw, str) else raw
    if not isinstance(pairs, list | tuple) or len(pairs) > MOST_KEYS:
        raise BadValueError(f"write at most {MOST_KEYS} lines below it, each 'api_key_...: \"2026-12-24\"'")
    dates = {}
    for pair in pairs:
        entry = _ENTRY.fullmatch(str(pair))
        if entry is None:
            raise BadValueError("write the id of a key and a date, as 'api_key_...: \"2026-12-24\"'")
        dates[entry[1]] = end_of_day(entry[2])
    return KeyDates(tuple(dates.items()))


def rendered_dates(keys: KeyDates) -> str:
    """Return the keys and their days as a file would have them."""
    pairs = (f'{key_id}: "{last_day(until)}"' for key_id, until in keys.dates)
    return f"{{{', '.join(pairs)}}}"


def too_far(until: float, now: float) -> bool:
    """Return whether `until` ends a day more than 30 days after that of `now`, both in Unix seconds."""
    return until > (now // _DAY + MOST_DAYS + 1) * _DAY


def expired_text(until: float) -> str:
    """Return the warning about a date that is over."""
    return f"report-only ended with {last_day(until)}, and requests are refused again: remove it"


def reported(table: RouteTable, keys: KeyDates) -> Mapping[str, float]:
    """Return each report-only route and key as readiness names it, and its end; an end may be over."""
    return dict(_reported(table, keys))


def _reported(table: RouteTable, keys: KeyDates) -> Iterator[tuple[str, float]]:
    for route in table.routes:
        if route.report_until:
            yield f"{MODE} until {last_day(route.report_until)}: {route.name}", route.report_until
    for key_id, until in keys.dates:
        yield f"{MODE} until {last_day(until)}: key {key_id}", until
