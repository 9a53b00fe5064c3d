"""Turn every failure of Redis into one of the key store, with the reason in words for operators.

Rules kept here:
- Nothing waits for Redis for longer than 1.5 s, connecting included, besides the time that Redis is asked to
  wait.
- No text of redis-py or of Redis is repeated: it may quote a command, and a command may hold a record. Of a
  command that is forbidden, only the name is repeated.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import re
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

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

from gateway.errors import GatewayError
from gateway.keys.errors import (
    StoreUnavailableError,
    UnacknowledgedError,
    UncertainError,
    UnreadableKeyError,
)
from gateway.keys.record import RefusedRecordError
from gateway.keys.redis.names import id_name, shown

RESPONSE_SECONDS: Final = 1.5

CLOSED: Final = "Redis closed the connection"
MAYBE_TLS: Final = f"{CLOSED} before it answered: if it speaks TLS, write rediss in keys.store"
NO_TLS: Final = "what answers where keys.store points speaks no TLS: write redis instead of rediss"
NO_HANDSHAKE: Final = (
    "Redis cannot be reached: no connection over TLS in time; if it speaks no TLS, write redis instead of "
    "rediss in keys.store"
)
NO_CONNECTION: Final = (
    "Redis cannot be reached: no connection in time; its address is wrong, or something drops every packet"
)
CLUSTER_NODE: Final = (
    "the Redis that keys.store names is a node of a Cluster: write redis+cluster://host:port,host:port"
)
NOT_SENT: Final = "the connection to Redis was closed before the command was sent"
REPLACED: Final = "the Redis that answers is no primary any more"
NO_PRIMARY: Final = "Redis has no primary that takes changes"

_CERTIFICATE: Final = "a certificate that keys.store names cannot be read"
_WRONG_NAME: Final = frozenset({62, 64})
"""X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH."""
_DATES: Final = {9: "is not valid yet", 10: "has expired"}
"""X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED."""
_SPEAKS_NO_TLS: Final = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"})
"""What OpenSSL says, depending on its version, of bytes that are no TLS record."""
_FULL: Final = "max number of clients reached"
"""The text that redis-py keeps of that error of Redis."""
_NETWORK: Final = {
    errno.ECONNREFUSED: "connection refused",
    errno.EHOSTUNREACH: "no route to the host",
    errno.ENETUNREACH: "no route to the network",
}
_KINDS: Final[tuple[tuple[tuple[type[Exception], ...], str], ...]] = (
    ((AuthenticationError, AuthorizationError), "Redis refuses the user or the password of keys.store"),
    ((OutOfMemoryError,), "Redis takes no change: it is out of memory (maxmemory)"),
    ((BusyLoadingError,), "Redis is still loading its data"),
    ((ReadOnlyError, MasterDownError, ClusterDownError), NO_PRIMARY),
    ((ssl.SSLError,), "the TLS handshake with Redis fails"),
    ((FileNotFoundError,), _CERTIFICATE),
    ((InvalidResponse,), "what answers where keys.store points is no Redis"),
    ((socket.gaierror,), "Redis cannot be reached: unknown host name"),
    ((TimeoutError,), "Redis does not answer in time"),
    ((LostConnectionError, ConnectionResetError, BrokenPipeError), CLOSED),
    ((OSError,), "Redis cannot be reached"),
)
"""The reason by the kind of the failure; of several that fit, the first counts."""
_WRONG_TYPE: Final = "WRONGTYPE"
_RESPONSES: Final = {
    _WRONG_TYPE: "Redis holds a value of another type under one of the gateway's names, {blnk-gateway}:*",
    "NOREPLICAS": "Redis takes no change: too few of its replicas are well (min-replicas-to-write)",
    "MISCONF": "Redis takes no change: it cannot write to its disk",
    "DB": "Redis has no database of the number that keys.store names",
    # Of CLUSTER SLOTS: "This instance has cluster support disabled".
    "This": "the Redis that keys.store names is in no Cluster: write redis://host:port",
    "BUSY": "Redis is busy with somebody's script, and answers nothing else: see SCRIPT KILL",
}
"""The reason by the first word of an error that Redis returned."""
_LAST_ID: Final = "exhausted the last possible ID"
_NO_FURTHER_ENTRY: Final = (
    "Redis takes no further entry in {blnk-gateway}:audit or {blnk-gateway}:changes, because another program "
    "has used the last id of that stream: see 'An id that is no time' in deploy/reference.md"
)
_FIRST_WORD: Final = re.compile(r"(?:.* of pipeline caused error: \W*)?(\w*)", re.DOTALL)
_COMMAND: Final = re.compile(r"the '([a-z|_-]{1,40})' command")


class NotAcknowledgedError(RedisError):
    """The primary has made a write, and too few replicas have acknowledged it."""


class NoResponseError(RedisError):
    """A change was sent, and there is no response that says whether it was made."""


class NotSentError(LostConnectionError):
    """The connection was closed before a command was sent on it."""

    def __init__(self) -> None:
        super().__init__(NOT_SENT)


class UnreachedError(LostConnectionError):
    """No connection came about; the text says why."""


class NoPrimaryError(LostConnectionError):
    """There is no primary where one is looked for; the text says why."""


_NO_RECORD: Final = "holds no record that can be read"
_MISLEADING: Final = (
    "does not lead to the record of this key: 'blnk-gateway keys export --digests' and "
    "'blnk-gateway keys import' write it again; see 'Changing a key' in deploy/keys.md"
)


class UnreadableRecordError(Exception):
    """The record of a key cannot be read, or not be found; `key_id` is that of the key, if it is known.

    Args:
        name: of the value in Redis that is to blame, and `problem` what is wrong with it.
    """

    def __init__(self, name: str, key_id: str = "", problem: str = _NO_RECORD) -> None:
        super().__init__(f"{name} in Redis {problem}")
        self.key_id = key_id


def misleading_index(key_id: str) -> UnreadableRecordError:
    """Return the failure of a key whose id leads to the record of another key, or to no digest."""
    return UnreadableRecordError(shown(id_name(key_id)), key_id, _MISLEADING)


_IN_WORDS: Final = (
    NotSentError,
    UnreachedError,
    NoPrimaryError,
    NotAcknowledgedError,
    UnreadableRecordError,
)
"""The failures of this package, whose text is for operators."""


@contextlib.asynccontextmanager
async def redis_errors(wait: float = 0.0) -> AsyncIterator[None]:
    """Bound what happens inside to 1.5 s and `wait`, and turn every failure into one of the key store."""
    try:
        async with asyncio.timeout(RESPONSE_SECONDS + wait):
            yield
    except (GatewayError, RefusedRecordError):
        raise
    except NotAcknowledgedError as error:
        raise UnacknowledgedError(reason=str(error)) from error
    except UnreadableRecordError as error:
        raise unreadable_key(error) from error
    except Exception as error:
        # redis-py lets through OSError, ValueError, IndexError and more, depending on what the peer sends.
        failure = UncertainError if maybe_written(error) else StoreUnavailableError
        raise failure(reason=reason(error)) from error


def unreadable_key(error: UnreadableRecordError) -> UnreadableKeyError:
    """Return the failure of what needs a record that cannot be read."""
    failure = UnreadableKeyError(reason=str(error))
    failure.__cause__ = error
    return failure


def is_wrong_type(error: BaseException) -> bool:
    """Return whether Redis holds a value of another type under a name than the command is for."""
    return isinstance(error, ResponseError) and _first_word(error) == _WRONG_TYPE


def or_empty(reply: Any, empty: Any) -> Any:
    """Return a reply in a pipeline; `empty` for a name of another type. Raises any other failure in it."""
    if not isinstance(reply, Exception):
        return reply
    if not is_wrong_type(reply):
        raise reply
    return empty


def reason(error: BaseException) -> str:
    """Return what an operator is told of a failure of Redis."""
    return known_reason(error) or f"Redis failed: {type(error).__name__}"


def known_reason(error: BaseException) -> str:
    """Return the same; empty if nothing is known but the failure's kind."""
    return next(filter(None, map(_words, _causes(error))), "")


def maybe_written(error: BaseException) -> bool:
    """Return True if a change that failed so may have been made all the same."""
    return any(isinstance(cause, NoResponseError) for cause in _causes(error))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the failure and what led to it, innermost first: that is the nearest to what is wrong."""
    within = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if within is not None:
        yield from _causes(within)
    yield error


def _words(error: BaseException) -> str:
    """Return the reason in one failure alone; empty if others tell more."""
    if isinstance(error, _IN_WORDS):
        return str(error)
    if isinstance(error, ssl.SSLError):
        return _tls_words(error)
    if isinstance(error, ResponseError):
        return _response_words(error)
    if isinstance(error, OSError):
        return _network_words(error)
    if isinstance(error, LostConnectionError) and str(error) == _FULL:
        return "Redis takes no further client (maxclients)"
    return _by_kind(error)


def _response_words(error: ResponseError) -> str:
    if isinstance(error, NoPermissionError):
        found = _COMMAND.search(str(error))
        what = f"run {found[1]}" if found else "use the gateway's names"
        return f"Redis does not let the user of keys.store {what}: see the rights in deploy/README.md"
    if _LAST_ID in str(error):
        return _NO_FURTHER_ENTRY
    return _RESPONSES.get(_first_word(error)) or _by_kind(error)


def _first_word(error: ResponseError) -> str:
    """Return the first word of an error that Redis returned; in a pipeline, redis-py puts others before."""
    found = _FIRST_WORD.match(str(error))
    return "" if found is None else found[1]


def _tls_words(error: ssl.SSLError) -> str:
    if not isinstance(error, ssl.SSLCertVerificationError):
        return NO_TLS if getattr(error, "reason", None) in _SPEAKS_NO_TLS else _by_kind(error)
    code = getattr(error, "verify_code", None)
    if code in _WRONG_NAME:
        return "the certificate of Redis is for another name than the one in keys.store"
    if code in _DATES:
        return f"the certificate of Redis {_DATES[code]}"
    return "the certificate of Redis is not trusted: see ssl_ca_certs"


def _network_words(error: OSError) -> str:
    if isinstance(error, PermissionError) and error.errno == errno.EACCES:
        return _CERTIFICATE
    if isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN:
        return "Redis cannot be reached: no name server answers"
    words = _NETWORK.get(error.errno or 0)
    return f"Redis cannot be reached: {words}" if words else _by_kind(error)


def _by_kind(error: BaseException) -> str:
    return next((words for kinds, words in _KINDS if isinstance(error, kinds)), "")
