"""Audits a configuration that was refused at the start: nothing runs then that could do it.

Rules kept here:
- It is audited only if the store is known: from what could be read of the file, or from the environment.
- It trims nothing: the file that says how many entries the stream keeps is the one that was refused.
- The start fails in any case, with its own text, and does not wait long for this.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from gateway.config import ConfigError
from gateway.errors import GatewayError
from gateway.keys.redis.store import RedisKeyStore
from gateway.server.audit_recorder import AuditRecorder

PATIENCE_SECONDS: Final = 1.0


async def audit_refusal(refused: ConfigError, store_url: str, recorder: AuditRecorder) -> None:
    """Append an entry about the refused file to the audit stream of this store, if it takes one at once."""
    recorder.policy_refused(refused.sha256, tuple(map(str, refused.problems)), "")
    try:
        store = RedisKeyStore(store_url)
    except ValueError:
        # The URL may be what was refused, or names the memory of a process.
        return
    try:
        with contextlib.suppress(GatewayError, TimeoutError):
            async with asyncio.timeout(PATIENCE_SECONDS):
                await store.append_entries(recorder.queue.first(1))
    finally:
        await store.close()
