"""How Ctrl-C and SIGTERM end a command.

Rules kept here:
- SIGTERM ends a command as Ctrl-C does, by an exception, so that it clears away what it had begun.
- No exception is thrown into a running event loop, which could forget what it was about to do, and hang: the
  task is cancelled.
- A change that was begun is finished and told: the first signal is held back, the second ends it.
- What is ignored, as Ctrl-C is in the background of a script, stays so.
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


def end_by_sigterm() -> None:
    """Let SIGTERM end the process as Ctrl-C does, where it would end it at all by default."""
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _exit)


def _exit(number: int, _: FrameType | None) -> NoReturn:
    sys.exit(128 + number)


@contextlib.contextmanager
def unbroken() -> Iterator[None]:
    """Hold the first Ctrl-C or SIGTERM back: what was begun is finished and told. The second ends it."""
    held = False

    def around(before: Handler) -> Handler:
        def hold(number: int, frame: FrameType | None) -> None:
            nonlocal held
            if held:
                before(number, frame)
                return
            held = True
            # Nobody may be left to read it, or a line be half written: it must not break off what it holds.
            with contextlib.suppress(OSError, RuntimeError):
                say("finishing what was begun; once more to break it off", err=True)

        return hold

    with _handled(around):
        yield


def run(work: Coroutine[None, None, Done]) -> Done:
    """The outcome of a coroutine; a signal that ends the command cancels it."""
    ended: list[BaseException] = []

    async def cancelled() -> Done:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()

        def around(before: Handler) -> Handler:
            def end(number: int, frame: FrameType | None) -> None:
                try:
                    before(number, frame)
                except (KeyboardInterrupt, SystemExit) as ending:
                    ended.append(ending)
                    if task is not None:
                        task.cancel()
                    # Wakes the loop, which may wait for something else.
                    loop.call_soon_threadsafe(lambda: None)

            return end

        with _handled(around):
            return await work

    try:
        with asyncio.Runner(loop_factory=partial(new_loop, fast=False)) as runner:
            return runner.run(cancelled())
    except asyncio.CancelledError:
        if ended:
            raise ended[0] from None
        raise


@contextlib.contextmanager
def _handled(around: Callable[[Handler], Handler]) -> Iterator[None]:
    """Each signal that ends a command handled by what `around` makes of its handler."""
    if threading.current_thread() is not threading.main_thread():
        # Signals come to the main thread alone.
        yield
        return
    before = {number: handler for number in _ENDING if callable(handler := signal.getsignal(number))}
    for number, handler in before.items():
        signal.signal(number, around(handler))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
