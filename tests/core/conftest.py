"""Fixtures of the tests against a live Core: that Core, a gateway in front of it, and its database.

Rules kept here:
- Tests that use the Core or its database are skipped if the environment does not name it.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import asyncpg
import pytest

from tests.core.live import DATABASE, REQUIRED, Core, Fronted, fronted, named


@pytest.fixture(scope="session")
def core() -> Core:
    """The live Core."""
    found = named(os.environ)
    if found is None:
        pytest.skip(f"needs a live Blnk Core to write to: set {' and '.join(REQUIRED)}")
    return found


@pytest.fixture
async def live(core: Core) -> AsyncIterator[Fronted]:
    """The shipped gateway in front of the live Core."""
    async with fronted(core) as running:
        yield running


@pytest.fixture
async def database(core: Core) -> AsyncIterator[asyncpg.Connection]:
    """A connection to the live Core's own PostgreSQL."""
    if core.database is None:
        pytest.skip(f"needs the PostgreSQL of the live Blnk Core: set {DATABASE}")
    connection = await asyncpg.connect(core.database)
    yield connection
    await connection.close()
