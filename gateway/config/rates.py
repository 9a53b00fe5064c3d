"""Parses rates of requests."""

from __future__ import annotations

from gateway.config.values import BadValueError, Raw, count
from gateway.policy.terms import MOST, Rate, read_rate


def rate(raw: Raw) -> Rate | None:
    """Return a rate, from `100/s`, `600/m` or `10000/h`; a plain number is by the second, 0 is no limit."""
    if isinstance(raw, str) and "/" in raw:
        try:
            return read_rate(raw)
        except ValueError as error:
            raise BadValueError(str(error)) from None
    try:
        number = count(0, MOST)(raw)
    except BadValueError:
        raise BadValueError(f"write a rate, as 100/s or 600/m; at most {MOST}; 0 is no limit") from None
    return Rate(number) if number else None
