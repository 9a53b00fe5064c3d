"""Many requests on one connection: their responses come in order, are bounded, and are never mixed."""

from __future__ import annotations

import asyncio

from tests.conftest import Start
from tests.core_stand_in import StandInCore, echo, held, responding
from tests.raw_client import chunked, request
from tests.running import Minted, Running
from tests.wire.asserting import READ, SMUGGLED, STREAMED


class TestPipelining:
    async def test_answers_in_order(self, gateway: Running, upstream: StandInCore, reader: Minted) -> None:
        """Requests in one segment get their responses in order, however late the first one is."""
        release = asyncio.Event()
        upstream.behaviour = echo
        upstream.script(held(release, then=echo))
        client = await gateway.connect()
        targets = [f"/ledgers/number-{number}" for number in range(5)]
        await client.send(b"".join(request("GET", target, key=reader.key) for target in targets))
        await upstream.arrived()
        release.set()
        assert [(await client.response()).json()[1] for _ in targets] == targets
        assert upstream.targets == targets

    async def test_answers_more_than_are_read_at_once(
        self, gateway: Running, upstream: StandInCore, reader: Minted
    ) -> None:
        """However many requests come in one segment, each gets its response, and the connection goes on."""
        upstream.behaviour = echo
        client = await gateway.connect()
        targets = [f"/ledgers/number-{number}" for number in range(1000)]
        await client.send(b"".join(request("GET", target, key=reader.key) for target in targets))
        assert [(await client.response()).json()[1] for _ in targets] == targets
        assert (await client.ask("GET", READ, key=reader.key)).status == 200

    async def test_mixes_no_bodies_in(self, gateway: Running, upstream: StandInCore, writer: Minted) -> None:
        """Bodies that look like requests stay bodies."""
        upstream.behaviour = echo
        inner = SMUGGLED.replace(b"%KEY%", writer.key.encode())
        client = await gateway.connect()
        await client.send(
            request("POST", STREAMED, key=writer.key, body=inner)
            + request("POST", STREAMED, key=writer.key, headers=[("Transfer-Encoding", "chunked")])
            + chunked(inner, inner)
            + request("GET", READ, key=writer.key)
        )
        assert [(await client.response()).json() for _ in range(3)] == [
            ["POST", STREAMED, len(inner)],
            ["POST", STREAMED, 2 * len(inner)],
            ["GET", READ, 0],
        ]
        assert [bytes(got.body) for got in upstream.requests] == [inner, inner * 2, b""]

    async def test_refused_ones_keep_their_order(
        self, gateway: Running, upstream: StandInCore, reader: Minted
    ) -> None:
        """A response of the gateway itself does not overtake one of Core."""
        release = asyncio.Event()
        upstream.script(held(release))
        client = await gateway.connect()
        await client.send(request("GET", READ, key=reader.key) + request("GET", READ))
        await upstream.arrived()
        release.set()
        assert [(await client.response()).status for _ in range(2)] == [200, 401]

    async def test_is_bounded(self, gateway: Running, upstream: StandInCore, reader: Minted) -> None:
        """While one request waits for Core, the gateway stops reading, and the client's sending stalls."""
        release = asyncio.Event()
        upstream.script(held(release))
        client = await gateway.connect(keep=False, send_buffer=1 << 16)
        await client.send(request("GET", READ, key=reader.key))
        await upstream.arrived()
        flood = asyncio.create_task(client.send(request("GET", READ, key=reader.key) * 200_000))
        done, _ = await asyncio.wait([flood], timeout=1.5)
        assert done == set(), "20 MB of requests were taken in"
        assert len(upstream.requests) == 1
        client.abort()
        await asyncio.wait([flood])
        release.set()

    async def test_stops_where_the_client_takes_no_responses(
        self, gateway: Running, upstream: StandInCore, reader: Minted
    ) -> None:
        """Requests whose responses nobody reads wait, so that responses are not collected."""
        upstream.behaviour = responding(body=bytes(500_000))
        client = await gateway.connect(keep=False)
        await client.send(request("GET", READ, key=reader.key) * 200)
        await upstream.arrived()
        before = -1
        while before != len(upstream.requests):
            before = len(upstream.requests)
            await asyncio.sleep(0.3)
        assert before < 80, f"{before} responses were fetched and held"
        client.abort()

    async def test_gets_every_response_though_the_client_is_slow(
        self, start_gateway: Start, upstream: StandInCore
    ) -> None:
        """A connection to Core that was paused for a slow client reads on for the next request."""
        gateway = await start_gateway(upstream={"connections": 1}, timeouts={"first_byte": 3.0})
        key = (await gateway.mint("ledgers:read")).key
        upstream.behaviour = responding(body=bytes(500_000))
        client = await gateway.connect(keep=False)
        await client.send(request("GET", READ, key=key) * 60)
        await asyncio.sleep(0.5)  # the client is slow: more waits for it than the kernel holds
        assert [len((await client.response()).body) for _ in range(60)] == [500_000] * 60

    async def test_a_response_to_head_leaves_the_next_one_whole(
        self, gateway: Running, reader: Minted
    ) -> None:
        """A refused HEAD has no body (RFC 9110, 9.3.2), so the next response begins right after its head."""
        client = await gateway.connect()
        await client.send(request("HEAD", READ, key=reader.key) + request("GET", READ, key=reader.key))
        assert [(await client.response(head=head)).status for head in (True, False)] == [404, 200]

    async def test_of_concurrent_clients_never_mixes_responses(
        self, gateway: Running, upstream: StandInCore, reader: Minted
    ) -> None:
        """Each of many clients gets exactly the responses to its own requests."""
        upstream.behaviour = echo

        async def converse(number: int) -> None:
            client = await gateway.connect()
            for turn in range(0, 20, 2):
                targets = [f"/ledgers/client-{number}-{turn + step}" for step in range(2)]
                await client.send(b"".join(request("GET", target, key=reader.key) for target in targets))
                assert [(await client.response()).json()[1] for _ in targets] == targets

        async with asyncio.TaskGroup() as group:
            for number in range(20):
                group.create_task(converse(number))
