"""The section "Sizing" of the operating guide: its figures follow from its formulas and measured costs."""

from __future__ import annotations

import math
import re

from tests.running import ROOT

_SPEED = (ROOT / "README.md").read_text(encoding="utf-8")
_GUIDE = (ROOT / "deploy" / "README.md").read_text(encoding="utf-8")
_FEATURES = (ROOT / "gateway" / "README.md").read_text(encoding="utf-8")
_SIZING = _GUIDE.partition("\n## Sizing\n")[2].partition("\n## ")[0]

RATES = (1_000, 10_000, 100_000)
POLLS = 0.002
LOOK_UP = 25e-6
RENEWED = 8
LEASE = 27e-6
BUSY = 0.6


def row(name: str) -> list[str]:
    """Return the three figures of the row that begins with this text."""
    (line,) = (line for line in _SIZING.splitlines() if line.startswith(f"| {name}"))
    return [cell.strip() for cell in line.strip("|").split("|")][2:]


def cost_of_request(build: str = "compiled") -> float:
    """Return the mean of a GET and a stamped POST in seconds, from the table of the README."""
    (found,) = re.findall(
        rf"^\| \*\*the gateway, {build}\*\* \| \*\*(.+?)\*\* \| \*\*(.+?)\*\*", _SPEED, re.MULTILINE
    )
    return sum(map(float, found)) / 2e6


def feature(name: str) -> float:
    """Return what a feature adds to a GET and a stamped POST of the compiled build on average, in us."""
    cells = re.findall(rf"^\| {name} \| \+?(-?[\d.]+) \S.*?\| \+?(-?[\d.]+) ", _FEATURES, re.MULTILINE)
    return sum(map(float, *cells)) / 2


def processes(rate: int) -> int:
    return math.ceil(rate * cost_of_request() / BUSY) + 1


def redis_of_process(keys: int, *, limits: bool) -> float:
    """Return the seconds of CPU time that a process costs Redis in a second."""
    leases = min(2_560, 20 * keys) if limits else 0
    return POLLS + keys * LOOK_UP / RENEWED + leases * LEASE


def served(count: int) -> str:
    """Return the requests a second of `count` processes, to two significant digits."""
    return f"{float(f'{count * BUSY / cost_of_request():.2g}'):,.0f}"


def percent(part: float) -> str:
    return f"{part:.1%}".replace("%", " %") if part < 0.1 else f"{part:.0%}".replace("%", " %")


def test_processes_follow_from_the_measured_cost_of_a_request() -> None:
    assert row("busy cores of gateways") == [f"{rate * cost_of_request():.3g}" for rate in RATES]
    assert row("processes") == [str(processes(rate)) for rate in RATES]
    assert row("memory of all processes") == [f"{processes(rate) * 0.25:.2f}" for rate in RATES]


def test_core_and_log_follow_from_the_rate() -> None:
    assert row("requests at Core at once") == [
        f"{rate / 100:,.0f} of {128 * processes(rate):,}" for rate in RATES
    ]
    assert row("log") == [f"{rate * 480 / 1e6:.1f}" for rate in RATES]
    assert row("cores of Core") == [f"{rate / 3_005 * 2:.{1 if rate < 10_000 else 0}f}" for rate in RATES]


def test_redis_follows_from_processes_and_busy_keys() -> None:
    """The second row is all that Redis does, with what limits add."""
    without, limited = (
        [percent(processes(rate) * redis_of_process(rate // 10, limits=limits)) for rate in RATES]
        for limits in (False, True)
    )
    assert row("busy keys") == [f"{rate // 10:,}" for rate in RATES]
    assert row("Redis, a core's part, no key") == without
    assert row("Redis, a core's part, every key") == limited


def test_what_one_redis_serves_follows_from_its_formula() -> None:
    """Rates have two significant digits."""
    text = " ".join(_SIZING.split())
    most = [
        int(BUSY / redis_of_process(keys, limits=limits))
        for keys, limits in ((1_000, False), (10_000, False), (10_000, True))
    ]
    assert re.findall(
        r"(\d+) with 1,000 busy .*? \((\S+) requests a second\), "
        r"(\d+) with 10,000 \((\S+)\), and (\d+) if these have limits \((\S+)\)",
        text,
    ) == [tuple(figure for count in most for figure in (str(count), served(count)))]


def test_a_hundred_times_as_much_takes_a_hundred_shards() -> None:
    text = " ".join(_SIZING.split())
    needed, largest = processes(10_000_000), RATES[-1]
    shard = processes(largest)
    redis = percent(shard * redis_of_process(largest // 10, limits=False))
    assert f"{needed:,} processes, which ask Redis for changes for {needed * POLLS:.1f} s" in text
    assert (
        f"are {10_000_000 // largest} shards of the last column, each with {shard} processes and {redis}"
        in text
    )


def test_what_is_added_to_the_cost_of_a_request_is_what_was_measured() -> None:
    """Within 0.5 us, of which the measured figures are no more certain."""
    text = " ".join(_SIZING.split())
    [tls] = re.findall(r"Add (\S+) us for TLS", text)
    [limit] = re.findall(r"(\S+) us for a key with a limit", text)
    [interpreted] = re.findall(r"interpreted it is (\S+) us", text)
    assert abs(float(tls) - feature("TLS, kept connections")) < 0.5
    assert abs(float(limit) - feature("a rate of the key")) < 0.5
    found = re.findall(
        r"^\| \*\*the gateway, interpreted.*\*\*(.+?)\*\* \| \*\*(.+?)\*\*", _SPEED, re.MULTILINE
    )
    assert abs(float(interpreted) - sum(map(float, *found)) / 2) < 0.5
