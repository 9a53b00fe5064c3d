"""The check that the installed HTTP parser reads as the one that was tested."""

from __future__ import annotations

import asyncio

from gateway.wire.parser_check import misread


async def test_the_installed_parser_reads_as_recorded() -> None:
    """Nothing is misread, so the gateway starts."""
    assert misread(asyncio.get_running_loop()) == []
