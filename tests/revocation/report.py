"""Show lags as a table."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from tests.revocation.stage import BOUND


def table(lags: Mapping[str, Sequence[float]]) -> Iterator[str]:
    """Yield the lines of a Markdown table: one for each scenario, in milliseconds."""
    yield "| while | revocations x replicas | p50, ms | p99, ms | max, ms | verdict |"
    yield "|---|--:|--:|--:|--:|---|"
    for name, found in lags.items():
        verdict = "ok" if max(found) <= BOUND else f"**longer than {BOUND:g} s**"
        shown = " | ".join(
            f"{1000 * value:.1f}" for value in (rank(found, 0.5), rank(found, 0.99), max(found))
        )
        yield f"| {name} | {len(found)} | {shown} | {verdict} |"


def rank(values: Sequence[float], share: float) -> float:
    """Return the smallest value that is not exceeded by at least this share of the values."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
