"""The results of every attack, as a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.hostile.attacks import Attack
from tests.hostile.bounds import Measured, Outcome, worst
from tests.hostile.lines import CONNECTED
from tests.revocation.report import rank
from tests.sections import Section

SECTION = Section("attacks", "Attacks", "python3 -m tests.hostile")

_HEADER = (
    "attack",
    "at once",
    "connections made, and what they got",
    "requests",
    "failed, as",
    "p99, ms",
    "worst, ms",
    "`/health/alive`, ms",
    "revoked in, ms",
    "lag, ms",
    "MiB",
    "descriptors",
    "verdict",
)
_TEXTS = (0, 2, 4, 12)


@dataclass(frozen=True, slots=True)
class Row:
    """An attack with its results."""

    attack: Attack
    measured: Measured

    @property
    def broken(self) -> list[str]:
        return list(self.attack.bounds.broken(self.measured))

    def cells(self) -> Iterator[str]:
        attack, measured = self.attack, self.measured
        revoked, usage = measured.revoked, measured.usage
        yield attack.what
        yield f"{attack.connections:,}"
        yield _made(measured.attacker)
        yield str(len(measured.asked))
        yield failures(measured.asked)
        yield _ms(rank([one.wait for one in measured.asked], 0.99) if measured.asked else 0.0)
        yield _ms(worst(measured.asked))
        yield _ms(worst(measured.alive))
        yield _ms(max([one.took for one in revoked], default=0.0))
        yield _ms(max([one.lag for one in revoked], default=0.0))
        yield f"{usage.at_rest >> 20} to {usage.memory >> 20}"
        yield str(usage.descriptors)
        yield "ok" if not self.broken else f"**{'; '.join(self.broken)}**"


def table(rows: Sequence[Row]) -> Iterator[str]:
    """Return the lines of a Markdown table."""
    yield f"| {' | '.join(_HEADER)} |"
    yield "|" + "|".join("---" if number in _TEXTS else "--:" for number in range(len(_HEADER))) + "|"
    for row in rows:
        yield f"| {' | '.join(row.cells())} |"


def _made(attacker: Counter[str]) -> str:
    got = Counter({result: count for result, count in attacker.items() if result != CONNECTED})
    return f"{attacker[CONNECTED]:,}" + (f": {_counted(got)}" if got else "")


def failures(outcomes: Sequence[Outcome]) -> str:
    """Return how many of the failed requests got which failure."""
    return _counted(Counter(outcome.result for outcome in outcomes if not outcome.good))


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{count:,} x {text}" for text, count in counts.most_common()) or "none"


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.0f}"
