"""Run the sections of the benchmark and print their results; runs in the tests' environment.

Rules kept here:
- Results go to standard output, progress to standard error.
- SIGTERM and Ctrl-C end every server and remove every file.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.bench import machine
from tests.bench.bounds import lines as verdict_lines
from tests.bench.load import LoadError
from tests.bench.options import SECTIONS, Options, parse
from tests.bench.report import Result
from tests.bench.sections import comparison, features, flat, latency, processes, quick, soak
from tests.bench.sections.context import Context
from tests.bench.servers import Cores, StartError, end_on_sigterm

_RUN: Mapping[str, Callable[[Context], Result]] = {
    "peers": comparison.peers,
    "sizes": comparison.sizes,
    "processes": processes.processes,
    "features": features.features,
    "flat": flat.flat,
    "latency": latency.latency,
    "soak": soak.soak,
}
assert _RUN.keys() == SECTIONS.keys()


def main() -> int:
    options = parse(sys.argv[1:])
    end_on_sigterm()
    cores = Cores.available()
    if cores is None:
        sys.stderr.write("tests.bench: needs two cores\n")
        return 2
    context = Context(options, cores)
    try:
        return measure(context)
    except (StartError, LoadError) as problem:
        context.say(str(problem))
        return 2
    except KeyboardInterrupt:
        context.say("interrupted")
        return 130


def measure(context: Context) -> int:
    """Run what the user wishes; return 1 if a bound was missed, else 0. Raises StartError, LoadError."""
    options, environment = context.options, machine.described()
    sys.stdout.write(f"{machine.summary(environment)}\n")
    sys.stdout.flush()
    results: dict[str, Result] = {}
    chosen = {"quick": quick.quick} if options.quick else {name: _RUN[name] for name in options.sections}
    for name, run in chosen.items():
        results[name] = run(context)
        sys.stdout.write(printed(results[name]))
        sys.stdout.flush()
        # Written after each section, so that an interrupted run keeps what it has.
        keep(options, environment, results)
    return 1 if any(verdict.missed for result in results.values() for verdict in result.verdicts) else 0


def printed(result: Result) -> str:
    """Return a result as Markdown."""
    parts = [f"\n## {result.title}\n", *result.lines, "", *verdict_lines(result.verdicts)]
    return "\n".join(parts) + "\n"


def keep(options: Options, environment: Mapping[str, Any], results: Mapping[str, Result]) -> None:
    """Write the files that the user wishes."""
    if options.json:
        write_json(options.json, environment, results)
    if options.svg and "peers" in results:
        options.svg.write_text(results["peers"].picture)


def write_json(file: Path, environment: Mapping[str, Any], results: Mapping[str, Result]) -> None:
    """Write every sample and verdict."""
    sections = {
        name: {**result.data, "verdicts": [asdict(verdict) for verdict in result.verdicts]}
        for name, result in results.items()
    }
    file.write_text(json.dumps({"environment": environment, "sections": sections}, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
