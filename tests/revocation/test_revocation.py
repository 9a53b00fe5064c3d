"""Measure the bound: a short form of `python3 -m tests.revocation`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.revocation.report import rank, table
from tests.revocation.run import measure
from tests.revocation.scenarios import (
    Failover,
    calm,
    cut,
    flooded,
    in_flight,
    replaced,
    restart,
    silent,
    stalled,
    under_sentinels,
)
from tests.revocation.stage import BOUND

SHORT = (calm, flooded, cut, stalled, silent, in_flight, restart)


@pytest.mark.redis
async def test_a_revoked_key_is_dead_everywhere_within_a_second(tmp_path: Path) -> None:
    """During each failure, no request with the key reaches Core later than 1 s after the 204."""
    lags = await measure(1, 1, tmp_path, SHORT, [Failover("Sentinel", under_sentinels, replaced)])
    print("\n".join(table(lags)))  # noqa: T201  # shown with -s, and if the test fails
    assert {name: max(found) for name, found in lags.items() if max(found) > BOUND} == {}


def test_a_rank_is_a_value_that_was_measured() -> None:
    assert [rank([3.0, 1.0, 2.0], share) for share in (0.0, 0.5, 0.99)] == [1.0, 2.0, 3.0]


def test_the_table_says_what_took_too_long() -> None:
    assert list(table({"calm": [0.001, 0.002], "cut": [1.2]}))[2:] == [
        "| calm | 2 | 1.0 | 2.0 | 2.0 | ok |",
        "| cut | 1 | 1200.0 | 1200.0 | 1200.0 | **longer than 1 s** |",
    ]
