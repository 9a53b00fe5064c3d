"""Which requests patterns share, and one request that stands for all of them.

Rules kept here:
- A segment that no pattern can name stands for a placeholder: a pattern that matches it there has a
  placeholder there, and so matches every request that the example stands for.
- `{name...}` is looked at once for each number of segments; beyond the longest pattern all are alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from gateway.policy.patterns import Placeholder, Shape

ROOT: Final[tuple[str, ...]] = ("",)
"""Of `/`, whose one segment is empty; no placeholder stands for it."""
_UNNAMED: Final = "{}"


def example(shape: Shape) -> tuple[str, ...]:
    """The segments of one request that `shape` matches, and no literal but its own does."""
    return tuple(_UNNAMED if isinstance(kind, Placeholder) else kind for kind in shape)


def intersection(one: Shape, other: Shape) -> Shape | None:
    """The shape of the requests that both match; None where there are none."""
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
    """`shape` without `{name...}`: one shape for each number of segments, the last with one over `longest`.

    That last one stands for all that are longer; `longest` is the most segments of any pattern.
    """
    if shape[-1] is not Placeholder.REST:
        return (shape,)
    start = shape[:-1]
    return tuple(start + (Placeholder.ONE,) * count for count in range(1, max(longest - len(start), 0) + 2))


def merge_lengths(shapes: Iterable[Shape], longest: int) -> tuple[Shape, ...]:
    """The shapes of `split_by_length` put together again, as far as all lengths are there."""
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
    below: dict[str | Placeholder, _ShapeNode] = field(default_factory=dict)
    shape: Shape | None = None


class ShapeIndex:
    """Shapes by their segments: those that share requests with another are found without asking the rest."""

    def __init__(self, shapes: Iterable[Shape]) -> None:
        self._root = _ShapeNode()
        for shape in shapes:
            node = self._root
            for kind in shape:
                node = node.below.setdefault(kind, _ShapeNode())
            node.shape = shape

    def meeting(self, shape: Shape) -> Iterator[tuple[Shape, Shape]]:
        """Every shape that shares requests with `shape`, and the shape of those requests."""
        for other in _near(self._root, shape, 0):
            shared = intersection(shape, other)
            if shared is not None:
                yield other, shared


def _near(node: _ShapeNode, shape: Shape, depth: int) -> Iterator[Shape]:
    """The shapes below `node` that `shape` may meet; only the root path is told apart later."""
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
