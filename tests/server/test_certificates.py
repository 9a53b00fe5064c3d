"""Certificates that change while the gateway runs: those of the listeners, and that for Core."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.config.sections.tls import TlsConfig
from gateway.server.certificates import Certificates
from gateway.telemetry import Log
from gateway.wire.dialing import Dialer
from gateway.wire.errors import UpstreamError
from tests.conftest import Start
from tests.raw_client import PATIENCE, RawClient
from tests.running import Running, eventually, shipped_config
from tests.tls import Authority, Issued


class Secret:
    """A secret of Kubernetes, mounted as a folder in which a link leads to the present version."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        self._folder = folder
        self._authority = authority
        self._version = 0
        self.certificate, self.key = folder / "tls.crt", folder / "tls.key"
        self.client_ca = folder / "ca.crt"
        for file in (self.certificate, self.key, self.client_ca):
            file.symlink_to(Path("..data") / file.name)

    def swap(self, issued: Issued, key: Path | None = None, client_ca: Path | None = None) -> Issued:
        """Replace all files at once, as kubelet does; `key` takes the place of the certificate's own."""
        self._version += 1
        version = self._folder / f"..{self._version}"
        version.mkdir()
        shutil.copy(issued.certificate, version / "tls.crt")
        shutil.copy(key or issued.key, version / "tls.key")
        shutil.copy(client_ca or self._authority.certificate, version / "ca.crt")
        link = self._folder / "..new"
        link.symlink_to(version.name)
        link.rename(self._folder / "..data")
        return issued


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def secret(tmp_path: Path, authority: Authority) -> Secret:
    (tmp_path / "secret").mkdir()
    return Secret(tmp_path / "secret", authority)


@pytest.fixture
def first(secret: Secret, authority: Authority) -> Issued:
    """The certificate at the start."""
    return secret.swap(authority.issue("first", "localhost"))


@pytest.fixture
async def running(start_gateway: Start, secret: Secret, first: Issued) -> Running:
    return await start_gateway(tls=TlsConfig(certificate=secret.certificate, key=secret.key))


async def shown_by(running: Running, authority: Authority) -> bytes:
    """Return the certificate that a new connection gets, in DER."""
    async with await running.connect(tls=authority.trusting()) as client:
        return certificate_of(client)


def certificate_of(client: RawClient) -> bytes:
    return client.tls_object.getpeercert(binary_form=True) or b""


def events(running: Running, name: str) -> list[Any]:
    lines = [json.loads(line) for line in running.log.getvalue().splitlines()]
    return [line for line in lines if line["event"] == name]


class TestOfTheListeners:
    async def test_a_swapped_one_is_shown_to_new_connections_and_no_other_is_dropped(
        self, running: Running, secret: Secret, authority: Authority, first: Issued
    ) -> None:
        async with await running.connect(tls=authority.trusting()) as old:
            second = secret.swap(authority.issue("second", "localhost"))
            await running.logged("certificate reloaded")
            assert await shown_by(running, authority) == second.der
            assert (certificate_of(old), (await old.ask("GET", "/health")).status) == (first.der, 200)

    async def test_sighup_asks_for_it_at_once(
        self, running: Running, secret: Secret, authority: Authority
    ) -> None:
        """SIGHUP does not wait until the content has stayed the same for a second."""
        second = secret.swap(authority.issue("second", "localhost"))
        began = asyncio.get_running_loop().time()
        running.gateway.reload()
        await running.logged("certificate reloaded")
        assert asyncio.get_running_loop().time() - began < 1
        assert await shown_by(running, authority) == second.der

    async def test_files_that_do_not_match_change_nothing_and_are_logged_once(
        self, running: Running, secret: Secret, authority: Authority, first: Issued
    ) -> None:
        second, other = authority.issue("second", "localhost"), authority.issue("other")
        secret.swap(second, key=other.key)
        await running.logged("certificate refused")
        # Neither SIGHUP nor the looks that follow try the same content again.
        running.gateway.reload()
        await asyncio.sleep(1.2)
        (line,) = events(running, "certificate refused")
        assert (line["setting"], line["problem"]) == ("tls.key", "is not the key of tls.certificate")
        assert await shown_by(running, authority) == first.der
        secret.swap(second)
        await running.logged("certificate reloaded")
        assert await shown_by(running, authority) == second.der

    async def test_the_authorities_of_clients_follow_their_file(
        self, start_gateway: Start, secret: Secret, authority: Authority, first: Issued, tmp_path: Path
    ) -> None:
        """A client whose authority was taken out is refused, also one that could resume a session."""
        tls = TlsConfig(certificate=secret.certificate, key=secret.key, client_ca=secret.client_ca)
        running = await start_gateway(tls=tls)
        context = authority.trusting(authority.issue("client"))
        assert await running.ask_over(context, "GET", "/health") == 200
        secret.swap(first, client_ca=Authority(tmp_path, "another").certificate)
        running.gateway.reload()
        await running.logged("certificate reloaded")
        async with await running.connect(tls=context) as refused:
            assert await refused.ended()

    async def test_its_end_is_a_metric_and_a_warning_when_it_is_near(
        self, running: Running, secret: Secret, authority: Authority
    ) -> None:
        before = end_of(running)
        secret.swap(authority.issue("second", "localhost", ends_in=timedelta(days=3, hours=1)))
        running.gateway.reload()
        await running.logged("tls.certificate: the certificate ends in 3 days, on ")
        assert round((before - end_of(running)) / 86400) == 57


def end_of(running: Running) -> float:
    page, _ = running.gateway.metrics.exposition("")
    name = 'blnk_gateway_certificate_end_timestamp_seconds{setting="tls.certificate"} '
    return float(page.decode().partition(name)[2].partition("\n")[0])


class Kept(asyncio.Protocol):
    """A connection to Core; `certificate` is Core's."""

    def __init__(self) -> None:
        self.certificate = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.certificate = transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
        transport.close()


class Core:
    """A Core that asks for a certificate; `seen` are those that it has got, and `shown` is its own."""

    def __init__(self, authority: Authority) -> None:
        self.shown = authority.issue("core", "127.0.0.1")
        self.seen: list[bytes] = []
        self._context = self.shown.listener()
        self._context.load_verify_locations(authority.certificate)
        self._context.verify_mode = ssl.CERT_REQUIRED

    async def __aenter__(self) -> Core:
        self._server = await asyncio.start_server(self._take, "127.0.0.1", 0, ssl=self._context)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    def _take(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.seen.append(writer.get_extra_info("ssl_object").getpeercert(binary_form=True))
        writer.close()


class Following:
    """The certificates of a gateway that asks a Core on `port`, and connections to that Core."""

    def __init__(self, secret: Secret, port: int) -> None:
        upstream = replace(
            shipped_config().upstream,
            url=f"https://127.0.0.1:{port}",
            ca_file=secret.client_ca,
            certificate=secret.certificate,
            key=secret.key,
        )
        config = replace(shipped_config(), upstream=upstream)
        loop = asyncio.get_running_loop()
        self._certificates = Certificates(config, loop, Log(io.StringIO()).events, lambda: 0.0)
        self._dialer = Dialer("127.0.0.1", port, self._certificates.core)
        self._certificates.core_followed_by(self._adopt)
        self._following = asyncio.create_task(self._certificates.run())
        self._adopted = asyncio.Event()
        self._fails = False

    def fail_once(self) -> None:
        """Let the next certificate fail where it is used."""
        self._fails = True

    def _adopt(self, context: ssl.SSLContext | None) -> None:
        self._dialer.tls = context
        self._adopted.set()
        if self._fails:
            self._fails = False
            raise OSError

    async def adopted(self) -> None:
        """Wait until the files that hold something else now are used."""
        self._certificates.ask()
        async with asyncio.timeout(PATIENCE):
            await self._adopted.wait()
        self._adopted.clear()

    async def connect(self) -> bytes:
        """Connect, and return the certificate of Core."""
        return (await self._dialer.connect(Kept, PATIENCE)).certificate

    async def close(self) -> None:
        self._following.cancel()
        await asyncio.wait([self._following])


@pytest.fixture
async def core(authority: Authority) -> AsyncIterator[Core]:
    async with Core(authority) as running:
        yield running


@pytest.fixture
async def following(secret: Secret, first: Issued, core: Core) -> AsyncIterator[Following]:
    made = Following(secret, core.port)
    yield made
    await made.close()


class TestForCore:
    async def test_new_connections_show_what_the_files_hold_now(
        self, following: Following, core: Core, secret: Secret, authority: Authority, first: Issued
    ) -> None:
        await following.connect()
        second = secret.swap(authority.issue("second"))
        await following.adopted()
        await following.connect()
        await eventually(lambda: len(core.seen) == 2, "both connections")
        assert core.seen == [first.der, second.der]

    async def test_only_the_authorities_that_the_file_holds_now_are_trusted(
        self, following: Following, core: Core, secret: Secret, first: Issued, tmp_path: Path
    ) -> None:
        assert await following.connect() == core.shown.der
        secret.swap(first, client_ca=Authority(tmp_path, "another").certificate)
        await following.adopted()
        with pytest.raises(UpstreamError) as refused:
            await following.connect()
        assert "is not trusted" in refused.value.reason

    async def test_a_failure_ends_nothing(
        self, following: Following, core: Core, secret: Secret, authority: Authority, first: Issued
    ) -> None:
        """Whatever fails when a certificate changes, the next change is followed."""
        following.fail_once()
        secret.swap(authority.issue("second"))
        await following.adopted()
        third = secret.swap(authority.issue("third"))
        await following.adopted()
        await following.connect()
        await eventually(lambda: core.seen == [third.der], "the connection")
