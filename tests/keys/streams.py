"""Audit streams for tests."""

from __future__ import annotations

from gateway.keys.redis.names import AUDIT
from tests.redis_server import RedisServer

_FILL = "for _ = 1, ARGV[1] do redis.call('XADD', KEYS[1], '*', 'entry', '{}') end"


def fill_stream(server: RedisServer, count: int) -> None:
    """Append so many empty entries to the audit stream."""
    server.command("EVAL", _FILL, "1", AUDIT, str(count))
