"""Results are set on futures that may be done already."""

from __future__ import annotations

import asyncio

import pytest

from gateway.fairness.futures import fail


async def test_a_future_fails_once() -> None:
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    fail(future, ValueError("first"))
    fail(future, ValueError("second"))
    with pytest.raises(ValueError, match="first"):
        await future


async def test_a_future_that_is_done_stays_as_it_is() -> None:
    """A future that is done, because its waiter has a result or gave up, is not changed."""
    done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    cancelled: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    done.set_result(1)
    cancelled.cancel()
    for future in (done, cancelled):
        fail(future, ValueError())
    assert (await done, cancelled.cancelled()) == (1, True)
