"""Every phase of a client has its deadline: head, body, idle, and taking the answer."""

from __future__ import annotations

import asyncio

import pytest

from tests.conftest import Start
from tests.raw_client import RawClient, request
from tests.recording import Exchange, RecordingUpstream
from tests.wire.asserting import READ, STAMPED, STREAMED, assert_never_completed, assert_refused


class TestDeadlines:
    async def test_a_slow_head_is_cut(self, start_gateway: Start) -> None:
        """A head must be whole in time, though a byte of it comes again and again."""
        gateway = await start_gateway(timeouts={"head": 0.3})
        client = await gateway.connect()
        drip = asyncio.create_task(self.drip(client, request("GET", READ)[:-2], 0.05))
        assert_refused(await client.answer(), 408)
        assert await client.ended()
        drip.cancel()

    async def test_a_connection_that_says_nothing_is_closed(self, start_gateway: Start) -> None:
        """A connection without a first byte ends in time."""
        gateway = await start_gateway(timeouts={"head": 0.2, "idle": 0.2})
        client = await gateway.connect()
        assert b" 200 " not in await client.rest()

    async def test_an_idle_connection_is_closed_silently(
        self, start_gateway: Start, upstream: RecordingUpstream
    ) -> None:
        """Between requests the end comes without an answer that the next request could take for its own."""
        gateway = await start_gateway(timeouts={"idle": 0.2})
        client = await gateway.connect()
        assert (await client.ask("GET", "/health")).status == 200
        assert await client.ended()

    @pytest.mark.parametrize("target", [STREAMED, STAMPED])
    async def test_a_stalled_body_is_cut(
        self, start_gateway: Start, upstream: RecordingUpstream, target: str
    ) -> None:
        """A body that stops is answered 408 and the connection ends; Core sees no whole request."""
        gateway = await start_gateway(timeouts={"body": 0.2})
        key = (await gateway.mint("ledgers:*")).key
        client = await gateway.connect()
        await client.send(request("POST", target, key=key, body=b'{"a":1}')[:-1])
        assert_refused(await client.answer(), 408)
        assert await client.ended()
        await assert_never_completed(gateway, upstream, target)

    async def test_a_client_that_reads_nothing_is_cut(
        self, start_gateway: Start, upstream: RecordingUpstream
    ) -> None:
        """An answer that the client does not take is given up in time, and Core's connection with it."""
        gateway = await start_gateway(timeouts={"write": 0.3})
        key = (await gateway.mint("ledgers:read")).key

        async def flood(exchange: Exchange) -> None:
            await exchange.write(b"HTTP/1.1 200 OK\r\nContent-Length: 300000000\r\n\r\n")
            for _ in range(300):
                await exchange.write(bytes(1_000_000))

        upstream.script(flood)
        client = await gateway.connect(keep=False)
        await client.send(request("GET", READ, key=key))
        await upstream.arrived()
        (connection,) = upstream.used()
        await asyncio.wait_for(connection.gone.wait(), 8)

    @staticmethod
    async def drip(client: RawClient, data: bytes, pause: float) -> None:
        for byte in data:
            await client.send(bytes([byte]))
            await asyncio.sleep(pause)
