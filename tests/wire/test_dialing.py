"""New connections to Core: every address of a name, certificates, and the reasons of failures.

Rules kept here:
- An address that drops packets is a listener whose backlog is full.
- Every test ends with as many open descriptors as it began with. Failures are tested on uvloop, too.
"""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import cast

import pytest

from gateway.errors import Code, GatewayError
from gateway.proxy.errors import code_of
from gateway.wire.dialing import Dialer, Resolve, SocketAddress
from tests.running import eventually
from tests.tls import SelfSigned, self_signed

LOOPS = {"asyncio": asyncio.new_event_loop}
with suppress(ImportError):
    import uvloop

    LOOPS["uvloop"] = uvloop.new_event_loop

NOT_TRUSTED = "name a PEM file with the certificate of its authority in upstream.ca_file"
MAYBE_HTTP = "if it speaks no TLS, write http:// in upstream.url"


@pytest.fixture(scope="module")
def localhost(tmp_path_factory: pytest.TempPathFactory) -> SelfSigned:
    return self_signed(tmp_path_factory.mktemp("localhost"), "DNS:localhost", "IP:127.0.0.1")


@pytest.fixture
async def no_leak() -> AsyncIterator[None]:
    """Assert that as many descriptors are open after a test as before it."""
    before = descriptors()
    yield
    await eventually(lambda: descriptors() <= before, "every socket closed")


def descriptors() -> int:
    return len(list(Path("/dev/fd").iterdir()))


class Kept(asyncio.Protocol):
    """A client's end that keeps its transport."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast("asyncio.Transport", transport)

    @property
    def peer(self) -> tuple[str, int]:
        found: tuple[str, int] = self.transport.get_extra_info("peername")[:2]
        return found


class Listening:
    """The connections and bytes that a listener received."""

    def __init__(self) -> None:
        self.received = b""
        self.address: SocketAddress = (socket.AF_INET, ())

    @property
    def port(self) -> int:
        return int(self.address[1][1])


@asynccontextmanager
async def listening(
    response: bytes | None = None, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> AsyncIterator[Listening]:
    """Open a listener that records what it gets, sends any `response` after the first bytes and closes."""
    kept, writers = Listening(), []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with suppress(OSError):
            while data := await reader.read(65536):
                kept.received += data
                if response is not None:
                    writer.write(response)
                    break
        writer.close()

    server = await asyncio.start_server(serve, host, 0, ssl=tls)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    kept.address = (family, server.sockets[0].getsockname())
    try:
        yield kept
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await server.wait_closed()


@contextmanager
def dropping(host: str = "127.0.0.1") -> Iterator[int]:
    """Open a listener whose backlog is full, so that it accepts no further connection; yield its port."""
    with ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind((host, 0))
        full.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            with suppress(BlockingIOError):
                filler.connect(("127.0.0.1", full.getsockname()[1]))
        yield full.getsockname()[1]


@contextmanager
def closed() -> Iterator[SocketAddress]:
    """Return an address where nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield socket.AF_INET, bound.getsockname()


def inet(port: int, host: str = "127.0.0.1") -> SocketAddress:
    return socket.AF_INET, (host, port)


def knowing(*responses: Sequence[SocketAddress] | Exception) -> tuple[Resolve, list[tuple[str, int]]]:
    """Return a resolver that gives these results in turn, the last for ever, and the list of its calls."""
    left, asked = list(responses), list[tuple[str, int]]()

    async def resolve(host: str, port: int) -> Sequence[SocketAddress]:
        asked.append((host, port))
        response = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(response, Exception):
            raise response
        return response

    return resolve, asked


async def peer_of(dialer: Dialer, seconds: float = 5.0) -> tuple[str, int]:
    """Open a connection, close it, and return the peer that it led to."""
    made = await dialer.connect(Kept, seconds)
    try:
        return made.peer
    finally:
        made.transport.abort()


async def failure_of(dialer: Dialer, seconds: float = 5.0) -> tuple[Code, str]:
    """Return the reason why no connection was made."""
    with pytest.raises(GatewayError) as failed:
        await dialer.connect(Kept, seconds)
    assert failed.value.message == ""
    return code_of(failed.value), failed.value.reason


@pytest.mark.usefixtures("no_leak")
class TestAddresses:
    async def test_the_second_address_is_tried_where_the_first_drops_packets(self) -> None:
        """When the first address drops packets, the second is tried soon after, long before the deadline."""
        async with listening() as core:
            with dropping() as dead:
                dialer = Dialer("core.test", 1, resolve=knowing([inet(dead), core.address])[0])
                began = time.monotonic()
                assert await peer_of(dialer) == core.address[1]
                assert 0.2 < time.monotonic() - began < 2.0

    async def test_the_next_address_is_tried_at_once_where_one_refuses(self) -> None:
        """When an address refuses, the next is tried at once."""
        async with listening() as core:
            with closed() as one, closed() as two:
                dialer = Dialer("core.test", 1, resolve=knowing([one, two, core.address])[0])
                began = time.monotonic()
                assert await peer_of(dialer) == core.address[1]
                assert time.monotonic() - began < 0.2

    async def test_every_address_is_tried_before_a_short_deadline(self) -> None:
        """All of eight addresses that drop packets are tried before a deadline of 1 s."""
        async with listening() as core:
            with dropping("0.0.0.0") as dead:
                addresses = [inet(dead, f"127.0.0.{number}") for number in range(2, 10)]
                dialer = Dialer("core.test", 1, resolve=knowing([*addresses, core.address])[0])
                assert await peer_of(dialer, 1.0) == core.address[1]

    async def test_families_are_tried_in_turn(self) -> None:
        """IPv6 and IPv4 are tried in turn (RFC 8305 section 4), and refusals are listed in that order."""
        with closed() as one, closed() as two:
            sixes: list[SocketAddress] = [
                (socket.AF_INET6, ("::1", port, 0, 0)) for port in (one[1][1], two[1][1])
            ]
            dialer = Dialer("core.test", 1, resolve=knowing([*sixes, one, two])[0])
            addresses = f"[::1]:{one[1][1]}, 127.0.0.1:{one[1][1]}, [::1]:{two[1][1]}, 127.0.0.1:{two[1][1]}"
            _, reason = await failure_of(dialer)
            assert sorted(reason.partition(" (")[2].removesuffix(")").split(", ")) == sorted(
                addresses.split(", ")
            )
            assert reason == f"connection refused ({addresses})"

    async def test_a_name_that_moves_is_followed_by_the_next_connection(self) -> None:
        """The name is resolved anew for each connection."""
        async with listening() as old, listening() as new:
            resolve, asked = knowing([old.address], [new.address])
            dialer = Dialer("core.test", 5001, resolve=resolve)
            assert [await peer_of(dialer), await peer_of(dialer)] == [old.address[1], new.address[1]]
            assert asked == [("core.test", 5001)] * 2

    async def test_connections_made_at_the_same_time_share_a_look_up(self) -> None:
        """Connections share a look-up that hangs, and give up at their own deadline."""
        asked, responding = list[str](), asyncio.Event()
        async with listening() as core:

            async def resolve(host: str, _port: int) -> Sequence[SocketAddress]:
                asked.append(host)
                await responding.wait()
                return [core.address]

            dialer = Dialer("core.test", 1, resolve=resolve)
            late = (Code.UPSTREAM_TIMEOUT, "the name core.test was not resolved within 0.1 s")
            assert await asyncio.gather(*(failure_of(dialer, 0.1) for _ in range(3))) == [late] * 3
            waiting = [asyncio.create_task(peer_of(dialer)) for _ in range(3)]
            await asyncio.sleep(0)
            responding.set()
            assert await asyncio.gather(*waiting) == [core.address[1]] * 3
            assert asked == ["core.test"]

    async def test_a_connection_that_is_cancelled_leaves_nothing_behind(self) -> None:
        """A connection may be cancelled at any turn of the event loop, and leaves nothing behind."""
        with socket.create_server(("127.0.0.1", 0)) as core:
            dialer = Dialer("core.test", 1, resolve=knowing([inet(core.getsockname()[1])])[0])
            for turns in range(12):
                making = asyncio.create_task(dialer.connect(Kept, 5))
                for _ in range(turns):
                    await asyncio.sleep(0)
                making.cancel()
                made = (await asyncio.gather(making, return_exceptions=True))[0]
                if isinstance(made, Kept):
                    made.transport.abort()
                await asyncio.sleep(0.01)
                gc.collect()

    async def test_small_requests_leave_at_once_and_dead_peers_are_noticed(self) -> None:
        """A connection has TCP_NODELAY and SO_KEEPALIVE."""
        async with listening() as core:
            made = await Dialer("127.0.0.1", core.port).connect(Kept, 5)
            sock = made.transport.get_extra_info("socket")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            made.transport.abort()


@pytest.mark.usefixtures("no_leak")
class TestReasons:
    async def test_an_unknown_name_is_named(self) -> None:
        """A name that the system's resolver does not know is named; .invalid never exists (RFC 6761)."""
        dialer = Dialer("no-such-host.invalid", 5100)
        assert await failure_of(dialer) == (
            Code.UPSTREAM_UNREACHABLE,
            "unknown host name no-such-host.invalid",
        )

    @pytest.mark.parametrize(
        ("error", "reason"),
        [
            (socket.gaierror(socket.EAI_NONAME, "x"), "unknown host name core.test"),
            (
                socket.gaierror(socket.EAI_AGAIN, "x"),
                "the name core.test cannot be resolved now: the name server does not respond",
            ),
            (UnicodeError("label too long"), "unknown host name core.test"),
        ],
        ids=["unknown", "no name server", "not a name"],
    )
    async def test_why_a_name_is_not_resolved_is_reported(self, error: Exception, reason: str) -> None:
        """A name server that is down is reported otherwise than a name that does not exist."""
        dialer = Dialer("core.test", 1, resolve=knowing(error)[0])
        assert await failure_of(dialer) == (Code.UPSTREAM_UNREACHABLE, reason)

    async def test_each_address_is_reported_with_its_failure(self) -> None:
        """Each address is named with its failure; addresses with the same failure stand together."""
        with closed() as one, closed() as two, dropping() as dead:
            dialer = Dialer("core.test", 1, resolve=knowing([one, inet(dead), two])[0])
            assert await failure_of(dialer, 0.6) == (
                Code.UPSTREAM_TIMEOUT,
                f"connection refused (127.0.0.1:{one[1][1]}, 127.0.0.1:{two[1][1]}); "
                f"no response within 0.6 s (127.0.0.1:{dead})",
            )


@pytest.mark.usefixtures("no_leak")
class TestTls:
    async def test_a_certificate_that_is_trusted_is_connected_to(self, localhost: SelfSigned) -> None:
        """A trusted certificate for the host's name or address is accepted."""
        async with listening(tls=localhost.listener()) as core:
            for host in ("localhost", "127.0.0.1"):
                dialer = Dialer(host, core.port, localhost.trusting(), resolve=knowing([core.address])[0])
                assert await peer_of(dialer) == core.address[1]

    async def test_a_certificate_that_is_not_trusted_names_what_trusts_it(
        self, localhost: SelfSigned
    ) -> None:
        """The error for an untrusted certificate names the setting that trusts it, and nothing was sent."""
        async with listening(tls=localhost.listener()) as core:
            resolve = knowing([core.address])[0]
            assert await failure_of(Dialer("localhost", core.port, trusting_none(), resolve=resolve)) == (
                Code.UPSTREAM_UNREACHABLE,
                f"the certificate of localhost is not trusted (self-signed certificate): {NOT_TRUSTED}",
            )
            assert core.received == b""

    @pytest.mark.parametrize("host", ["core.test", "127.0.0.2"])
    async def test_a_certificate_for_another_name_is_reported(self, localhost: SelfSigned, host: str) -> None:
        """A certificate of a trusted authority for another name than Core's is refused, with the reason."""
        async with listening(tls=localhost.listener()) as core:
            resolve = knowing([core.address])[0]
            assert await failure_of(Dialer(host, core.port, localhost.trusting(), resolve=resolve)) == (
                Code.UPSTREAM_UNREACHABLE,
                f"the certificate of {host} is for another name",
            )
            assert core.received == b""

    @pytest.mark.parametrize(
        ("response", "reason"),
        [
            (
                b"HTTP/1.1 400 Bad Request\r\n\r\n",
                "what responds at upstream.url does not speak TLS: write http:// there",
            ),
            (b"", f"localhost closed the connection during the TLS handshake; {MAYBE_HTTP}"),
        ],
        ids=["HTTP", "nothing"],
    )
    async def test_tls_to_a_plain_port_is_reported(
        self, localhost: SelfSigned, response: bytes, reason: str
    ) -> None:
        """TLS to a plain port is reported, whether the port responds in HTTP or closes the connection."""
        async with listening(response) as core:
            dialer = Dialer("localhost", core.port, localhost.trusting(), resolve=knowing([core.address])[0])
            assert await failure_of(dialer) == (Code.UPSTREAM_UNREACHABLE, reason)

    async def test_a_handshake_that_is_not_done_in_time_is_reported(self, localhost: SelfSigned) -> None:
        """A handshake not done in time is reported, as with a plain server that waits for a whole head."""
        async with listening() as core:
            dialer = Dialer("localhost", core.port, localhost.trusting(), resolve=knowing([core.address])[0])
            assert await failure_of(dialer, 0.3) == (
                Code.UPSTREAM_TIMEOUT,
                f"TLS handshake with localhost not done within 0.3 s; {MAYBE_HTTP}",
            )


@pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS)
def test_no_failure_leaves_a_socket_open(
    loop: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path
) -> None:
    """No failure leaves a socket open, on either event loop."""
    shown = self_signed(tmp_path, "DNS:localhost")

    async def fail_in_every_way() -> None:
        async with (
            listening() as core,
            listening(tls=shown.listener()) as tls,
            listening(b"HTTP/1.1 ") as plain,
        ):
            with dropping("0.0.0.0") as dead, closed() as nobody:
                silent = [inet(dead), inet(dead, "127.0.0.2")]
                # From now on, the event loop's own descriptors are open.
                await failure_of(Dialer("localhost", 1, resolve=knowing([nobody])[0]))
                before = descriptors()
                await peer_of(Dialer("localhost", 1, resolve=knowing([*silent, core.address])[0]))
                await failure_of(Dialer("localhost", 1, resolve=knowing([nobody, *silent])[0]), 0.2)
                making = asyncio.ensure_future(peer_of(Dialer("localhost", 1, resolve=knowing(silent)[0])))
                await asyncio.sleep(0.3)
                making.cancel()
                await asyncio.gather(making, return_exceptions=True)
                for address in (tls.address, plain.address):
                    dialer = Dialer("localhost", 1, trusting_none(), resolve=knowing([address])[0])
                    await failure_of(dialer)
                await failure_of(
                    Dialer("localhost", 1, trusting_none(), resolve=knowing([core.address])[0]), 0.2
                )
                making = asyncio.ensure_future(
                    peer_of(Dialer("localhost", 1, trusting_none(), resolve=knowing([core.address])[0]))
                )
                await asyncio.sleep(0.1)
                making.cancel()
                await asyncio.gather(making, return_exceptions=True)
                await eventually(lambda: descriptors() <= before, "every socket closed")

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(fail_in_every_way())


def trusting_none() -> ssl.SSLContext:
    """Return a TLS context that trusts no authority."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
