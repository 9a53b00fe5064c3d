"""The keys that tests of the wire call with, and the word that no response may hold."""

from __future__ import annotations

import pytest

from tests.running import Minted, Running
from tests.wire.asserting import CANARY


@pytest.fixture
async def reader(gateway: Running) -> Minted:
    return await gateway.mint("ledgers:read", "balances:read")


@pytest.fixture
async def writer(gateway: Running) -> Minted:
    return await gateway.mint("ledgers:*", "balances:read")


@pytest.fixture
def canary(gateway: Running) -> str:
    """The word that no response and no log line may hold."""
    gateway.forbidden.add(CANARY)
    return CANARY


@pytest.fixture
async def caller(gateway: Running) -> Minted:
    return await gateway.mint("ledgers:*")
