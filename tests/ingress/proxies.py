"""The ingresses of `deploy/examples`: real programs with exactly these files, but for their ports."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from gateway.config import Address
from tests.addresses import free_ports
from tests.bench.processes import find
from tests.raw_client import BrokenResponse, RawClient
from tests.running import MASTER_KEY, ROOT
from tests.tls import Issued

EXAMPLES = ROOT / "deploy" / "examples"
PATIENCE = 20.0
_NGINX = """
daemon off;
worker_processes 1;
pid nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path bodies;
    proxy_temp_path responses;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    include {example};
}}
"""


@dataclass(frozen=True, slots=True)
class Place:
    """The folder of an ingress, its example with the ports of a test in it, and its own port."""

    folder: Path
    example: Path
    port: int


_DECIDING_PORTS = re.compile(r"\b(5004|5100|8080)\b")
"""The ports of the examples that ask: those of decisions, of Core and of the ingress."""
_PLAIN = re.compile(r"\b(5001|5003|8443)\b|/etc/blnk-gateway/tls/tls\.(?:crt|key)")
"""The ports of the examples with TLS, those of clients, of health and of the ingress; and their files."""

Command = Callable[[Place], Sequence[str | Path]]


@dataclass(frozen=True, slots=True)
class Proxy:
    """A program that can be an ingress."""

    name: str
    example: str
    command: Command


def _nginx(place: Place) -> Sequence[str | Path]:
    # If root starts nginx, it works as another user.
    place.folder.chmod(0o755)
    key = place.folder / "blnk_master_key.conf"
    key.write_text(f'proxy_set_header X-Blnk-Key "{MASTER_KEY}";\n')
    replace(place.example, "/etc/nginx/blnk_master_key.conf", str(key))
    main = place.folder / "main.conf"
    main.write_text(_NGINX.format(example=place.example))
    return [find("nginx") or "nginx", "-p", place.folder, "-c", main, "-e", "stderr"]


def _nginx_proxy(place: Place) -> Sequence[str | Path]:
    place.folder.chmod(0o755)
    main = place.folder / "main.conf"
    main.write_text(_NGINX.format(example=place.example))
    return [find("nginx") or "nginx", "-p", place.folder, "-c", main, "-e", "stderr"]


_TRAEFIK = (
    "--providers.file.watch=false",
    "--global.checkNewVersion=false",
    "--global.sendAnonymousUsage=false",
)


def _traefik(place: Place) -> Sequence[str | Path]:
    return [
        find("traefik") or "traefik",
        f"--entryPoints.web.address=127.0.0.1:{place.port}",
        f"--providers.file.filename={place.example}",
        *_TRAEFIK,
    ]


def _traefik_proxy(place: Place) -> Sequence[str | Path]:
    """Return the command in the comment of the example."""
    lines = place.example.read_text().splitlines()
    options = [option for line in lines if line.startswith("#") for option in re.findall(r"--\S+", line)]
    assert options.pop().startswith("--providers.file.filename=")
    return [find("traefik") or "traefik", *options, f"--providers.file.filename={place.example}", *_TRAEFIK]


def _caddy(place: Place) -> Sequence[str | Path]:
    return [find("caddy") or "caddy", "run", "--adapter", "caddyfile", "--config", place.example]


def _envoy(place: Place) -> Sequence[str | Path]:
    options = ("--concurrency", "1", "--disable-hot-restart", "--log-level", "error")
    return [find("envoy") or "envoy", "-c", place.example, *options]


def _haproxy(place: Place) -> Sequence[str | Path]:
    return [find("haproxy") or "haproxy", "-db", "-f", place.example]


NGINX = Proxy("nginx", "nginx.conf", _nginx)
TRAEFIK = Proxy("traefik", "traefik-routes.yaml", _traefik)
CADDY = Proxy("caddy", "Caddyfile", _caddy)
ENVOY = Proxy("envoy", "envoy.yaml", _envoy)
PROXIES = (NGINX, TRAEFIK, CADDY, ENVOY)

NGINX_PROXY = Proxy("nginx", "nginx-proxy.conf", _nginx_proxy)
TRAEFIK_PROXY = Proxy("traefik", "traefik-proxy.yaml", _traefik_proxy)
CADDY_PROXY = Proxy("caddy", "Caddyfile.proxy", _caddy)
ENVOY_PROXY = Proxy("envoy", "envoy-proxy.yaml", _envoy)
HAPROXY = Proxy("haproxy", "haproxy.cfg", _haproxy)
HTTP_PROXIES = (NGINX_PROXY, TRAEFIK_PROXY, CADDY_PROXY, ENVOY_PROXY)


def replace(file: Path, old: str, new: str) -> None:
    """Replace a text that the file has."""
    text = file.read_text()
    assert old in text, f"{file.name} has no {old!r}"
    file.write_text(text.replace(old, new))


@contextlib.asynccontextmanager
async def ingress(proxy: Proxy, decide: int, core: int) -> AsyncIterator[Address]:
    """Run an ingress that asks at the port `decide` and forwards to `core`; yield where clients connect.

    A test of a program that is not installed is skipped.
    """
    ports = {"5004": str(decide), "5100": str(core)}
    async with _running(proxy, _DECIDING_PORTS, ports, "8080") as address:
        yield address


@contextlib.asynccontextmanager
async def plain_ingress(
    proxy: Proxy, clients: int, shown: Issued, trusting: ssl.SSLContext, health: int = 0
) -> AsyncIterator[Address]:
    """Run an ingress that shows a certificate and forwards all to the port `clients`; yield its address.

    A test of a program that is not installed is skipped.
    """
    filled = {
        "5001": str(clients),
        "5003": str(health),
        "/etc/blnk-gateway/tls/tls.crt": str(shown.certificate),
        "/etc/blnk-gateway/tls/tls.key": str(shown.key),
    }
    async with _running(proxy, _PLAIN, filled, "8443", trusting) as address:
        yield address


@contextlib.asynccontextmanager
async def _running(
    proxy: Proxy,
    replaced: re.Pattern[str],
    filled: Mapping[str, str],
    own: str,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Address]:
    """Run an ingress with its example, in which `own` is its port."""
    if find(proxy.name) is None:
        pytest.skip(f"{proxy.name} is not installed")
    (port,) = free_ports(1)
    with TemporaryDirectory(prefix="blnk-gateway-ingress-") as folder:
        place = Place(Path(folder), Path(folder, proxy.example), port)
        values = {**filled, own: str(port)}
        text = (EXAMPLES / proxy.example).read_text()
        place.example.write_text(replaced.sub(lambda found: values[found[0]], text))
        output = place.folder / "output"
        with output.open("wb") as stream:
            process = await asyncio.create_subprocess_exec(
                *proxy.command(place),
                stdout=stream,
                stderr=stream,
                cwd=folder,
                env=os.environ | {"BLNK_MASTER_KEY": MASTER_KEY, "HOME": folder},
            )
        address = Address("127.0.0.1", port)
        try:
            await _forwards(process, address, output, tls)
            yield address
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()


async def _forwards(
    process: asyncio.subprocess.Process, address: Address, output: Path, tls: ssl.SSLContext | None
) -> None:
    """Wait until the ingress forwards an allowed request: Traefik listens before it has read its routes."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            while process.returncode is None:
                with contextlib.suppress(OSError, BrokenResponse):
                    async with await RawClient.connect(address, tls=tls) as client:
                        if (await client.ask("GET", "/health")).status == 200:
                            return
                await asyncio.sleep(0.02)
    raise AssertionError(f"it does not forward: {output.read_text(errors='replace')[-2000:]}")
