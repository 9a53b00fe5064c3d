"""Listening Unix sockets: their files, and why a path cannot be listened on.

Rules kept here:
- A file that a dead process has left is replaced. A socket that somebody listens on, and a file that is no
  socket, are refused and stay.
- Of several processes that begin to listen on a path at the same time, one looks at its file, replaces it and
  listens before the next one looks: a lock beside the file, `PATH.lock`, exists for as long as that takes.
  Anything else at `PATH.lock`, such as a file of another user, is refused and stays.
- The file has its mode before anybody can connect.
- A file is removed at the end only if it is still the one that was made here.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from gateway.config.unix_addresses import UnixAddress

_PROBE_SECONDS: Final = 1.0
_LOCK_TRIES: Final = 200
_LOCK_PAUSE: Final = 0.01
"""Seconds between them: in all, twice what another process may take for its probe."""
_LOCKED: Final = (
    "another program begins to listen there, and has not done so for 2 s: stop it, or write another path"
)
_OTHERS_LOCK: Final = "another user has the file of its lock, {}: remove it, or write another path"
_NO_LOCK: Final = "what is in the place of its lock, {}, is no regular file: remove it, or write another path"
_LIVE: Final = "another program listens there: stop it, or write another path"
_OTHERS: Final = "a socket of another user is there: remove it, or write another path"
_NO_SOCKET: Final = "a file is there that is no socket: remove it, or write another path"
_REASONS: Final[Mapping[int, str]] = MappingProxyType(
    {
        errno.ENOENT: "its folder does not exist: create it, or write another path",
        errno.ENOTDIR: "a part of its path is no folder: write another path",
        errno.EACCES: "this user may not write to its folder: change its mode, or write another path",
        errno.EROFS: "its folder can only be read: write a path in a folder such as /run/blnk-gateway",
    }
)


class UnusablePathError(Exception):
    """A path cannot be listened on; the text says why, and what to do."""


def opened(address: UnixAddress, mode: int, queue: int) -> socket.socket:
    """Return a socket that listens at a path whose file has `mode`. Raises UnusablePathError."""
    path = Path(address.path)
    try:
        with contextlib.ExitStack() as stack, _locked(path):
            _make_room(path)
            listening = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            listening.bind(address.path)
            stack.callback(path.unlink)
            path.chmod(mode)
            listening.listen(queue)
            stack.pop_all()
            return listening
    except OSError as problem:
        reason = _REASONS.get(problem.errno or 0) or problem.strerror or str(problem)
        raise UnusablePathError(reason) from problem


def why_not_usable(address: UnixAddress) -> str:
    """Return why a path cannot be listened on now, and what to do; empty if it can. Changes nothing."""
    path = Path(address.path)
    try:
        if path.exists() and not _is_stale(path):
            return _LIVE
        if not os.access(path.parent, os.W_OK | os.X_OK):
            return _REASONS[errno.EACCES if path.parent.is_dir() else errno.ENOENT]
        with contextlib.suppress(FileNotFoundError):
            os.close(_open_lock(_lock_of(path)))
    except UnusablePathError as problem:
        return str(problem)
    except OSError as problem:
        return _REASONS.get(problem.errno or 0) or problem.strerror or str(problem)
    return ""


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock of a path, and remove its file at the end. Raises UnusablePathError, OSError."""
    lock = _lock_of(path)
    held = _wait_for_lock(lock)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            lock.unlink()
        os.close(held)


def _lock_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.lock")


def _wait_for_lock(lock: Path) -> int:
    """Return the descriptor that holds a lock. Raises UnusablePathError, OSError."""
    for _ in range(_LOCK_TRIES):
        held = _try_lock(lock)
        if held is not None:
            return held
        time.sleep(_LOCK_PAUSE)
    raise UnusablePathError(_LOCKED)


def _try_lock(lock: Path) -> int | None:
    """Return the descriptor that holds a lock; None if another one holds it. Raises as `_wait_for_lock`."""
    descriptor = _open_lock(lock, os.O_CREAT)
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # A holder that has ended meanwhile removed this file, and there may be a new one.
            held = os.path.samestat(os.fstat(descriptor), lock.stat())
        except (BlockingIOError, FileNotFoundError):
            held = False
        if held:
            stack.pop_all()
            return descriptor
    return None


def _open_lock(lock: Path, flags: int = 0) -> int:
    """Return a descriptor of the file of a lock. Raises UnusablePathError, OSError."""
    with contextlib.suppress(FileNotFoundError):
        found = lock.lstat()
        # A FIFO would be opened as well, and a device may do anything.
        if not stat.S_ISREG(found.st_mode):
            raise UnusablePathError(_NO_LOCK.format(lock))
        # root can open the files of everybody.
        if found.st_uid != os.geteuid():
            raise UnusablePathError(_OTHERS_LOCK.format(lock))
    try:
        return os.open(lock, flags | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except PermissionError:
        if lock.exists():
            raise UnusablePathError(_OTHERS_LOCK.format(lock)) from None
        raise


def _make_room(path: Path) -> None:
    """Remove a socket's file that nobody listens on. Raises UnusablePathError, OSError."""
    try:
        stale = _is_stale(path)
    except FileNotFoundError:
        return
    if not stale:
        raise UnusablePathError(_LIVE)
    path.unlink()


def _is_stale(path: Path) -> bool:
    """Return True if nobody listens on the socket of a file. Raises UnusablePathError if it is no socket."""
    if not stat.S_ISSOCK(path.lstat().st_mode):
        raise UnusablePathError(_NO_SOCKET)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_SECONDS)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return True
        except PermissionError:
            raise UnusablePathError(_OTHERS) from None
        except (TimeoutError, BlockingIOError):
            # Its queue is full.
            return False
    return False


class SocketFile:
    """The file of a listening Unix socket."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._identity = self._identify()

    def remove(self) -> None:
        """Remove the file, unless another one has taken its place."""
        with contextlib.suppress(OSError):
            if self._identity is not None and self._identify() == self._identity:
                self._path.unlink()
        self._identity = None

    def _identify(self) -> tuple[int, int] | None:
        try:
            found = self._path.lstat()
        except OSError:
            return None
        return found.st_dev, found.st_ino
