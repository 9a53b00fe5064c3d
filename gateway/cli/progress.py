"""What a command says of work in batches: how far it is, and what to do where it was broken off."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Iterator

from gateway.cli.console import say


@contextlib.contextmanager
def progress(total: int) -> Iterator[Callable[[int], None]]:
    """What is told how much was done since: a bar on a terminal, nothing elsewhere."""
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
def resumable(todo: str) -> Iterator[None]:
    """A signal that ends the work in the middle is told with what to do about it, as a failure is."""
    try:
        yield
    except asyncio.CancelledError:
        say(f"broken off; {todo}", err=True)
        raise
