"""HTTP versions, expectations, ends of connections, and uploads that are refused."""

from __future__ import annotations

import asyncio

import pytest

from tests.conftest import Start
from tests.core_stand_in import Exchange, StandInCore, echo, held
from tests.raw_client import chunked, request
from tests.running import MASTER_KEY, Minted, Running
from tests.wire.asserting import READ, STAMPED, STREAMED, assert_never_completed, assert_nothing_forwarded


class TestVersions:
    async def test_http_1_0_is_answered_and_closed(
        self, gateway: Running, upstream: StandInCore, reader: Minted
    ) -> None:
        """HTTP/1.0 without keep-alive gets its response, then the end of the connection."""
        client = await gateway.connect()
        response = await client.call(request("GET", READ, key=reader.key, version="HTTP/1.0"))
        assert response.status == 200
        assert await client.ended()
        assert upstream.requests[0].version == "HTTP/1.1"

    async def test_http_1_0_needs_no_host(self, gateway: Running, reader: Minted) -> None:
        """HTTP/1.0 needs no Host header, which is a rule of HTTP/1.1 (RFC 9112, 3.2)."""
        client = await gateway.connect()
        assert (
            await client.call(f"GET {READ} HTTP/1.0\r\nX-Blnk-Key: {reader.key}\r\n\r\n".encode())
        ).status == 200

    async def test_http_1_0_never_gets_chunks(
        self, gateway: Running, upstream: StandInCore, reader: Minted
    ) -> None:
        """On HTTP/1.0 a response of unknown length ends with the connection (RFC 9112, 6.1)."""

        async def in_chunks(exchange: Exchange) -> None:
            await exchange.write(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"one", b"two")
            )

        upstream.script(in_chunks)
        client = await gateway.connect()
        response = await client.call(request("GET", READ, key=reader.key, version="HTTP/1.0"))
        assert (response.values("transfer-encoding"), response.body) == ([], b"onetwo")

    async def test_connection_close_is_kept(self, gateway: Running, reader: Minted) -> None:
        """A client that sends `Connection: close` gets the same header back, and then the end."""
        client = await gateway.connect()
        response = await client.ask("GET", READ, key=reader.key, headers=[("Connection", "close")])
        assert (response.status, response.value("connection")) == (200, "close")
        assert await client.ended()

    @pytest.mark.parametrize("protocol", ["websocket", "h2c"])
    async def test_upgrade_is_ignored_and_the_connection_closed(
        self, gateway: Running, upstream: StandInCore, reader: Minted, protocol: str
    ) -> None:
        """Upgrade never crosses; the request is served as if it were absent, then the connection ends."""
        client = await gateway.connect()
        headers = [
            ("Upgrade", protocol),
            ("Connection", "Upgrade, HTTP2-Settings"),
            ("HTTP2-Settings", "AAMAAABk"),
        ]
        data = request("GET", READ, key=reader.key, headers=headers)
        response = await client.call(data)
        assert (response.status, response.values("upgrade")) == (200, [])
        assert await client.ended()
        (got,) = upstream.requests
        assert [got.values(name) for name in ("upgrade", "http2-settings")] == [[], []]

    async def test_what_follows_an_upgrade_is_not_forwarded(
        self, gateway: Running, upstream: StandInCore, reader: Minted
    ) -> None:
        """Bytes after a request with Upgrade may be of another protocol: none of them becomes a request."""
        client = await gateway.connect()
        upgrade = request("GET", READ, key=reader.key, headers=[("Upgrade", "x"), ("Connection", "Upgrade")])
        await client.send(upgrade + request("GET", "/ledgers/smuggled", key=reader.key))
        await client.rest()
        assert "/ledgers/smuggled" not in upstream.targets


class TestExpectations:
    EXPECT = (("Expect", "100-continue"),)

    @pytest.mark.parametrize("target", [STREAMED, STAMPED])
    async def test_the_body_is_asked_for_once_it_is_wanted(
        self, gateway: Running, upstream: StandInCore, writer: Minted, target: str
    ) -> None:
        """A request that passes every check gets 100 and then its response; Expect stops at the gateway."""
        client = await gateway.connect()
        data = request("POST", target, key=writer.key, headers=self.EXPECT, body=b'{"a":1}')
        await client.send(data[:-7])
        assert (await client.read_head())[0] == 100
        await client.send(data[-7:])
        assert (await client.response()).status == 200
        assert upstream.requests[0].values("expect") == []

    async def test_a_body_that_is_there_needs_no_100(self, gateway: Running, writer: Minted) -> None:
        """A client that sends its body at once gets its response, with at most one 100 before it."""
        client = await gateway.connect()
        response = await client.ask("POST", STAMPED, key=writer.key, headers=self.EXPECT, body=b"{}")
        assert response.status == 200
        assert response.interim in ([], [100])

    @pytest.mark.parametrize("target", [STREAMED, STAMPED])
    async def test_a_refused_request_never_gets_100(
        self, gateway: Running, upstream: StandInCore, target: str
    ) -> None:
        """A refused request gets its refusal instead of 100, so that the body is never sent."""
        client = await gateway.connect()
        await client.send(request("POST", target, headers=self.EXPECT, body=b"{}")[:-2])
        response = await client.response()
        assert (response.status, response.interim) == (401, [])
        assert upstream.requests == []

    async def test_a_declared_length_over_the_limit_never_gets_100(
        self, gateway: Running, writer: Minted
    ) -> None:
        """A declared length over the limit gets 413 instead of 100."""
        client = await gateway.connect()
        headers = [*self.EXPECT, ("Content-Length", str(1 << 30))]
        await client.send(request("POST", STAMPED, key=writer.key, headers=headers))
        response = await client.response()
        assert (response.status, response.interim) == (413, [])


class TestBodiesCutShort:
    @pytest.mark.parametrize("how", ["half close", "close", "reset"])
    @pytest.mark.parametrize("framing", ["length", "chunked"])
    @pytest.mark.parametrize("target", [STREAMED, STAMPED])
    async def test_never_complete_a_request(
        self,
        gateway: Running,
        upstream: StandInCore,
        writer: Minted,
        target: str,
        framing: str,
        how: str,
    ) -> None:
        """A body that ends early reaches Core as a broken request, or not at all if it is buffered first."""
        client = await gateway.connect()
        sent = b'{"a":1}' if target == STAMPED else b'{"a":"' + b"x" * 100_000
        header = ("Content-Length", "200000") if framing == "length" else ("Transfer-Encoding", "chunked")
        body = sent if framing == "length" else b"%x\r\n%b\r\n" % (len(sent), sent)
        await client.send(request("POST", target, key=writer.key, headers=[header]) + body)
        if target == STREAMED:
            await upstream.arrived()
        if how == "half close":
            await client.half_close()
            assert b" 200 " not in await client.rest()
        elif how == "close":
            await client.close()
        else:
            client.abort()
        await assert_never_completed(gateway, upstream, target)
        if target == STAMPED:
            assert upstream.targets == ["/ledgers/passer"]

    @pytest.mark.parametrize("how", ["half close", "close", "reset"])
    async def test_never_reach_core_where_they_are_small(
        self, gateway: Running, upstream: StandInCore, writer: Minted, how: str
    ) -> None:
        """A small body is buffered until it is whole, and takes no connection to Core before."""
        client = await gateway.connect()
        headers = [("Content-Length", "100")]
        await client.send(request("POST", STREAMED, key=writer.key, headers=headers) + b'{"a":1}')
        if how == "half close":
            await client.half_close()
            assert await client.rest() == b""
        elif how == "close":
            await client.close()
        else:
            client.abort()
        await assert_nothing_forwarded(gateway, upstream)

    async def test_a_client_that_leaves_spoils_nobody_elses_response(
        self, start_gateway: Start, upstream: StandInCore
    ) -> None:
        """A late response to a client that left is never given to the next one on the same pool."""
        gateway = await start_gateway(upstream={"connections": 1})
        key = (await gateway.mint("ledgers:read")).key
        release = asyncio.Event()
        upstream.behaviour = echo
        upstream.script(held(release, then=echo))
        leaver = await gateway.connect()
        await leaver.send(request("GET", "/ledgers/left", key=key))
        await upstream.arrived()
        leaver.abort()
        stayer = await gateway.connect()
        await stayer.send(request("GET", "/ledgers/stayed", key=key))
        release.set()
        assert (await stayer.response()).json() == ["GET", "/ledgers/stayed", 0]

    async def test_a_half_close_after_a_whole_request_still_gets_its_response(
        self, gateway: Running, upstream: StandInCore, writer: Minted
    ) -> None:
        """A client that half-closes after a whole request still gets its response."""
        release = asyncio.Event()
        upstream.script(held(release))
        client = await gateway.connect()
        await client.send(request("POST", STREAMED, key=writer.key, body=b"{}"))
        await client.half_close()
        await upstream.arrived()
        release.set()
        assert (await client.response()).status == 200
        assert await client.ended()

    async def test_a_half_close_after_pipelined_requests_gets_every_response(
        self, gateway: Running, upstream: StandInCore, reader: Minted
    ) -> None:
        """A client that half-closes after whole pipelined requests gets the response to each."""
        upstream.behaviour = echo
        client = await gateway.connect()
        targets = ["/ledgers/one", "/ledgers/two"]
        await client.send(b"".join(request("GET", target, key=reader.key) for target in targets))
        await client.half_close()
        assert [(await client.response()).json()[1] for _ in targets] == targets


class TestRefusedUploads:
    @pytest.mark.parametrize("framing", ["length", "chunked"])
    async def test_413_reaches_a_client_that_is_still_sending(
        self, gateway: Running, upstream: StandInCore, writer: Minted, framing: str
    ) -> None:
        """The 413 to a body over the limit is not lost in a reset."""
        client = await gateway.connect()
        piece = b" " * (1 << 20)
        if framing == "length":
            data = request("POST", STAMPED, key=writer.key, body=piece * 24)
        else:
            data = request("POST", STAMPED, key=writer.key, headers=[("Transfer-Encoding", "chunked")])
            data += chunked(*[piece] * 24)
        upload = asyncio.create_task(client.send(data))
        response = await client.response()
        assert (response.status, response.code) == (413, "GEN_PAYLOAD_TOO_LARGE")
        await client.rest()
        await upload
        await assert_nothing_forwarded(gateway, upstream)

    async def test_401_reaches_a_client_that_is_still_sending(
        self, gateway: Running, upstream: StandInCore
    ) -> None:
        """A 401 does not wait for the body, and no byte of the body is read as a request."""
        client = await gateway.connect()
        smuggled = request("GET", "/health/smuggled", key=MASTER_KEY)
        upload = asyncio.create_task(client.send(request("POST", STREAMED, body=smuggled * 20_000)))
        response = await client.response()
        assert response.status == 401
        await client.rest()
        await upload
        await assert_nothing_forwarded(gateway, upstream)

    async def test_a_small_refused_body_is_no_request(
        self, gateway: Running, upstream: StandInCore, reader: Minted
    ) -> None:
        """After a refusal the connection goes on after the body or ends; no byte of the body is a request."""
        client = await gateway.connect()
        inner = request("GET", "/ledgers/smuggled", key=reader.key)
        await client.send(
            request("POST", STREAMED, body=inner) + request("GET", "/ledgers/after", key=reader.key)
        )
        assert (await client.response()).status == 401
        await client.half_close()
        await client.rest()
        assert "/ledgers/smuggled" not in upstream.targets
