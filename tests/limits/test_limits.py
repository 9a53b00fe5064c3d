"""A limit that three gateways share, each a process of its own, with a real Redis."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.limits.stage import measured, staged
from tests.limits.verdict import SETTLED_SECONDS, TOLERANCE

pytestmark = pytest.mark.redis

RATE = 100
SECONDS = 6.0


@pytest.mark.parametrize(
    ("rates", "restarted"),
    [
        pytest.param((100, 100, 100), False, id="even"),
        pytest.param((240, 45, 15), True, id="uneven, Redis restarts"),
    ],
)
async def test_three_replicas_let_through_what_one_would(
    tmp_path: Path, rates: tuple[int, ...], restarted: bool
) -> None:
    """With 300 requests a second, 100 a second pass within 5 %, whichever replicas they come to."""
    async with staged(tmp_path, {"LIMITS__RATE": f"{RATE}/s"}) as stage:
        fault = (lambda: stage.restart_redis(0.5)) if restarted else None
        passed, began = await measured(stage, rates, SECONDS, fault)
    assert set(passed.statuses) == {200, 429}
    assert passed.between(began + SETTLED_SECONDS, began + SECONDS) == pytest.approx(RATE, rel=TOLERANCE)
