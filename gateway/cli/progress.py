"""Shows the progress of work in batches, and what to do after a signal has ended it."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Iterator

from gateway.cli.console import say


@contextlib.contextmanager
def progress(total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar on a terminal, and nothing elsewhere; yield what is called with each finished number."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda count: bar.advance(task, count)


@contextlib.contextmanager
def resumable(advice: str) -> Iterator[None]:
    """Print the advice if a signal ends the work inside, as it is printed if a dependency fails."""
    try:
        yield
    except asyncio.CancelledError:
        say(f"stopped before the end; {advice}", err=True)
        raise
