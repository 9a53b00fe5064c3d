"""The results of a soak, as a table: each resource first, last and at most, and how fast it grows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import StatisticsError, linear_regression

from tests.hostile.bounds import worst
from tests.hostile.report import failures
from tests.hostile.soak import Soaked
from tests.sections import Section

SECTION = Section("soak", "Soak", "python3 -m tests.hostile --soak 20")

LAG_SECONDS = 1.0
_MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True)
class Course:
    """A resource at each sample, its peak, and by how much it may grow; None where that is not bounded."""

    name: str
    times: Sequence[float]
    values: Sequence[float]
    peak: float
    growth: float | None
    digits: int = 1

    @property
    def _settled(self) -> int:
        """Return where the first quarter ends."""
        return len(self.values) // 4

    @property
    def per_minute(self) -> float:
        """Return the slope of the line through the samples after the first quarter."""
        try:
            line = linear_regression(self.times[self._settled :], self.values[self._settled :])
        except StatisticsError:
            return 0.0
        return 60 * line.slope

    @property
    def grown(self) -> float:
        """Return how much more was held in the last quarter than in the second."""
        part = self._settled or 1
        return max(self.values[-part:]) - max(self.values[part : 2 * part] or self.values)

    @property
    def verdict(self) -> str:
        if self.growth is None:
            return "not bounded"
        return "ok" if self.grown <= self.growth else f"**grew by {self.grown:.{self.digits}f}**"

    def cells(self) -> Iterator[str]:
        yield self.name
        for value in (self.values[0], self.values[-1], self.peak):
            yield f"{value:.{self.digits}f}"
        yield f"{self.per_minute:+.2f}"
        yield "" if self.growth is None else f"{self.growth:g}"
        yield self.verdict


def courses(soaked: Soaked) -> Iterator[Course]:
    """Return the resources that are compared."""
    samples = soaked.samples
    times = [sample.at for sample in samples]

    def mebibytes(held: Sequence[int]) -> list[float]:
        return [size / _MEBIBYTE for size in held]

    resident = mebibytes([sample.memory for sample in samples])
    files = [float(sample.descriptors) for sample in samples]
    redis = mebibytes([sample.redis for sample in samples])
    yield Course("memory of the gateway, MiB", times, resident, soaked.peak_memory / _MEBIBYTE, 16)
    yield Course("descriptors", times, files, soaked.peak_descriptors, 32, digits=0)
    yield Course("memory of Redis, MiB", times, redis, max(redis), None)


def table(soaked: Soaked) -> Iterator[str]:
    """Return the lines of a Markdown table."""
    yield "| | first | last | peak | per minute | may grow by | verdict |"
    yield "|---|--:|--:|--:|--:|--:|---|"
    for course in courses(soaked):
        yield f"| {' | '.join(course.cells())} |"


def summary(soaked: Soaked) -> str:
    """Return the results of requests and keys as a paragraph."""
    revoked = soaked.revoked
    lag = max([one.lag for one in revoked], default=0.0)
    took = max([one.took for one in revoked], default=0.0)
    return (
        f"The well-behaved clients sent {len(soaked.asked):,} requests; failed: {failures(soaked.asked)}. "
        f"The longest wait was {worst(soaked.asked):.2f} s, of `/health/alive` {worst(soaked.alive):.2f} s "
        f"(failed: {failures(soaked.alive)}). {len(revoked):,} keys were made, used and revoked; the longest "
        f"DELETE took {took:.2f} s, and no key was accepted for more than {lag:.2f} s after it. "
        f"{soaked.rotated:,} were rotated. Redis keeps the records of dead keys until `keys prune`."
    )


def broken(soaked: Soaked) -> list[str]:
    """Return what does not hold."""
    grown = [
        f"{course.name}: {course.verdict}"
        for course in courses(soaked)
        if course.growth is not None and course.grown > course.growth
    ]
    lived = [one.lag for one in soaked.revoked if one.lag > LAG_SECONDS]
    return [*grown, *([f"a revoked key lived {max(lived):.1f} s"] if lived else []), *soaked.trouble]
