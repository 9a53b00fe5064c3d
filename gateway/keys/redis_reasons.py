"""Every failure of Redis as one of the key store, with the reason in words for operators.

Rules kept here:
- Nothing waits for Redis for longer than 1.5 s, connecting included, besides what it asks Redis to wait.
- No text of redis-py or of Redis is repeated: it may quote a command, and a command may hold what a record
  does. Of a command that is forbidden the name alone is told.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import re
import ssl
from collections.abc import AsyncIterator, Iterator
from typing import Final

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterDownError,
    InvalidResponse,
    MasterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as LostConnectionError

from gateway.errors import Code, GatewayError
from gateway.keys.store import RefusedRecordError, UnacknowledgedError, UncertainError

ANSWER_SECONDS: Final = 1.5

_CERTIFICATE: Final = "a certificate that keys.store names cannot be read"
_WORDS: Final[tuple[tuple[tuple[type[Exception], ...], str], ...]] = (
    ((AuthenticationError, AuthorizationError), "Redis refuses the user or the password of keys.store"),
    ((OutOfMemoryError,), "Redis takes no change: it is out of memory (maxmemory)"),
    ((BusyLoadingError,), "Redis is still loading its data"),
    ((ReadOnlyError, MasterDownError, ClusterDownError), "Redis has no primary that takes changes"),
    ((ssl.SSLCertVerificationError,), "the certificate of Redis is not trusted: see ssl_ca_certs"),
    ((FileNotFoundError,), _CERTIFICATE),
    ((InvalidResponse,), "what answers where keys.store points is no Redis"),
    ((TimeoutError,), "Redis does not answer in time"),
    ((LostConnectionError, OSError), "Redis cannot be reached"),
)
"""By the kind of the failure; of several that fit, the first counts."""
_ANSWERS: Final = {
    "NOREPLICAS": "Redis takes no change: too few of its replicas are well (min-replicas-to-write)",
    "MISCONF": "Redis takes no change: it cannot write to its disk",
    "DB": "Redis has no database of the number that keys.store names",
}
"""By the first word of an error that Redis answered."""
_COMMAND: Final = re.compile(r"the '([a-z|_-]{1,40})' command")


class NotAcknowledgedError(RedisError):
    """A write stands on the primary, and too few replicas have said that they have it."""


class UnansweredError(RedisError):
    """A change was sent, and Redis has not said whether it made it."""


class NoPrimaryError(LostConnectionError):
    """There is no primary where one is looked for; the text says how that was found."""


class UnreadableRecordError(Exception):
    """What stands under a name is no record of the key that the name tells."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} in Redis holds no record that can be read")


@contextlib.asynccontextmanager
async def answering(wait: float = 0.0) -> AsyncIterator[None]:
    """Bound what happens inside to 1.5 s and `wait`, and turn its every failure into one."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS + wait):
            yield
    except (GatewayError, RefusedRecordError):
        raise
    except NotAcknowledgedError as error:
        raise UnacknowledgedError(Code.KEY_STORE_UNAVAILABLE, reason=str(error)) from error
    except Exception as error:
        # redis-py lets through OSError, ValueError, IndexError and more, by what the peer sends.
        failure = UncertainError if in_doubt(error) else GatewayError
        raise failure(Code.KEY_STORE_UNAVAILABLE, reason=reason(error)) from error


def reason(error: BaseException) -> str:
    """What an operator is told of a failure of Redis."""
    told = (_told(cause) for cause in _causes(error))
    return next(filter(None, told), f"Redis failed: {type(error).__name__}")


def in_doubt(error: BaseException) -> bool:
    """Whether what failed so may have been done all the same."""
    return any(isinstance(cause, UnansweredError) for cause in _causes(error))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The failure and what led to it, innermost first: that is the nearest to what is wrong."""
    within = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if within is not None:
        yield from _causes(within)
    yield error


def _told(error: BaseException) -> str:
    if isinstance(error, (NoPrimaryError, NotAcknowledgedError, UnreadableRecordError)):
        return str(error)
    if isinstance(error, NoPermissionError):
        found = _COMMAND.search(str(error))
        what = f"run {found[1]}" if found else "use the gateway's names"
        return f"Redis does not let the user of keys.store {what}: see the rights in deploy/README.md"
    if isinstance(error, PermissionError) and error.errno == errno.EACCES:
        return _CERTIFICATE
    if isinstance(error, ResponseError) and (words := _ANSWERS.get(str(error).partition(" ")[0])):
        return words
    return next((words for kinds, words in _WORDS if isinstance(error, kinds)), "")
