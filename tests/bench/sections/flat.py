"""The section `flat`: cost by the number of routes, keys, connections and items, and by sizes of bodies."""

from __future__ import annotations

from tests.bench.bounds import Verdict
from tests.bench.report import Result
from tests.bench.sections import flat_load, flat_memory, flat_policy
from tests.bench.sections.context import Context
from tests.bench.sections.series import Series, table

_HEADINGS = "Each figure is CPU us a request: the median of the rounds, with the least and the most."
MOST_GROWTH = 1.1
"""A cost counts as flat if the last point of its series costs at most so many times the first."""
_PARTS = (
    flat_policy.routes,
    flat_policy.keys,
    flat_load.connections,
    flat_load.bodies,
    flat_load.bulk,
)


def flat(context: Context) -> Result:
    """Measure how the cost of a request grows with each number. Raises StartError, LoadError."""
    series: list[Series] = []
    lines = [_HEADINGS]
    verdicts: list[Verdict] = []
    for gateway in context.options.gateways:
        for part in _PARTS:
            for found in part(context, gateway):
                series.append(found)
                verdicts += _verdict(gateway.name, found)
                lines += ["", f"**{gateway.name}: {found.title}**", "", *table(found)]
        memory = flat_memory.connections(context, gateway)
        lines += ["", f"**{gateway.name}: memory by idle connections**", "", *memory.lines]
        verdicts += memory.verdicts
        series.append(memory.series)
    data = {"series": [found.as_json() for found in series]}
    return Result("Flat", lines, verdicts, data)


def _verdict(gateway: str, found: Series) -> list[Verdict]:
    """Return a verdict on a cost that should not grow."""
    if found.per:
        return []
    last, first = (f"{x:,.0f}" for x in (found.xs[-1], found.xs[0]))
    text = f"{gateway}: {found.title}: {last} / {first}"
    return [Verdict(text, found.growth(), MOST_GROWTH)]
