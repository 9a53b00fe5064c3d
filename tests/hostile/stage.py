"""The processes of an attack: Core, Redis, the gateway that is attacked, and another beside it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from gateway.config import Address
from tests.addresses import free_ports
from tests.faults.gateways import Replica, serve
from tests.hostile.attacks import Gateway
from tests.hostile.callers import Entry
from tests.hostile.process import module
from tests.redis_server import RedisServer, start_redis
from tests.tls import Authority


@dataclass(frozen=True, slots=True)
class Stage:
    """Every process that runs; `entry` is where clients reach the attacked gateway."""

    core: Address
    redis: RedisServer
    attacked: Replica
    entry: Entry
    health: Address
    other: Replica

    @property
    def ports(self) -> dict[str, int]:
        """The ports of the attacked gateway's listeners, by setting."""
        attacked = self.attacked
        return {"listen": attacked.port, "admin": attacked.admin.port, "health": self.health.port}


@asynccontextmanager
async def staged(conditions: Gateway, folder: Path, *, log: int | None = None) -> AsyncIterator[Stage]:
    """Start everything and wait until both gateways are ready. Raises StartError.

    The attacked one logs to the descriptor `log`, or into a file.
    """
    async with AsyncExitStack() as stack:
        core = await stack.enter_async_context(module("tests.hostile.core"))
        assert core.stdout is not None
        port = int(await core.stdout.readline())
        limit = conditions.redis_memory
        redis = start_redis(folder, *(("--maxmemory", limit) if limit else ()))
        stack.callback(redis.kill)
        if conditions.log_unread:
            reader, log = os.pipe()
            stack.callback(os.close, reader)
            stack.callback(os.close, log)
        health = Address("127.0.0.1", free_ports(1)[0])
        settings = {
            "BLNK_GATEWAY_UPSTREAM__URL": f"http://127.0.0.1:{port}",
            "BLNK_GATEWAY_KEYS__STORE": redis.url,
            "BLNK_GATEWAY_DRAIN__DELAY": "0s",
            "BLNK_GATEWAY_LIMITS__RATE": str(conditions.rate),
        }
        exposed = settings | {"BLNK_GATEWAY_HEALTH": str(health)}
        trusting = None
        if conditions.tls:
            authority = Authority(folder)
            shown = authority.issue("gateway", "localhost")
            exposed["BLNK_GATEWAY_TLS__CERTIFICATE"] = str(shown.certificate)
            exposed["BLNK_GATEWAY_TLS__KEY"] = str(shown.key)
            trusting = authority.trusting()
        attacked = serve(folder, "attacked", exposed, files=conditions.files, log=log)
        stack.callback(attacked.kill)
        other = serve(folder, "other", settings)
        stack.callback(other.kill)
        await attacked.started()
        await other.started()
        yield Stage(
            Address("127.0.0.1", port), redis, attacked, Entry(attacked.listen, trusting), health, other
        )
