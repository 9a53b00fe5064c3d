"""Headers that cross: none of another hop, no credential, none that only a proxy may send."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime

import pytest

from tests.conftest import Start
from tests.core_stand_in import RECORDS, StandInCore, raw, responding
from tests.raw_client import chunked
from tests.running import MASTER_KEY, Minted, Running
from tests.wire.asserting import READ, STREAMED


class TestRequestHeaders:
    async def test_hop_by_hop_and_nominated_ones_stay_on_their_hop(
        self, gateway: Running, upstream: StandInCore, caller: Minted
    ) -> None:
        """Headers of the client's connection never reach Core's (RFC 9110, 7.6.1)."""
        hop = ["Keep-Alive", "Proxy-Connection", "Proxy-Authorization", "TE", "Trailer", "Upgrade", "X-Named"]
        headers = [(name, "hop-word") for name in hop if name != "Upgrade"]
        headers += [("Connection", "X-Named , TE"), ("Connection", "keep-alive"), ("X-Kept", "1")]
        await gateway.ask("GET", READ, key=caller.key, headers=headers)
        (got,) = upstream.requests
        assert b"hop-word" not in got.raw
        assert got.values("x-kept") == ["1"]

    @pytest.mark.parametrize("named", ["X-Blnk-Key", "Host", "Content-Length", "Via", "X-Request-Id"])
    async def test_connection_cannot_nominate_what_the_gateway_writes(
        self, gateway: Running, upstream: StandInCore, caller: Minted, named: str
    ) -> None:
        """A client cannot remove the master key, Host or framing by naming them in `Connection`."""
        response = await gateway.ask(
            "POST", STREAMED, key=caller.key, headers=[("Connection", named)], body=b'{"a":1}'
        )
        assert response.status == 200
        (got,) = upstream.requests
        assert (got.values("x-blnk-key"), bytes(got.body)) == ([MASTER_KEY], b'{"a":1}')
        assert got.values("host") == [f"127.0.0.1:{upstream.port}"]
        assert len(got.values("via")) == len(got.values("x-request-id")) == 1

    @pytest.mark.parametrize("name", ["X_Blnk_Key", "x_blnk-key", "X-Blnk_Key", "Authorization", "X-API-Key"])
    @pytest.mark.parametrize("target", [READ, "/health"])
    async def test_a_credential_never_crosses(
        self, gateway: Running, upstream: StandInCore, caller: Minted, name: str, target: str
    ) -> None:
        """The client's key never reaches Core, however its header is spelled, and on public routes too."""
        other = await gateway.mint("ledgers:read")
        key = caller.key if target == READ else None
        await gateway.ask("GET", target, key=key, headers=[(name, other.key)])
        for got in upstream.requests:
            assert other.key.encode() not in got.raw
            assert caller.key.encode() not in got.raw

    @pytest.mark.parametrize("name", ["X-Blnk-Key", "x-blnk-key", "X-BLNK-KEY", "x-Blnk-kEY"])
    async def test_the_key_is_replaced_by_the_master_key(
        self, gateway: Running, upstream: StandInCore, caller: Minted, name: str
    ) -> None:
        """Core sees exactly one key, the master key, in the last header."""
        assert (await gateway.ask("GET", READ, headers=[(name, caller.key)])).status == 200
        (got,) = upstream.requests
        assert got.values("x-blnk-key") == [MASTER_KEY]
        assert caller.key.encode() not in got.raw

    async def test_a_public_route_carries_no_master_key(
        self, gateway: Running, upstream: StandInCore, caller: Minted
    ) -> None:
        """A public route, which needs no key, is forwarded without the master key."""
        await gateway.ask("GET", "/health", key=caller.key)
        await gateway.ask("GET", "/health", key=MASTER_KEY)
        assert [got.values("x-blnk-key") for got in upstream.requests] == [[], []]
        assert all(MASTER_KEY.encode() not in got.raw for got in upstream.requests)

    async def test_a_client_cannot_speak_for_the_proxy(
        self, gateway: Running, upstream: StandInCore, caller: Minted
    ) -> None:
        """Forwarding and trace headers of an untrusted client are dropped; the gateway's own stand once."""
        names = [
            "Forwarded",
            "X-Forwarded-For",
            "X-Forwarded-Proto",
            "X-Forwarded-Host",
            "X-Forwarded-Prefix",
        ]
        names += ["X-Forwarded-Port", "X-Real-IP", "X-Request-Id", "traceparent", "tracestate", "baggage"]
        names += ["X_Forwarded_For", "x_request_id"]
        await gateway.ask("GET", READ, key=caller.key, headers=[(name, "spoof-word") for name in names])
        (got,) = upstream.requests
        assert b"spoof-word" not in got.raw
        assert got.values("x-forwarded-for") == ["127.0.0.1"]
        assert got.values("x-forwarded-proto") == ["http"]
        assert got.values("x-forwarded-host") == ["gateway.test"]
        assert got.values("via") == ["1.1 blnk-gateway"]
        assert got.values("host") == [f"127.0.0.1:{upstream.port}"]

    @pytest.mark.parametrize(
        "target",
        ["/ledgers/a%252fb", "/ledgers/a+b", "/ledgers/%ff", "/ledgers/%41", "/ledgers?a=%2f..&b;c=//?"],
    )
    async def test_the_target_crosses_byte_for_byte(
        self, gateway: Running, upstream: StandInCore, caller: Minted, target: str
    ) -> None:
        """The target is forwarded byte for byte as it was matched."""
        assert (await gateway.ask("GET", target, key=caller.key)).status == 200
        assert upstream.targets == [target]


class TestResponseHeaders:
    async def test_hop_by_hop_nominated_and_internal_ones_stay_inside(
        self, gateway: Running, upstream: StandInCore, caller: Minted
    ) -> None:
        """Core's connection headers and its rate limits of the gateway do not reach the client."""
        inner = ["Keep-Alive", "Proxy-Authenticate", "X-Named", "X-Rate-Limit-Limit", "X-Rate-Limit-Duration"]
        inner += ["X-Rate-Limit-Request-Remote-Addr", "x-rate-limit-request-forwarded-for"]
        inner += ["Ratelimit-Limit", "RateLimit-Remaining", "ratelimit-reset"]
        headers = [(name, "inner-word") for name in inner]
        headers += [
            ("Connection", "X-Named"),
            ("Cache-Control", "no-store"),
            ("X-Twice", "1"),
            ("X-Twice", "2"),
        ]
        upstream.script(responding(headers=headers))
        response = await gateway.ask("GET", READ, key=caller.key)
        assert "inner-word" not in [value for _, value in response.headers]
        assert response.values("cache-control") == ["no-store"]
        assert response.values("x-twice") == ["1", "2"]
        assert response.values("content-length") == [str(len(RECORDS))]
        assert len(response.values("x-request-id")) == 1

    async def test_the_request_id_is_the_one_core_saw(
        self, gateway: Running, upstream: StandInCore, caller: Minted
    ) -> None:
        """One id names the request in the response, in Core's headers and in the log."""
        response = await gateway.ask("GET", READ, key=caller.key)
        request_id = response.value("x-request-id")
        assert upstream.requests[0].values("x-request-id") == [request_id]
        assert request_id is not None
        await gateway.logged(request_id)

    async def test_a_trailer_of_core_surfaces_nowhere(
        self, start_gateway: Start, upstream: StandInCore
    ) -> None:
        """A trailer of Core becomes no header of its own response, nor of the next on that connection."""
        gateway = await start_gateway(upstream={"connections": 1})
        key = (await gateway.mint("ledgers:read")).key
        first = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Trailed\r\n\r\n"
        upstream.script(raw(first + chunked(b"one", trailers=b"X-Trailed: 1\r\n"), close=False))
        async with await gateway.connect() as client:
            responses = [await client.ask("GET", READ, key=key) for _ in range(2)]
        assert [response.body for response in responses] == [b"one", RECORDS]
        assert [response.values("x-trailed") for response in responses] == [[], []]
        assert [response.values("trailer") for response in responses] == [[], []]

    async def test_a_response_has_a_date(
        self, gateway: Running, upstream: StandInCore, caller: Minted
    ) -> None:
        """A response has Core's date, or else the gateway's (RFC 9110, 6.6.1)."""
        given = "Tue, 15 Nov 1994 08:12:31 GMT"
        upstream.script(
            responding(headers=[("Date", given)]), responding(headers=[("date", given)]), responding()
        )
        dates = [(await gateway.ask("GET", READ, key=caller.key)).values("date") for _ in range(3)]
        assert dates[:2] == [[given], [given]]
        (made,) = dates[2]
        assert abs(parsedate_to_datetime(made).timestamp() - time.time()) < 60

    @pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
    async def test_a_response_without_a_body_leaves_the_connection_whole(
        self, gateway: Running, upstream: StandInCore, caller: Minted, status: str
    ) -> None:
        """Responses with 204 and 304 end with their head (RFC 9112, 6.3)."""
        upstream.script(raw(f"HTTP/1.1 {status}\r\nETag: x\r\n\r\n".encode(), close=False))
        async with await gateway.connect() as client:
            first = await client.ask("GET", READ, key=caller.key)
            second = await client.ask("GET", READ, key=caller.key)
        assert ((first.status, first.body), second.status) == ((int(status[:3]), b""), 200)

    @pytest.mark.parametrize("status", ["201 Created", "301 Moved Permanently", "404 Not Found", "500 Oops"])
    async def test_the_rest_passes_unchanged(
        self, gateway: Running, upstream: StandInCore, caller: Minted, status: str
    ) -> None:
        """Status and body of Core reach the client unchanged, whatever they are."""
        upstream.script(responding(status, b'{"error":"as Core said"}', [("Location", "/x")]))
        response = await gateway.ask("GET", READ, key=caller.key)
        assert (response.status, response.body) == (int(status[:3]), b'{"error":"as Core said"}')
        assert (response.value("location"), response.values("proxy-status")) == ("/x", [])
