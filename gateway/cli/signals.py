"""Ends a command on Ctrl-C and SIGTERM.

Rules kept here:
- SIGTERM ends a command as Ctrl-C does, by an exception, so that the command cleans up.
- No exception is raised inside a running event loop, which could lose its next step and hang: the task is
  cancelled instead.
- A change that has begun is finished and reported: the first signal is held back, the second ends it.
- An ignored signal stays ignored, such as Ctrl-C for a command in the background of a script.

`asyncio.Runner` and `add_signal_handler` cannot keep these rules. The runner handles SIGINT only where no
other handler is installed, so not while the first signal is held back; and removing a handler from the loop
installs the default one, and not the handler that was there before.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from types import FrameType
from typing import Final, NoReturn, TypeVar

from gateway.cli.console import say
from gateway.server.loop import new_loop

Done = TypeVar("Done")
Handler = Callable[[int, FrameType | None], object]

_ENDING: Final = (signal.SIGINT, signal.SIGTERM)


def exit_on_sigterm() -> None:
    """Let SIGTERM raise SystemExit, unless it is ignored or handled otherwise."""
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _exit)


def _exit(number: int, _: FrameType | None) -> NoReturn:
    sys.exit(128 + number)


@contextlib.contextmanager
def first_signal_held_back() -> Iterator[None]:
    """Hold back the first Ctrl-C or SIGTERM, so that the change inside is finished; a second one ends it."""
    held_back = False

    def wrap(handler: Handler) -> Handler:
        def hold_back(number: int, frame: FrameType | None) -> None:
            nonlocal held_back
            if held_back:
                handler(number, frame)
                return
            held_back = True
            # The stream may be closed, or in the middle of a line: that must not break the change.
            with contextlib.suppress(OSError, RuntimeError):
                say("finishing the change that has begun; a second Ctrl-C or SIGTERM stops it", err=True)

        return hold_back

    with _wrapped_handlers(wrap):
        yield


def run_until_signal(work: Coroutine[None, None, Done]) -> Done:
    """Return the result of a coroutine; a signal that ends the command cancels it first."""
    ended_by: list[BaseException] = []

    async def work_until_signal() -> Done:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()

        def wrap(handler: Handler) -> Handler:
            def cancel(number: int, frame: FrameType | None) -> None:
                try:
                    handler(number, frame)
                except (KeyboardInterrupt, SystemExit) as ending:
                    ended_by.append(ending)
                    if task is not None:
                        task.cancel()
                    # Wakes the loop, which may be waiting for I/O.
                    loop.call_soon_threadsafe(lambda: None)

            return cancel

        with _wrapped_handlers(wrap):
            return await work

    try:
        with asyncio.Runner(loop_factory=partial(new_loop, fast=False)) as runner:
            return runner.run(work_until_signal())
    except asyncio.CancelledError:
        if ended_by:
            raise ended_by[0] from None
        raise


@contextlib.contextmanager
def _wrapped_handlers(wrap: Callable[[Handler], Handler]) -> Iterator[None]:
    """Replace the handler of each signal that ends a command by what `wrap` makes of it."""
    if threading.current_thread() is not threading.main_thread():
        # Python delivers signals to the main thread only.
        yield
        return
    before = {number: handler for number in _ENDING if callable(handler := signal.getsignal(number))}
    for number, handler in before.items():
        signal.signal(number, wrap(handler))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
