"""Show the results of every scenario as a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.faults.judging import Run
from tests.faults.scenarios import RECOVERY_SECONDS, Scenario
from tests.sections import Section

SECTION = Section("faults", "Faults", "python3 -m tests.faults")
_SHOWN = 5
_WIDTH = 300


@dataclass(frozen=True, slots=True)
class Row:
    """A scenario with its results."""

    scenario: Scenario
    run: Run

    @property
    def violations(self) -> list[str]:
        return self.run.violations(self.scenario.failures, RECOVERY_SECONDS)


def table(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the lines of a Markdown table."""
    yield (
        "| dependency | fault | requests | good | failed, as | in doubt | first good, s | last failed, s "
        "| verdict |"
    )
    yield "|---|---|--:|--:|---|--:|--:|--:|---|"
    for row in rows:
        run = row.run
        said = ", ".join(f"{count} x `{text}`" for text, count in run.said.most_common()) or "none"
        verdict = f"**violations: {len(row.violations)}**" if row.violations else "ok"
        yield (
            f"| {row.scenario.dependency} | {row.scenario.fault} | {len(run.outcomes)} | {run.good} | {said} "
            f"| {run.in_doubt} | {run.first_good:.2f} | {run.last_failed:.2f} | {verdict} |"
        )


def violations(rows: Sequence[Row]) -> Iterator[str]:
    """Yield a line for each of the first violations of each scenario."""
    for row in rows:
        found = row.violations
        yield from (f"{row.scenario.name}: {text[:_WIDTH]}" for text in found[:_SHOWN])
        if len(found) > _SHOWN:
            yield f"{row.scenario.name}: and {len(found) - _SHOWN} more"
