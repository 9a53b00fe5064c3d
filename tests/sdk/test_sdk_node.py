"""The official TypeScript SDK, as npm ships it, makes its usual calls through the gateway."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.core.live import Core
from tests.running import Running
from tests.sdk import node_packages
from tests.sdk.journey import through_gateway_as_at_core, through_stand_in


@pytest.fixture
def command() -> tuple[str, ...]:
    """Return the command that makes the calls; skip the test if node or the SDK is not installed."""
    if (lacking := node_packages.missing()) is not None:
        pytest.skip(lacking)
    # CommonJS finds a module that is installed elsewhere only with NODE_PATH.
    modules = f"NODE_PATH={node_packages.directory() / 'node_modules'}"
    return ("env", modules, "node", str(node_packages.HERE / "calls.cjs"))


pytestmark = pytest.mark.sdk


async def test_calls_reach_the_upstream(gateway: Running, command: tuple[str, ...], tmp_path: Path) -> None:
    """Every call, also an upload, reaches the upstream as the SDK meant it; new records have the key's id."""
    await through_stand_in(command, gateway, tmp_path)


@pytest.mark.core
async def test_calls_come_out_as_at_core(core: Core, command: tuple[str, ...], tmp_path: Path) -> None:
    """An application that moves from Core to the gateway sees the same responses."""
    await through_gateway_as_at_core(command, core, tmp_path)
