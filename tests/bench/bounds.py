"""The bounds of the issue on speed, and how a measurement stands against them.

Rules kept here:
- A bound that could not be measured is printed with the reason, and is neither kept nor missed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from tests.bench import messages
from tests.bench.gateways import COMPILED, INTERPRETED
from tests.bench.peers import ENVOY_KEYS, LUA, NGINX
from tests.bench.samples import Samples, ratios
from tests.bench.tables import Column, markdown


@dataclass(frozen=True, slots=True)
class Bound:
    """A bound for one call: `ours` may take at most `most` times the CPU time of `theirs`."""

    call: str
    ours: str
    theirs: str
    most: float

    @property
    def text(self) -> str:
        return f"{self.call}: {self.ours} / {self.theirs}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A figure and the most that it may be; without a figure, `note` says why there is none."""

    text: str
    found: float | None
    most: float
    note: str = ""

    @property
    def missed(self) -> bool:
        """True if the figure is over its bound."""
        return self.found is not None and self.found > self.most


_COLUMNS = (
    Column("bound", is_text=True),
    Column("found"),
    Column("at most"),
    Column("verdict", is_text=True),
    Column("note", is_text=True),
)


def _towards_nginx(ours: str, get: float, post: float) -> list[Bound]:
    return [Bound("GET", ours, NGINX.name, get), Bound("POST", ours, NGINX.name, post)]


PEER_BOUNDS = (
    *_towards_nginx(COMPILED, 2.0, 2.2),
    Bound("GET", COMPILED, ENVOY_KEYS.name, 1.0),
    Bound("POST", COMPILED, ENVOY_KEYS.name, 1.0),
    Bound("POST", COMPILED, LUA.name, 1.6),
    *_towards_nginx(INTERPRETED, 2.7, 3.1),
)
SIZE_BOUNDS = (
    Bound(messages.GET_LARGE.name, COMPILED, NGINX.name, 2.0),
    Bound(messages.POST_LARGE.name, COMPILED, NGINX.name, 2.2),
    Bound(messages.GET_LARGE.name, INTERPRETED, NGINX.name, 2.7),
    Bound(messages.POST_LARGE.name, INTERPRETED, NGINX.name, 3.1),
)


def judged_ratios(text: str, samples: Samples, compared: tuple[str, str, str], most: float) -> Verdict:
    """Return the verdict on the median of the rounds' ratios; `compared` is the call, ours and theirs."""
    found = ratios(samples, *compared)
    return Verdict(text, median(found), most, f"rounds {min(found):.2f}-{max(found):.2f}")


def judged(samples: Samples, bounds: Iterable[Bound]) -> Iterator[Verdict]:
    """Yield a verdict for each bound."""
    for bound in bounds:
        absent = [name for name in (bound.ours, bound.theirs) if (name, bound.call) not in samples]
        if absent:
            yield Verdict(
                bound.text, None, bound.most, f"{' and '.join(absent)}: not installed or not chosen"
            )
        else:
            yield judged_ratios(bound.text, samples, (bound.call, bound.ours, bound.theirs), bound.most)


def lines(verdicts: Sequence[Verdict]) -> Iterator[str]:
    """Yield the verdicts as lines of a Markdown table."""
    if verdicts:
        yield from markdown(_COLUMNS, map(_row, verdicts))


def _row(verdict: Verdict) -> list[str]:
    if verdict.found is None:
        found, word = "-", "not measured"
    else:
        found, word = f"{verdict.found:.2f}", "**MISSED**" if verdict.missed else "ok"
    return [verdict.text, found, f"{verdict.most:.2f}", word, verdict.note]
