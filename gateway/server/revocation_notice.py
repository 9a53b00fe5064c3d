"""The line of the log that states the bound of a revocation, once it holds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from structlog.typing import FilteringBoundLogger

from gateway.errors import GatewayError
from gateway.keys.authority import Authority, UnusableAuthorityError

_LOOK_SECONDS: Final = 0.5


async def say_once_true(
    authority: Authority, linked: Callable[[], bool], log: FilteringBoundLogger, grace: float
) -> None:
    """Wait until the key store is `linked` and the authority responds; log its bound then.

    `grace` is the time in seconds that known keys work while the store fails.
    """
    while not await _holds(authority, linked):
        await asyncio.sleep(_LOOK_SECONDS)
    log.info(authority.bound, grace=grace)


async def _holds(authority: Authority, linked: Callable[[], bool]) -> bool:
    if not linked():
        return False
    try:
        await authority.check()
    except (GatewayError, UnusableAuthorityError):
        return False
    return authority.failure is None
