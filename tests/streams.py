"""Streams of bytes for property tests: cut into segments, and with a few bytes changed."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import strategies as st


def changed(draw: st.DrawFn, data: bytes) -> bytes:
    """Return the data with up to two bytes changed."""
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        at = draw(st.integers(0, len(data)))
        data = data[:at] + draw(st.binary(max_size=2)) + data[at + draw(st.integers(0, 1)) :]
    return data


def segments(data: bytes, positions: list[int]) -> list[bytes]:
    """Return the data, cut at these positions."""
    bounds = [0, *sorted(min(position, len(data)) for position in positions), len(data)]
    return [data[start:end] for start, end in pairwise(bounds) if end > start]
