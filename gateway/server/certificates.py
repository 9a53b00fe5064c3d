"""The certificates that are in use, read again when their files change.

Rules kept here:
- The content of the files counts, not their names or times: the swapped folder of cert-manager and an editor
  that writes in place look the same. A new content is tried once it has stayed the same for a second, and at
  once on SIGHUP.
- Only new connections take another certificate; none is dropped for it.
- Files that cannot be used together change nothing, and are logged once. No failure ends the following.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from structlog.typing import FilteringBoundLogger

from gateway.config import Config
from gateway.config.certificates import (
    CertificateError,
    KeyPair,
    PemFile,
    core_context,
    end_of,
    end_text,
    server_context,
)
from gateway.config.checks import LISTENERS
from gateway.config.sections.tls import TlsConfig
from gateway.config.sections.upstream import UpstreamConfig
from gateway.wire.handshake_results import HandshakeResults
from gateway.wire.tls_connection import TlsAcceptor

LOOK_SECONDS: Final = 0.5
SAME_SECONDS: Final = 1.0
"""The time for which a new content has to stay the same before it is tried."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """The TLS contexts that files make, by what they are for, and the certificate's end in Unix seconds."""

    contexts: Mapping[str, ssl.SSLContext]
    end: float | None = None


class FollowedFiles:
    """Files that are read together.

    Args:
        name: the section of their settings, for the log.
        files: all of them.
        load: reads them; raises CertificateError.
    """

    def __init__(self, name: str, files: Sequence[PemFile], load: Callable[[], Loaded]) -> None:
        self.name = name
        self.files = files
        self._load = load
        self._tried = self._seen = self.fingerprint()
        self._seen_at = 0.0
        self.loaded = load()

    def fingerprint(self) -> bytes:
        """Return what tells one content of all files from another."""
        contents = hashlib.sha256()
        for file in self.files:
            with contextlib.suppress(CertificateError):
                contents.update(hashlib.sha256(file.read()).digest())
            contents.update(b".")
        return contents.digest()

    def is_due(self, seen: bytes, now: float) -> bool:
        """Return True if this content is new and has been there for long enough; `now` is in seconds."""
        if seen != self._seen:
            self._seen, self._seen_at = seen, now
        return seen != self._tried and now - self._seen_at >= SAME_SECONDS

    def is_tried(self, seen: bytes) -> bool:
        """Return True if this content was the last that was tried."""
        return seen == self._tried

    def load_again(self, seen: bytes) -> None:
        """Use what the files hold now. Raises CertificateError, and changes nothing then."""
        self._tried = self._seen = seen
        self.loaded = self._load()


class Certificates:
    """The certificates of the listeners, and that for Core.

    Args:
        config: names the files. Raises CertificateError if they cannot be used.
        loop: the event loop that serves connections.
        log: takes each change.
        now: Unix seconds.
    """

    def __init__(
        self,
        config: Config,
        loop: asyncio.AbstractEventLoop,
        log: FilteringBoundLogger,
        now: Callable[[], float],
    ) -> None:
        self._loop = loop
        self._log = log
        self._now = now
        self._asked = asyncio.Event()
        self._adopters: list[Callable[[ssl.SSLContext | None], None]] = []
        self._of_listeners = _of_listeners(config.tls)
        self._of_core = _of_core(config.upstream)
        # A flood of handshakes at one listener delays none at another.
        self._acceptors = {
            listener: TlsAcceptor(context, loop, HandshakeResults())
            for listener, context in self._of_listeners.loaded.contexts.items()
        }

    @property
    def acceptors(self) -> Mapping[str, TlsAcceptor]:
        """Those of the listeners that speak TLS, by their settings."""
        return self._acceptors

    @property
    def core(self) -> ssl.SSLContext | None:
        """The context of a new connection to Core; None for plain HTTP."""
        return self._of_core.loaded.contexts.get("upstream")

    def core_followed_by(self, *adopters: Callable[[ssl.SSLContext | None], None]) -> None:
        """Call `adopters` with each context for Core from now on."""
        self._adopters.extend(adopters)

    def ends(self) -> Mapping[str, float]:
        """Return the end of each certificate in use, in Unix seconds, by its setting."""
        return {
            f"{followed.name}.certificate": followed.loaded.end
            for followed in self._followed
            if followed.loaded.end is not None
        }

    def handshakes(self) -> Mapping[tuple[str, str], int]:
        """Return the number of handshakes, by listener and result."""
        return {
            (listener, result.value): count
            for listener, acceptor in self._acceptors.items()
            for result, count in acceptor.results.counts.items()
        }

    @property
    def _followed(self) -> tuple[FollowedFiles, FollowedFiles]:
        return self._of_listeners, self._of_core

    # The files.

    def ask(self) -> None:
        """Try the present content of the files; for SIGHUP."""
        self._asked.set()

    async def run(self) -> None:
        """Follow the files for ever; returns only by cancellation."""
        followed = [files for files in self._followed if files.files]
        while followed:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._asked.wait(), LOOK_SECONDS)
            asked = self._asked.is_set()
            self._asked.clear()
            for files in followed:
                seen = await asyncio.to_thread(files.fingerprint)
                if files.is_due(seen, self._loop.time()) or (asked and not files.is_tried(seen)):
                    await self._try(files, seen)

    async def _try(self, files: FollowedFiles, seen: bytes) -> None:
        try:
            await asyncio.to_thread(files.load_again, seen)
            self._adopt(files)
        except CertificateError as problem:
            self._log.error("certificate refused", setting=problem.setting, problem=str(problem))
        except Exception as fault:  # whatever the files do to their reader, they are followed further
            text = f"using its files failed: {type(fault).__name__}"
            self._log.error("certificate refused", setting=files.name, problem=text)

    def _adopt(self, files: FollowedFiles) -> None:
        """Let new connections use what was loaded."""
        for listener, context in self._of_listeners.loaded.contexts.items():
            self._acceptors[listener].context = context
        for adopt in self._adopters:
            adopt(self.core)
        end = files.loaded.end
        self._log.info("certificate reloaded", section=files.name, end=end)
        if end is not None and (text := end_text(end, self._now())):
            self._log.warning("configuration", problem=f"{files.name}.certificate: {text}")


def _of_listeners(tls: TlsConfig) -> FollowedFiles:
    pair, authorities = tls.pair, tls.client_authorities
    if pair is None:
        return _nothing("tls")

    def load() -> Loaded:
        contexts = {
            listener: server_context(pair, authorities if tls.asks_clients(listener) else None)
            for listener in LISTENERS
            if tls.speaks(listener)
        }
        return Loaded(contexts, end_of(pair.certificate))

    return FollowedFiles("tls", tuple(_named(pair, authorities)), load)


def _of_core(upstream: UpstreamConfig) -> FollowedFiles:
    if not upstream.tls:
        return _nothing("upstream")
    pair, authorities = upstream.pair, upstream.authorities

    def load() -> Loaded:
        end = None if pair is None else end_of(pair.certificate)
        return Loaded({"upstream": core_context(authorities, pair)}, end)

    return FollowedFiles("upstream", tuple(_named(pair, authorities)), load)


def _nothing(name: str) -> FollowedFiles:
    return FollowedFiles(name, (), lambda: Loaded(MappingProxyType({})))


def _named(pair: KeyPair | None, authorities: PemFile | None) -> Iterator[PemFile]:
    if pair is not None:
        yield from pair.files
    if authorities is not None:
        yield authorities
