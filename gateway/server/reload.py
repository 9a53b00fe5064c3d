"""Reload: the configuration file, read again while the gateway runs, and adopted whole or not at all.

Rules kept here:
- A new content is tried once the file has held it for a second, so that no half-written file is tried. SIGHUP
  tries the present content at once. A content is not tried again until it changes or SIGHUP asks.
- The file's content counts, not its name or time: an atomic rename, a swapped symlink and an editor that
  writes in place look the same.
- The file is parsed in a thread, under a deadline; the event loop only adopts the parsed value.
- A file that changes a setting which needs a restart, such as a listener or the store, is refused whole: the
  gateway runs one file, by its SHA-256, or the one before.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Final, Protocol

from gateway.config import Config, ConfigError, UnreadableConfigError, parse_config, settings
from gateway.config.bounded_file import read_bounded
from gateway.policy.problems import Problem

FOLLOWED: Final = (
    "keys.master",
    "keys.per_owner",
    "keys.prefix",
    "keys.report_only",
    "limits.",
    "timeouts.",
    "upstream.master_key_next_file",
    "decide.unstamped",
    "decide.connections",
    "upstream.connections",
    "upstream.queue",
    "upstream.max_body",
    "audit.",
    "drain.",
    "ready_requires",
    "trusted_proxies",
    "tracing.ratio",
)
"""The settings, or sections, that follow the file, as the routes do; all others need a restart."""

MOST_PROBLEMS: Final = 20


@dataclass(frozen=True, slots=True)
class Source:
    """The source of a configuration: its file, and the environment that overrides it."""

    path: Path
    variables: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ReloadResult:
    """The outcome of one file.

    Attributes:
        at: when it was tried (Unix seconds).
        sha256: the SHA-256 of its content; "" if it could not be read.
        problems: why it was refused; none if it is live.
    """

    at: float
    sha256: str
    problems: tuple[str, ...] = ()

    @property
    def success(self) -> bool:
        """True if it is live."""
        return not self.problems


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Times in seconds: between two looks at the file, until a new content counts, for parsing it."""

    look: float = 0.5
    same: float = 1.0
    parse: float = 10.0


def needing_restart(live: Config, new: Config) -> tuple[str, ...]:
    """Return the settings in which `new` differs from `live` and which need a restart."""
    bound = [path for path in settings() if not path.startswith(FOLLOWED)]
    if live.upstream.master_key_file is not None:
        # The file's content is read again where Core refuses the key, not here.
        bound.remove("upstream.master_key")
    return tuple(path for path in bound if attrgetter(path)(live) != attrgetter(path)(new))


class ReloadTarget(Protocol):
    """Follows a configuration file."""

    def adopt(self, config: Config) -> None:
        """Make another configuration live, at once and whole; may not raise."""

    def show_result(self, outcome: ReloadResult) -> None:
        """Show the outcome of a file that was tried."""


class Reload:
    """Follows one file.

    Args:
        source: the file to follow.
        live: the configuration that runs.
        target: follows the file.
        now: Unix seconds.
    """

    def __init__(
        self,
        source: Source,
        live: Config,
        target: ReloadTarget,
        now: Callable[[], float],
        pace: Pace = Pace(),
    ) -> None:
        self._source = source
        self._live = live
        self._target = target
        self._now = now
        self._pace = pace
        self._asked = asyncio.Event()
        self._waiting: list[asyncio.Future[None]] = []
        # A pipe, for one, could be read once; that it cannot be read again is no change.
        self._tried = self._seen = live.sha256 if source.path.is_file() else ""
        self._seen_at = 0.0

    def ask(self) -> asyncio.Future[None]:
        """Try the present content of the file, for SIGHUP; the future is done once it was tried."""
        self._asked.set()
        tried: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(tried)
        return tried

    async def run(self) -> None:
        """Follow the file for ever; returns only by cancellation."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._asked.wait(), self._pace.look)
            asked, waiting = self._asked.is_set(), self._waiting
            self._asked.clear()
            self._waiting = []
            content = await asyncio.to_thread(_content, self._source.path)
            if self._is_due(_sha256(content)) or asked:
                await self.attempt(content)
            for tried in waiting:
                tried.set_result(None)

    def _is_due(self, seen: str) -> bool:
        """Return True if this content is new and has been there for long enough."""
        now = asyncio.get_running_loop().time()
        if seen != self._seen:
            self._seen, self._seen_at = seen, now
        return seen != self._tried and now - self._seen_at >= self._pace.same

    async def attempt(self, content: bytes | ConfigError) -> ReloadResult:
        """Make `content` live, or refuse it whole."""
        self._tried = _sha256(content)
        if isinstance(content, ConfigError):
            return self._refuse("", content.problems)
        parsing = asyncio.get_running_loop().run_in_executor(None, partial(self._parsed, content))
        done, _ = await asyncio.wait({parsing}, timeout=self._pace.parse)
        if not done:
            outcome = self._refuse(self._tried, self._of_file("it takes too long to read: make it smaller"))
            # A thread cannot be ended. Nothing else is tried meanwhile, so that there is only one.
            await asyncio.wait({parsing})
            return outcome
        new = parsing.result()
        if not isinstance(new, Config):
            return self._refuse(self._tried, new)
        self._live = new
        self._target.adopt(new)
        return self._show(ReloadResult(self._now(), self._tried))

    def _parsed(self, data: bytes) -> Config | tuple[Problem, ...]:
        """Return the configuration that `data` describes, or every problem of it; runs in a thread."""
        try:
            new = parse_config(data, self._source.path, self._source.variables, secrets=True, now=self._now)
        except ConfigError as refused:
            return refused.problems
        except Exception as fault:  # whatever the file does to its reader, the gateway goes on
            return self._of_file(f"reading it failed: {type(fault).__name__}")
        bound = needing_restart(self._live, new)
        return self._of_file(*(f"{path} needs a restart: nothing was changed" for path in bound)) or new

    def _of_file(self, *texts: str) -> tuple[Problem, ...]:
        return tuple(Problem(0, text, str(self._source.path)) for text in texts)

    def _refuse(self, sha256: str, problems: tuple[Problem, ...]) -> ReloadResult:
        texts = tuple(map(str, problems[:MOST_PROBLEMS]))
        if len(problems) > MOST_PROBLEMS:
            texts += (f"and {len(problems) - MOST_PROBLEMS} more",)
        return self._show(ReloadResult(self._now(), sha256, texts))

    def _show(self, outcome: ReloadResult) -> ReloadResult:
        self._target.show_result(outcome)
        return outcome


def _content(path: Path) -> bytes | ConfigError:
    """Return the content of the file, or why it cannot be read; a pipe or device is not read."""
    try:
        if path.is_file() or not path.exists():
            return read_bounded(path)
    except ConfigError as unreadable:
        return unreadable
    except OSError:
        pass
    return UnreadableConfigError((Problem(0, "cannot be read: this is no plain file", str(path)),))


def _sha256(content: bytes | ConfigError) -> str:
    return "" if isinstance(content, ConfigError) else hashlib.sha256(content).hexdigest()
