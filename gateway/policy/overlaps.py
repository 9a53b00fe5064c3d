"""Finds the requests that patterns share, and one example request for all of them.

Rules kept here:
- In an example, a segment that no pattern can name represents a placeholder. A pattern that matches it has a
  placeholder at that place, so it matches every request that the example represents.
- `{name...}` is examined once for each number of segments; all numbers beyond the longest pattern are alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from gateway.policy.patterns import Placeholder, Shape

ROOT: Final[tuple[str, ...]] = ("",)
"""The shape of `/`, whose one segment is empty; no placeholder matches it."""
_UNNAMED: Final = "{}"


def example(shape: Shape) -> tuple[str, ...]:
    """Return the segments of a request that `shape` matches and that no other literal matches."""
    return tuple(_UNNAMED if isinstance(kind, Placeholder) else kind for kind in shape)


def intersection(one: Shape, other: Shape) -> Shape | None:
    """Return the shape of the requests that both match; None if there are none."""
    if ROOT in (one, other):
        return ROOT if one == other else None
    shared: list[str | Placeholder] = []
    for depth, (kind, beside) in enumerate(zip(one, other, strict=False)):
        if kind is Placeholder.REST:
            return (*shared, *other[depth:])
        if beside is Placeholder.REST:
            return (*shared, *one[depth:])
        if kind is not Placeholder.ONE and beside is not Placeholder.ONE and kind != beside:
            return None
        shared.append(beside if kind is Placeholder.ONE else kind)
    return tuple(shared) if len(one) == len(other) else None


def split_by_length(shape: Shape, longest: int) -> tuple[Shape, ...]:
    """Return `shape` without `{name...}`: one shape for each number of segments up to `longest` + 1.

    `longest` is the most segments of any pattern; the last shape represents all longer ones.
    """
    if shape[-1] is not Placeholder.REST:
        return (shape,)
    start = shape[:-1]
    return tuple(start + (Placeholder.ONE,) * count for count in range(1, max(longest - len(start), 0) + 2))


def merge_lengths(shapes: Iterable[Shape], longest: int) -> tuple[Shape, ...]:
    """Return the shapes of `split_by_length` joined to `{name...}` again where all lengths are present."""
    kept = dict.fromkeys(shapes)
    for last in [shape for shape in kept if len(shape) > longest]:
        del kept[last]
        shortest = last
        while len(shortest) > 1 and shortest[-2] is Placeholder.ONE and shortest[:-1] in kept:
            shortest = shortest[:-1]
            del kept[shortest]
        kept[(*shortest[:-1], Placeholder.REST)] = None
    return tuple(kept)


@dataclass(slots=True)
class _ShapeNode:
    """The shapes that begin alike, by their next segment; `shape` is the one that ends here."""

    below: dict[str | Placeholder, _ShapeNode] = field(default_factory=dict)
    shape: Shape | None = None


class ShapeIndex:
    """An index of shapes, which finds those that share requests with another without comparing them all."""

    def __init__(self, shapes: Iterable[Shape]) -> None:
        self._root = _ShapeNode()
        for shape in shapes:
            node = self._root
            for kind in shape:
                node = node.below.setdefault(kind, _ShapeNode())
            node.shape = shape

    def overlapping(self, shape: Shape) -> Iterator[tuple[Shape, Shape]]:
        """Yield every shape that shares requests with `shape`, and the shape of those requests."""
        for other in _near(self._root, shape, 0):
            shared = intersection(shape, other)
            if shared is not None:
                yield other, shared


def _near(node: _ShapeNode, shape: Shape, depth: int) -> Iterator[Shape]:
    """Yield the shapes below `node` that may overlap `shape`; the caller sorts out the root path."""
    if depth == len(shape):
        if node.shape is not None:
            yield node.shape
        return
    kind = shape[depth]
    rest = node.below.get(Placeholder.REST)
    if rest is not None and rest.shape is not None and kind is not Placeholder.REST:
        yield rest.shape
    for key, child in node.below.items() if isinstance(kind, Placeholder) else _either(node, kind):
        if kind is Placeholder.REST:
            yield from _all(child)
        elif key is not Placeholder.REST:
            yield from _near(child, shape, depth + 1)


def _either(node: _ShapeNode, literal: str) -> Iterator[tuple[str | Placeholder, _ShapeNode]]:
    for key in (literal, Placeholder.ONE):
        if key in node.below:
            yield key, node.below[key]


def _all(node: _ShapeNode) -> Iterator[Shape]:
    if node.shape is not None:
        yield node.shape
    for child in node.below.values():
        yield from _all(child)
