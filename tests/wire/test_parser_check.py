"""The check that the installed HTTP parser reads as the one that was tested."""

from __future__ import annotations

import asyncio

from gateway.wire.parser_check import parser_misreads


async def test_the_installed_parser_reads_as_recorded() -> None:
    """The installed parser misreads nothing, so the gateway starts."""
    assert parser_misreads(asyncio.get_running_loop()) == []
