"""Clients that speak TLS: what they get, what the log and Core see of it, and what an attacker gets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gateway.config import Address
from gateway.config.sections.tls import TlsConfig
from gateway.policy.terms import KeyTerms
from gateway.wire.client_deadlines import ClientLimits
from gateway.wire.clients import Clients
from gateway.wire.exchange import Exchange as ClientExchange
from gateway.wire.handshake_results import HandshakeResult, HandshakeResults
from gateway.wire.securable_connection import SecurableConnection
from gateway.wire.tls_connection import MOST_HANDSHAKE, TlsAcceptor
from gateway.wire.tls_session import HANDSHAKE_HOLDS, RECORD
from tests.conftest import Start
from tests.core_stand_in import Exchange, StandInCore, held, like_core, of_size, responding
from tests.hostile.test_event_loop import beating
from tests.raw_client import PATIENCE, BrokenResponse, RawClient, request
from tests.running import Running, eventually
from tests.tls import AHEAD, Authority, Issued, program, self_signed
from tests.tls_records import Records, logged_secret
from tests.wire.asserting import READ, STREAMED

BUSY = "127.0.0.2"
"""The address of a client that has many connections; others are at 127.0.0.1."""
LARGE = 4 * 1024 * 1024
LONGEST = 0.03  # seconds of CPU time between two turns of the event loop
LONGEST_OF_RECORDS = 0.01
"""The same while records wait; 64 KiB of those that carry little take 20 ms."""

StartTls = Callable[..., Awaitable[Running]]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def shown(authority: Authority) -> Issued:
    """The certificate of the gateway."""
    return authority.issue("gateway", "localhost", "127.0.0.1")


@pytest.fixture(scope="module")
def client(authority: Authority) -> Issued:
    """A client's certificate."""
    return authority.issue("payments, EU", file="client")


@pytest.fixture
def start_tls(start_gateway: Start, shown: Issued) -> StartTls:
    """Return a function that starts a gateway which speaks TLS; `client_ca` and `listeners` are settings."""

    async def begin(
        client_ca: Path | None = None, listeners: tuple[str, ...] = ("listen",), **changes: Any
    ) -> Running:
        tls = TlsConfig(
            certificate=shown.certificate, key=shown.key, client_ca=client_ca, listeners=listeners
        )
        return await start_gateway(tls=tls, **changes)

    return begin


def handshakes(running: Running, result: HandshakeResult, listener: str = "listen") -> float:
    """Return how many handshakes of a listener have had a result, by the metrics."""
    page, _ = running.gateway.metrics.exposition("")
    name = f'blnk_gateway_tls_handshakes_total{{listener="{listener}",result="{result.value}"}} '
    return float(page.decode().partition(name)[2].partition("\n")[0])


def request_line(log: str) -> Any:
    """Return the last request of a log."""
    return [line for line in map(json.loads, log.splitlines()) if line["event"] == "request"][-1]


async def run(*command: str) -> str:
    """Return what a program prints, on either output."""
    process = await asyncio.create_subprocess_exec(
        program(command[0]),
        *command[1:],
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(PATIENCE):
        printed, _ = await process.communicate(b"")
    return printed.decode()


class Handshake:
    """The client's side of TLS over a raw connection, byte by byte if need be."""

    def __init__(self, connection: RawClient, context: ssl.SSLContext) -> None:
        self._connection = connection
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")

    def hello(self) -> bytes:
        """Return what begins the handshake."""
        with pytest.raises(ssl.SSLWantReadError):
            self.tls.do_handshake()
        return self._outgoing.read()

    async def finish(self) -> None:
        """Make the rest of the handshake."""
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                await self.flush()
                await self._more()
            else:
                await self.flush()
                return

    async def flush(self) -> None:
        await self._connection.send(self._outgoing.read())

    async def write(self, data: bytes) -> None:
        self.tls.write(data)
        await self.flush()

    async def end(self) -> None:
        """End this side, and go on reading."""
        with pytest.raises(ssl.SSLWantReadError):
            self.tls.unwrap()
        await self.flush()

    async def read(self) -> bytes:
        """Return all that comes until the gateway ends its side."""
        data = b""
        while True:
            try:
                more = self.tls.read(1 << 16)
            except ssl.SSLWantReadError:
                await self._more()
            except ssl.SSLZeroReturnError:
                return data
            else:
                if not more:
                    return data
                data += more

    async def _more(self) -> None:
        more = await self._connection.read_some()
        assert more, "the connection ended"
        self._incoming.write(more)


class TestRequests:
    async def test_are_served_and_core_learns_that_they_came_by_https(
        self, start_tls: StartTls, authority: Authority, upstream: StandInCore
    ) -> None:
        running = await start_tls()
        caller = await running.mint("ledgers:read")
        async with await running.connect(tls=authority.trusting()) as client:
            response = await client.ask("GET", READ, key=caller.key)
        assert (response.status, upstream.requests[-1].values("x-forwarded-proto")) == (200, ["https"])

    async def test_without_tls_core_learns_that_they_came_by_http(
        self, gateway: Running, upstream: StandInCore
    ) -> None:
        caller = await gateway.mint("ledgers:read")
        await gateway.ask("GET", READ, key=caller.key)
        assert upstream.requests[-1].values("x-forwarded-proto") == ["http"]

    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    async def test_large_ones_and_their_responses_arrive_whole(
        self, start_tls: StartTls, authority: Authority, upstream: StandInCore, version: ssl.TLSVersion
    ) -> None:
        """Bodies of many records arrive byte for byte, in either version."""
        running = await start_tls()
        caller = await running.mint("ledgers:*")
        context = authority.trusting()
        context.maximum_version = version
        body = b'{"name":"' + bytes(range(97, 123)) * 100_000 + b'"}'
        received: list[bytes] = []

        async def take(exchange: Exchange) -> None:
            received.append(await exchange.body())
            await of_size(LARGE)(exchange)

        upstream.script(take)
        async with await running.connect(tls=context, keep=False) as client:
            response = await client.ask("POST", STREAMED, key=caller.key, body=body)
        assert (response.status, len(response.body), received) == (200, LARGE, [body])

    async def test_a_refusal_reaches_a_client_that_still_sends(
        self, start_tls: StartTls, authority: Authority
    ) -> None:
        """A client that sends the handshake's end and a long body in one go gets its 413 all the same."""
        running = await start_tls()
        caller = await running.mint("api-keys:write")
        long = request("POST", "/api-keys", key=caller.key, body=b"x" * LARGE)
        for _ in range(20):
            async with await running.connect(tls=authority.trusting()) as client:
                assert (await client.call(long)).status == 413

    async def test_a_client_that_has_ended_its_side_gets_its_response(
        self, start_tls: StartTls, authority: Authority
    ) -> None:
        running = await start_tls()
        caller = await running.mint("ledgers:read")
        async with await running.connect() as connection:
            client = Handshake(connection, authority.trusting())
            await client.finish()
            await client.write(request("GET", READ, key=caller.key))
            await client.end()
            assert (await client.read()).startswith(b"HTTP/1.1 200 OK")

    async def test_a_response_that_is_read_slowly_arrives_whole(
        self, start_tls: StartTls, authority: Authority, upstream: StandInCore
    ) -> None:
        """A client that takes its time holds back Core, and loses nothing."""
        running = await start_tls()
        caller = await running.mint("ledgers:read")
        upstream.script(of_size(LARGE))
        async with await running.connect(tls=authority.trusting(), keep=False) as client:
            await client.send(request("GET", READ, key=caller.key))
            # The client's own buffers are full by then, and so are the gateway's.
            await asyncio.sleep(0.3)
            response = await client.response()
        assert (response.status, len(response.body)) == (200, LARGE)

    async def test_a_response_that_core_cuts_is_cut_for_the_client(
        self, start_tls: StartTls, authority: Authority, upstream: StandInCore
    ) -> None:
        """No client takes half of a response for a whole one: the connection ends without TLS's own end."""
        running = await start_tls()
        caller = await running.mint("ledgers:read")

        async def cut(exchange: Exchange) -> None:
            await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
            exchange.abort()

        upstream.script(cut)
        async with await running.connect(tls=authority.trusting()) as client:
            await client.send(request("GET", READ, key=caller.key))
            await client.read_head()
            await client.rest()
            assert client.was_reset


class TestEndOfTheClientsSide:
    @pytest.mark.parametrize("body", [b"", b"x" * 20_000], ids=["many small requests", "one large"])
    async def test_right_behind_requests_loses_none_of_them(
        self, start_tls: StartTls, authority: Authority, upstream: StandInCore, body: bytes
    ) -> None:
        """The end comes in the same reading as the requests, before the first of them is handled."""
        running = await start_tls()
        key = (await running.mint("ledgers:*")).key
        count = 1 if body else 100
        sent = request("POST" if body else "GET", STREAMED if body else READ, key=key, body=body) * count
        client = Handshake(await running.connect(), authority.trusting())
        await client.finish()
        client.tls.write(sent)
        await client.end()
        assert (await client.read()).count(b"HTTP/1.1 200 OK") == count

    async def test_while_nothing_is_read_does_not_cut_the_last_response(
        self, start_tls: StartTls, authority: Authority, upstream: StandInCore
    ) -> None:
        """A client that reads slowly gets 3 MB whole, though its own end was never read."""
        running = await start_tls()
        key = (await running.mint("ledgers:read")).key
        release, size = asyncio.Event(), 3_000_000
        upstream.script(held(release), like_core, responding(body=b"B" * size))
        client = Handshake(connection := await running.connect(), authority.trusting())
        await client.finish()
        last = request("GET", READ, key=key, headers=[("Connection", "close")])
        await client.write(request("GET", READ, key=key) * 2 + last)
        await upstream.arrived()
        await client.end()
        release.set()
        # The gateway has handed all to the kernel, which holds most of it, before the client reads on.
        await running.logged(f'"bytes_out":{size}')
        await asyncio.sleep(0.5)
        assert (await client.read()).count(b"B" * 1000) == size // 1000
        await connection.close()


class TestVersions:
    @pytest.mark.parametrize(
        ("version", "said"),
        [
            ("-tls1_1", "alert protocol version"),
            ("-tls1_2", "Protocol  : TLSv1.2"),
            ("-tls1_3", "New, TLSv1.3"),
        ],
    )
    async def test_are_1_2_and_newer(self, start_tls: StartTls, version: str, said: str) -> None:
        """openssl s_client is refused with 1.1, in words, and accepted with 1.2 and 1.3."""
        running = await start_tls()
        # At level 0 openssl offers 1.1.
        weak = ("-cipher", "ALL:@SECLEVEL=0")
        printed = await run("openssl", "s_client", "-connect", str(running.gateway.address), version, *weak)
        assert said in printed

    async def test_a_client_cannot_renegotiate(self, start_tls: StartTls) -> None:
        """Renegotiation, which costs the server a handshake each time, is refused."""
        running = await start_tls()
        process = await asyncio.create_subprocess_exec(
            *(program("openssl"), "s_client", "-connect", str(running.gateway.address), "-tls1_2"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(PATIENCE):
            printed, _ = await process.communicate(b"R\n")
        assert b"no renegotiation" in printed

    async def test_a_client_that_sends_records_without_data_is_cut(self, start_tls: StartTls) -> None:
        """A KeyUpdate carries nothing and costs the server new keys: after 1,200 or so the session ends."""
        running = await start_tls()
        process = await asyncio.create_subprocess_exec(
            *(program("openssl"), "s_client", "-connect", str(running.gateway.address), "-tls1_3"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        assert process.stdin is not None
        async with asyncio.timeout(PATIENCE):
            with contextlib.suppress(ConnectionError):
                # At this prompt a line with a k sends a KeyUpdate. Its standard input stays open.
                while process.returncode is None:
                    process.stdin.write(b"k\n")
                    await process.stdin.drain()
                    await asyncio.sleep(0)
            await process.wait()

    async def test_any_server_name_is_accepted(self, start_tls: StartTls) -> None:
        """A name that the certificate does not have is for the client to judge, whatever it contains."""
        running = await start_tls()
        name = "x" * 250
        at = str(running.gateway.address)
        assert "New, TLSv1.3" in await run("openssl", "s_client", "-connect", at, "-servername", name)


class TestClientCertificates:
    async def test_curl_with_one_is_served_and_its_subject_is_logged(
        self, start_tls: StartTls, authority: Authority, client: Issued
    ) -> None:
        running = await start_tls(authority.certificate)
        caller = await running.mint("ledgers:read")
        status = await run(
            *("curl", "--silent", "--cacert", str(authority.certificate), "--cert", str(client.certificate)),
            *("--key", str(client.key), "--header", f"X-Blnk-Key: {caller.key}", "--output", "/dev/null"),
            *("--write-out", "%{http_code}", f"https://{running.gateway.address}{READ}"),
        )
        line = request_line(await running.logged('"event":"request"'))
        assert (status, line["certificate_subject"]) == ("200", "CN=payments\\, EU,O=acme")

    async def test_none_is_refused_in_words(self, start_tls: StartTls, authority: Authority) -> None:
        running = await start_tls(authority.certificate)
        printed = await run(
            *("curl", "--silent", "--show-error", "--cacert", str(authority.certificate)),
            f"https://{running.gateway.address}/health",
        )
        assert "certificate required" in printed
        assert handshakes(running, HandshakeResult.NO_CERTIFICATE) == 1

    @pytest.mark.parametrize("kind", ["another authority", "ended"])
    async def test_one_that_is_not_trusted_is_refused(
        self, start_tls: StartTls, authority: Authority, tmp_path: Path, kind: str
    ) -> None:
        """A certificate of another authority, or one that has ended, makes no connection."""
        issuing = Authority(tmp_path, "authority") if kind == "another authority" else authority
        ends_in = timedelta(days=-1) if kind == "ended" else AHEAD
        running = await start_tls(authority.certificate)
        context = authority.trusting(issuing.issue("mallory", ends_in=ends_in))
        async with await running.connect(tls=context) as refused:
            await refused.send(request("GET", "/health"))
            assert await refused.ended()
        assert handshakes(running, HandshakeResult.UNTRUSTED) == 1

    async def test_a_key_that_is_bound_to_one_works_with_it_alone(
        self, start_tls: StartTls, authority: Authority, client: Issued
    ) -> None:
        """With another certificate of the same authority, the key gets 403."""
        running = await start_tls(authority.certificate)
        bound = await running.mint("ledgers:read", terms=KeyTerms(certificate=client.sha256))
        found = []
        for shown in (client, authority.issue("somebody else")):
            async with await running.connect(tls=authority.trusting(shown)) as connection:
                found.append((await connection.ask("GET", READ, key=bound.key)).status)
        assert found == [200, 403]

    async def test_health_never_asks_for_one(
        self, start_tls: StartTls, authority: Authority, client: Issued
    ) -> None:
        """A kubelet has none: with client_ca, listen and admin ask for one, and health does not."""
        health = Address("127.0.0.1", 0)
        running = await start_tls(
            authority.certificate, listeners=("listen", "admin", "health"), health=health
        )
        gateway = running.gateway
        found = {}
        for name, address in (("admin", gateway.admin_address), ("health", gateway.health_address)):
            for shown in (None, client):
                async with await running.connect(address, tls=authority.trusting(shown)) as connection:
                    try:
                        response = await connection.ask("GET", "/health/alive", host="127.0.0.1")
                        found[name, shown is not None] = response.status
                    except BrokenResponse:
                        found[name, shown is not None] = 0
        assert found == {
            ("admin", False): 0,
            ("admin", True): 200,
            ("health", False): 200,
            ("health", True): 200,
        }


@pytest.fixture
async def barren(start_tls: StartTls, authority: Authority, tmp_path: Path) -> Barren:
    return Barren(await start_tls(), authority, tmp_path / "secrets")


class Barren:
    """A gateway, and clients that send it records which carry little."""

    SIZE = 256 * 1024

    def __init__(self, running: Running, authority: Authority, secrets: Path) -> None:
        self.running = running
        self.authority = authority
        self._secrets = secrets

    async def connect(self) -> BarrenClient:
        connection = await self.running.connect(local=BUSY, send_buffer=1 << 20)
        return await begin(connection, self.authority, self._secrets)


@dataclass(frozen=True, slots=True)
class BarrenClient:
    """A client that makes its records itself; `tls` reads what comes."""

    connection: RawClient
    tls: Handshake
    records: Records

    def last(self) -> bytes:
        """Return the records of a request that ends the connection."""
        return self.records.data(request("GET", "/health", headers=[("Connection", "close")]))


async def begin(connection: RawClient, authority: Authority, secrets: Path) -> BarrenClient:
    """Make the handshake; its secrets are written into a file."""
    context = authority.trusting()
    context.keylog_filename = str(secrets)
    tls = Handshake(connection, context)
    hello = tls.hello()
    await connection.send(hello)
    await tls.finish()
    return BarrenClient(connection, tls, Records(tls.tls, logged_secret(secrets, hello)))


class Stopping(SecurableConnection):
    """A connection above TLS that stops reading whenever bytes come."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.held = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def hold_records(self, size: int) -> None:
        self.held = size

    def data_received(self, data: bytes) -> None:
        self.pieces.append(data)
        self.transport.pause_reading()

    def has(self, number: int) -> bool:
        return len(self.pieces) >= number


@asynccontextmanager
async def stopping(
    authority: Authority, shown: Issued, secrets: Path
) -> AsyncIterator[tuple[BarrenClient, Stopping]]:
    """Yield a client, and the connection above its TLS."""
    loop, above = asyncio.get_running_loop(), Stopping()
    acceptor = TlsAcceptor(shown.listener(), loop, HandshakeResults())
    server = await loop.create_server(acceptor.over(lambda: above), "127.0.0.1", 0)
    async with server, await RawClient.connect(Address(*server.sockets[0].getsockname())) as connection:
        yield await begin(connection, authority, secrets), above


class TestRecords:
    async def test_with_little_data_hold_nobody_up(self, barren: Barren) -> None:
        """A request is answered while records of other clients that take 200 ms to open wait."""
        key = (await barren.running.mint("ledgers:read")).key
        clients = [await barren.connect() for _ in range(4)]
        floods = [client.records.barren(barren.SIZE) for client in clients]
        trusting = barren.authority.trusting()
        async with await barren.running.connect(tls=trusting) as other, beating() as heart:
            assert (await other.ask("GET", READ, key=key)).status == 200
            # The loop is blocked until all of it waits to be read.
            for client, flood in zip(clients, floods, strict=True):
                await client.connection.send(flood)
            heart.longest()
            assert (await other.ask("GET", READ, key=key)).status == 200
            assert heart.longest() < LONGEST_OF_RECORDS

    @pytest.mark.parametrize("ends", [False, True])
    async def test_that_wait_for_their_turn_are_not_lost(self, barren: Barren, ends: bool) -> None:
        """What comes behind them is answered, also if the client ends its side at once."""
        clients = [await barren.connect() for _ in range(3)]
        for client in clients:
            await client.connection.send(client.records.barren(barren.SIZE) + client.last())
            if ends:
                await client.connection.half_close()
        for client in clients:
            assert (await client.tls.read()).startswith(b"HTTP/1.1 200 OK")

    async def test_that_wait_are_not_opened_while_the_connection_above_stops(
        self, authority: Authority, shown: Issued, tmp_path: Path
    ) -> None:
        """It gets bytes once, and again each time when it reads on, until it has all."""
        async with stopping(authority, shown, tmp_path / "secrets") as (client, above):
            await client.connection.send(client.records.barren(2 * RECORD))
            for number in (1, 2):
                await eventually(partial(above.has, number), "bytes")
                await asyncio.sleep(0.1)
                assert len(above.pieces) == number
                above.transport.resume_reading()
            client.connection.abort()

    async def test_that_wait_are_counted_until_this_side_ends(
        self, authority: Authority, shown: Issued, tmp_path: Path
    ) -> None:
        """They are thrown away then."""
        async with stopping(authority, shown, tmp_path / "secrets") as (client, above):
            await client.connection.send(client.records.barren(4 * RECORD))
            await eventually(partial(above.has, 1), "bytes")
            assert above.held >= RECORD
            above.transport.write_eof()
            assert above.held in (0, RECORD), "no more than a record that is not whole"
            above.transport.abort()
            await client.connection.rest()

    async def test_of_further_requests_are_not_read_while_one_is_handled(
        self, start_tls: StartTls, authority: Authority, upstream: StandInCore
    ) -> None:
        """While one request waits for Core, the client's sending stalls; then it is read on."""
        running = await start_tls()
        key = (await running.mint("ledgers:read")).key
        release = asyncio.Event()
        upstream.script(held(release))
        connection = await running.connect(send_buffer=1 << 16)
        client = Handshake(connection, authority.trusting())
        await client.finish()
        await client.write(request("GET", READ, key=key))
        await upstream.arrived()
        last = request("GET", "/health", headers=[("Connection", "close")])
        flood = asyncio.create_task(client.write(request("GET", "/health", body=b"x" * 50_000) * 400 + last))
        done, _ = await asyncio.wait([flood], timeout=1.0)
        assert done == set(), "20 MB of requests were taken in"
        release.set()
        assert (await client.read()).count(b"HTTP/1.1 200 OK") == 402
        await flood


class TestWhatIsNoTls:
    @pytest.mark.parametrize("listener", ["listen", "admin"])
    async def test_plain_http_is_told_so(self, start_tls: StartTls, listener: str) -> None:
        running = await start_tls(listeners=("listen", "admin"))
        gateway = running.gateway
        address = gateway.address if listener == "listen" else gateway.admin_address
        async with await running.connect(address) as client:
            response = await client.ask("GET", "/health")
            assert (response.status, response.code, await client.ended()) == (400, "GEN_BAD_REQUEST", True)
        assert response.json()["error"] == "Malformed HTTP request: this port speaks TLS"
        assert handshakes(running, HandshakeResult.PLAIN_HTTP, listener) == 1

    @pytest.mark.parametrize("junk", [b"\x00" * 100, b"\x16\x03\x01\xff\xff" + b"a" * 100, b"SSH-2.0-x\r\n"])
    async def test_junk_ends_the_connection(self, start_tls: StartTls, junk: bytes) -> None:
        running = await start_tls()
        async with await running.connect() as client:
            await client.send(junk)
            await client.rest()
        await eventually(lambda: handshakes(running, HandshakeResult.FAILED) == 1, "its result")

    async def test_junk_behind_a_handshake_ends_the_connection(
        self, start_tls: StartTls, authority: Authority
    ) -> None:
        """A record that was changed on its way breaks the connection, and nothing of it is read."""
        running = await start_tls()
        async with await running.connect() as connection:
            await Handshake(connection, authority.trusting()).finish()
            await connection.send(b"\x17\x03\x03\x00\x20" + b"j" * 32)
            await connection.rest()
        assert (await running.ask_over(authority.trusting(), "GET", "/health")) == 200


class TestHandshakes:
    async def test_one_that_is_never_finished_is_cut_after_the_time_of_a_head(
        self, start_tls: StartTls, authority: Authority
    ) -> None:
        """Its time begins when the connection is accepted, and bytes do not prolong it."""
        running = await start_tls(timeouts={"head": 0.4})
        async with await running.connect() as client:
            hello = Handshake(client, authority.trusting()).hello()
            began = asyncio.get_running_loop().time()
            for byte in hello[:3]:
                await client.send(bytes([byte]))
                await asyncio.sleep(0.1)
            await client.rest()
            assert asyncio.get_running_loop().time() - began < 2
        await eventually(lambda: handshakes(running, HandshakeResult.ABANDONED) == 1, "its result")

    async def test_those_that_are_never_finished_count_as_connections(
        self, start_tls: StartTls, authority: Authority
    ) -> None:
        """An address that has all connections in its handshakes loses one to another address."""
        running = await start_tls(limits={"connections": 4})
        busy = [await running.connect(local=BUSY) for _ in range(4)]
        for connection in busy:
            await connection.send(Handshake(connection, authority.trusting()).hello())
        assert (await running.ask_over(authority.trusting(), "GET", "/health")) == 200
        assert await ended_ones(busy) == 1

    async def test_beyond_the_limit_one_of_the_same_address_is_closed_without_a_handshake(
        self, start_tls: StartTls
    ) -> None:
        running = await start_tls(limits={"connections": 2})
        kept = [await running.connect() for _ in range(2)]
        async with await running.connect() as refused:
            assert await refused.ended()
        assert await ended_ones(kept) == 0
        line = request_line(await running.logged("GATEWAY_UNAVAILABLE"))
        assert (line["status"], line["code"]) == (503, "GATEWAY_UNAVAILABLE")

    async def test_their_bytes_are_limited(self, start_tls: StartTls) -> None:
        """A client that sends a hello without end is cut."""
        running = await start_tls()
        async with await running.connect() as client:
            # Records of one hello that announces 16 MiB.
            await client.send(b"\x16\x03\x01\x40\x00\x01\xff\xff\xff" + b"h" * 16380)
            for _ in range(2 * MOST_HANDSHAKE // 16384):
                await client.send(b"\x16\x03\x01\x40\x00" + b"h" * 16384)
            await client.rest()
        await eventually(lambda: handshakes(running, HandshakeResult.FAILED) == 1, "its result")

    async def test_what_they_hold_is_limited_over_all_connections(
        self, authority: Authority, shown: Issued
    ) -> None:
        """Where there is room for three handshakes that are not done, two of five lose their connections."""
        loop = asyncio.get_running_loop()
        limits = ClientLimits(100, head=60, body=60, idle=60, write=60, held_bytes=3 * HANDSHAKE_HOLDS)
        clients = Clients(never, lambda _failure, _peer: b"", limits, loop)
        acceptor = TlsAcceptor(shown.listener(), loop, HandshakeResults())
        server = await loop.create_server(acceptor.over(clients.connect), "127.0.0.1", 0)
        address = Address(*server.sockets[0].getsockname())
        async with server, AsyncExitStack() as stack:
            held = [await stack.enter_async_context(await RawClient.connect(address)) for _ in range(5)]
            for connection in held:
                await connection.send(Handshake(connection, authority.trusting()).hello())
            await eventually(lambda: acceptor.results.counts[HandshakeResult.ABANDONED] == 2, "two ends")
            assert len(clients) == 3

    async def test_one_that_is_under_way_when_a_drain_begins_is_finished_and_served(
        self, start_tls: StartTls, authority: Authority
    ) -> None:
        running = await start_tls()
        connection = await running.connect()
        client = Handshake(connection, authority.trusting())
        await connection.send(client.hello())
        draining = asyncio.create_task(running.gateway.drain())
        await running.logged("draining")
        await asyncio.sleep(0.3)
        await client.finish()
        await client.write(request("GET", "/health"))
        assert (await client.read()).startswith(b"HTTP/1.1 200 OK")
        assert await draining == 0

    async def test_many_at_once_do_not_hold_the_event_loop_for_long(
        self, start_gateway: Start, tmp_path: Path
    ) -> None:
        """150 handshakes with an RSA key take 70 ms; no turn of the event loop spends that on them."""
        shown = self_signed(tmp_path, "DNS:localhost")
        running = await start_gateway(tls=TlsConfig(certificate=shown.certificate, key=shown.key))
        flood = [await running.connect() for _ in range(150)]
        hellos = [Handshake(connection, shown.trusting()).hello() for connection in flood]
        async with beating() as heart:
            for connection, hello in zip(flood, hellos, strict=True):
                await connection.send(hello)
            heart.longest()
            for connection in flood:
                assert (await connection.read_some())[:1] == b"\x16"
            assert heart.longest() < LONGEST


async def never(_exchange: ClientExchange) -> None:
    """Handle no request."""


async def ended_ones(connections: list[RawClient]) -> int:
    """Return how many of these connections the gateway has ended."""

    async def is_ended(connection: RawClient) -> bool:
        try:
            async with asyncio.timeout(0.3):
                while await connection.read_some():
                    pass
        except TimeoutError:
            return False
        return True

    return sum(await asyncio.gather(*map(is_ended, connections)))
