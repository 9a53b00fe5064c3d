"""Responses of Core that are wrong, late or missing.

Rules kept here:
- A truncated response is never a short success: the client's connection breaks.
- POST is sent once; GET is sent once more, and only where a reused connection gave no byte.
"""

from __future__ import annotations

import asyncio

import pytest

from gateway.errors import Code
from tests.conftest import Start
from tests.core_stand_in import Exchange, StandInCore, abort, echo, like_core, never, raw, responding
from tests.raw_client import BrokenResponse, request
from tests.running import Minted, Running
from tests.wire.asserting import READ, STAMPED, STREAMED, assert_error

TRUNCATED = {
    "short of its length": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this",
    "without the last chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    "within a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nhello",
}


BROKEN = {
    "nothing": b"",
    "within the head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "no HTTP": b"garbage\r\n\r\n",
    "an unreadable length": b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{} ",
    "length and chunked": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    ),
    "only an interim response": b"HTTP/1.1 102 Processing\r\n\r\n",
}


class TestBrokenUpstream:
    @pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
    @pytest.mark.parametrize("data", TRUNCATED.values(), ids=TRUNCATED.keys())
    async def test_a_truncated_response_is_a_broken_connection(
        self, gateway: Running, upstream: StandInCore, caller: Minted, data: bytes, reset: bool
    ) -> None:
        """A response that Core cuts short breaks the client's connection; it never looks whole."""
        upstream.script(raw(data, b"", pause=0.1, reset=reset))
        client = await gateway.connect()
        try:
            response = await client.ask("GET", READ, key=caller.key)
        except BrokenResponse:
            return
        assert_error(response, Code.UPSTREAM_UNREACHABLE)

    async def test_a_truncated_response_to_http_1_0_is_a_reset_or_502(
        self, gateway: Running, upstream: StandInCore, caller: Minted
    ) -> None:
        """A truncated response to HTTP/1.0 ends in a reset or is 502, since a clean end would look whole."""
        upstream.script(raw(TRUNCATED["without the last chunk"], b"", pause=0.1))
        client = await gateway.connect()
        await client.send(request("GET", READ, key=caller.key, version="HTTP/1.0"))
        received = await client.rest()
        assert client.was_reset or received.startswith(b"HTTP/1.1 502 ")

    @pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN.keys())
    async def test_an_unreadable_response_is_502(
        self, gateway: Running, upstream: StandInCore, caller: Minted, data: bytes
    ) -> None:
        """An unreadable response becomes 502 in Core's error shape, and the connection is not used again."""
        upstream.script(raw(data))
        assert_error(
            await gateway.ask("POST", STREAMED, key=caller.key, body=b"{}"), Code.UPSTREAM_UNREACHABLE
        )
        assert (await gateway.ask("GET", READ, key=caller.key)).status == 200
        assert upstream.targets == [STREAMED, READ]

    async def test_an_unreachable_core_is_502(
        self, gateway: Running, upstream: StandInCore, caller: Minted
    ) -> None:
        """A Core that refuses connections is 502 in Core's error shape; the client's connection goes on."""
        async with await gateway.connect() as client:
            await client.ask("GET", READ, key=caller.key)
            async with upstream.refusing():
                for _ in range(2):
                    assert_error(await client.ask("GET", READ, key=caller.key), Code.UPSTREAM_UNREACHABLE)
            assert (await client.ask("GET", READ, key=caller.key)).status == 200

    @pytest.mark.parametrize("method", ["GET", "POST"])
    async def test_a_silent_core_is_504(
        self, start_gateway: Start, upstream: StandInCore, method: str
    ) -> None:
        """A Core that sends no first byte in time is 504 in Core's error shape; the request is sent once."""
        gateway = await start_gateway(timeouts={"first_byte": 0.2})
        key = (await gateway.mint("ledgers:*")).key
        upstream.behaviour = never
        target, body = (READ, None) if method == "GET" else (STREAMED, b"{}")
        assert_error(await gateway.ask(method, target, key=key, body=body), Code.UPSTREAM_TIMEOUT)
        assert upstream.targets == [target]

    async def test_a_core_that_stalls_within_its_response_breaks_it(
        self, start_gateway: Start, upstream: StandInCore
    ) -> None:
        """A Core that stops within the body breaks the client's connection, since the head has been sent."""
        gateway = await start_gateway(timeouts={"between_bytes": 0.2})
        key = (await gateway.mint("ledgers:*")).key

        async def stall(exchange: Exchange) -> None:
            await exchange.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
            await exchange.never()

        upstream.script(stall)
        client = await gateway.connect()
        with pytest.raises(BrokenResponse) as broken:
            await client.ask("GET", READ, key=key)
        assert broken.value.received == b"hello"

    async def test_a_core_that_stalls_within_its_head_is_504_or_502(
        self, start_gateway: Start, upstream: StandInCore
    ) -> None:
        """A Core that stops within the head is 504 in Core's error shape."""
        gateway = await start_gateway(timeouts={"first_byte": 0.2, "between_bytes": 0.2})
        key = (await gateway.mint("ledgers:*")).key

        async def stall(exchange: Exchange) -> None:
            await exchange.write(b"HTTP/1.1 200 OK\r\nContent-")
            await exchange.never()

        upstream.script(stall)
        assert_error(await gateway.ask("GET", READ, key=key), Code.UPSTREAM_TIMEOUT)

    async def test_slow_but_steady_is_no_timeout(self, start_gateway: Start, upstream: StandInCore) -> None:
        """The deadline holds between two bytes of a body, not for the whole response."""
        gateway = await start_gateway(timeouts={"first_byte": 0.4, "between_bytes": 0.4})
        key = (await gateway.mint("ledgers:*")).key
        body = [b"%d" % digit for digit in range(1, 9)]
        upstream.script(raw(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n", *body, pause=0.1))
        assert (await gateway.ask("GET", READ, key=key)).body == b"12345678"

    async def test_bytes_after_the_response_never_reach_the_next_client(
        self, start_gateway: Start, upstream: StandInCore
    ) -> None:
        """A second response that nobody asked for ends that connection to Core (response splitting)."""
        gateway = await start_gateway(upstream={"connections": 1})
        key = (await gateway.mint("ledgers:*")).key
        extra = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
        upstream.behaviour = echo
        upstream.script(raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}" + extra, close=False))
        await gateway.ask("GET", "/ledgers/one", key=key)
        for target in ("/ledgers/two", "/ledgers/three"):
            assert (await gateway.ask("GET", target, key=key)).json() == ["GET", target, 0]

    async def test_an_unasked_response_on_an_idle_connection_is_dropped(
        self, start_gateway: Start, upstream: StandInCore
    ) -> None:
        """Bytes that Core sends on an idle connection are never taken for the next response."""
        gateway = await start_gateway(upstream={"connections": 1})
        key = (await gateway.mint("ledgers:*")).key
        late = asyncio.Event()

        async def respond_twice(exchange: Exchange) -> None:
            await exchange.respond(body=b"{}")
            await asyncio.sleep(0.1)
            await exchange.respond(body=b"evil")
            late.set()

        upstream.behaviour = echo
        upstream.script(respond_twice)
        await gateway.ask("GET", "/ledgers/one", key=key)
        await late.wait()
        assert (await gateway.ask("GET", "/ledgers/two", key=key)).json() == ["GET", "/ledgers/two", 0]

    @pytest.mark.parametrize("method", ["GET", "POST"])
    async def test_an_interim_response_of_core_does_not_shorten_its_time(
        self, start_gateway: Start, upstream: StandInCore, method: str
    ) -> None:
        """After an interim response Core still has `first_byte` for its final one, not `between_bytes`."""

        async def processing(exchange: Exchange) -> None:
            await exchange.write(b"HTTP/1.1 102 Processing\r\n\r\n")
            await asyncio.sleep(0.8)
            await like_core(exchange)

        gateway = await start_gateway(timeouts={"between_bytes": 0.2})
        key = (await gateway.mint("ledgers:*")).key
        upstream.script(processing)
        assert (await gateway.ask(method, READ if method == "GET" else STREAMED, key=key)).status == 200

    async def test_an_interim_response_of_core_is_passed_over(
        self, gateway: Running, upstream: StandInCore, caller: Minted
    ) -> None:
        """The interim responses 100 and 103 of Core do not count as its response."""
        whole = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
        interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
        upstream.script(raw(interim + whole), raw(interim, whole, pause=0.05))
        for _ in range(2):
            response = await gateway.ask("POST", STREAMED, key=caller.key, body=b"{}")
            assert (response.status, response.body, response.values("link")) == (200, b"{}", [])

    async def test_core_refusing_the_master_key_is_502(
        self, gateway: Running, upstream: StandInCore, caller: Minted
    ) -> None:
        """A 401 of Core with an AUTH code is about the gateway's key: it is 502 and logged as an error."""
        body = b'{"error":"Invalid API key","error_detail":{"code":"AUTH_INVALID_API_KEY","message":"x"}}'
        upstream.script(responding("401 Unauthorized", body))
        assert_error(await gateway.ask("GET", READ, key=caller.key), Code.UPSTREAM_REFUSED)
        assert "error" in await gateway.logged(Code.UPSTREAM_REFUSED.code)

    async def test_another_401_of_core_passes(
        self, gateway: Running, upstream: StandInCore, caller: Minted
    ) -> None:
        """A 401 of Core without an AUTH code is passed on to the client."""
        upstream.script(responding("401 Unauthorized", b'{"error":"no"}'))
        response = await gateway.ask("GET", READ, key=caller.key)
        assert (response.status, response.body) == (401, b'{"error":"no"}')


class TestRepeating:
    async def test_a_get_is_repeated_on_a_fresh_connection(
        self, gateway: Running, upstream: StandInCore, caller: Minted
    ) -> None:
        """A GET is repeated after a reused connection gave no byte: Core had probably closed it before."""
        assert (await gateway.ask("GET", READ, key=caller.key)).status == 200
        upstream.script(abort)
        assert (await gateway.ask("GET", READ, key=caller.key)).status == 200
        assert upstream.targets == [READ] * 3

    async def test_a_get_is_repeated_once(
        self, gateway: Running, upstream: StandInCore, caller: Minted
    ) -> None:
        """A GET that gets no byte on a new connection either is 502."""
        assert (await gateway.ask("GET", READ, key=caller.key)).status == 200
        upstream.behaviour = abort
        assert_error(await gateway.ask("GET", READ, key=caller.key), Code.UPSTREAM_UNREACHABLE)
        assert len(upstream.requests) <= 3

    async def test_a_get_whose_response_began_is_not_repeated(
        self, gateway: Running, upstream: StandInCore, caller: Minted
    ) -> None:
        """A GET that got one byte of a response is not repeated, since Core has acted on it."""
        assert (await gateway.ask("GET", READ, key=caller.key)).status == 200
        upstream.script(raw(b"HTTP/1.1 2"))
        assert_error(await gateway.ask("GET", READ, key=caller.key), Code.UPSTREAM_UNREACHABLE)
        assert len(upstream.requests) == 2

    @pytest.mark.parametrize(
        ("method", "target"),
        [
            ("POST", STREAMED),
            ("POST", STAMPED),
            ("PUT", "/ledgers/ldg_1"),
            ("DELETE", "/balance-monitors/mon_1"),
        ],
    )
    async def test_nothing_else_is_repeated(
        self, gateway: Running, upstream: StandInCore, method: str, target: str
    ) -> None:
        """A write reaches Core at most once, even on a reused connection that gave no byte."""
        key = (await gateway.mint("*:*")).key
        assert (await gateway.ask("GET", READ, key=key)).status == 200
        upstream.script(abort)
        response = await gateway.ask(method, target, key=key, body=b"{}")
        assert_error(response, Code.UPSTREAM_UNREACHABLE)
        assert upstream.targets == [READ, target]


class TestConnectionsToCore:
    async def test_are_kept_alive(self, gateway: Running, upstream: StandInCore, caller: Minted) -> None:
        """Requests of several clients in turn use one connection to Core."""
        for _ in range(5):
            await gateway.ask("GET", READ, key=caller.key)
            await gateway.ask("POST", STREAMED, key=caller.key, body=b"{}")
        assert [len(connection.requests) for connection in upstream.used()] == [10]

    async def test_are_bounded(self, start_gateway: Start, upstream: StandInCore) -> None:
        """Many clients at once use no more connections than configured, and all get their responses."""
        gateway = await start_gateway(upstream={"connections": 3})
        key = (await gateway.mint("ledgers:read")).key
        upstream.behaviour = echo
        targets = [f"/ledgers/{number}" for number in range(40)]
        responses = await asyncio.gather(*(gateway.ask("GET", target, key=key) for target in targets))
        assert [response.json()[1] for response in responses] == targets
        assert len(upstream.used()) <= 3

    async def test_that_core_wants_closed_are_not_used_again(
        self, gateway: Running, upstream: StandInCore, caller: Minted
    ) -> None:
        """`Connection: close` of Core ends its own connection, not the client's."""
        upstream.script(responding(headers=[("Connection", "close")]))
        async with await gateway.connect() as client:
            response = await client.ask("GET", READ, key=caller.key)
            assert response.values("connection") == []
            assert (await client.ask("GET", READ, key=caller.key)).status == 200
        assert [len(connection.requests) for connection in upstream.used()] == [1, 1]

    async def test_are_closed_when_idle(self, start_gateway: Start, upstream: StandInCore) -> None:
        """A connection to Core is closed after `upstream_idle` seconds without a request."""
        gateway = await start_gateway(timeouts={"upstream_idle": 0.2})
        key = (await gateway.mint("ledgers:read")).key
        await gateway.ask("GET", READ, key=key)
        (connection,) = upstream.used()
        await asyncio.wait_for(connection.gone.wait(), 5)

    async def test_that_core_closed_while_idle_cost_no_write_its_response(
        self, gateway: Running, upstream: StandInCore, caller: Minted
    ) -> None:
        """A connection that Core has closed is not used for a POST, which could not be repeated."""
        upstream.script(raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"))
        await gateway.ask("GET", READ, key=caller.key)
        await upstream.used()[0].gone.wait()
        await asyncio.sleep(0.05)
        response = await gateway.ask("POST", STREAMED, key=caller.key, body=b"{}")
        assert response.status == 200
