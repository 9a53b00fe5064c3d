"""The limit of open files, and the settings that are kept below it."""

from __future__ import annotations

import asyncio
import io
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from gateway.cli import cli
from gateway.config import Address, Config, DecideConfig
from gateway.server.build import build
from gateway.server.descriptors import LEAST, FittedConfig, Shortfall, fit, hard_limit, too_few
from gateway.server.parts import Options
from gateway.server.reload import Source
from tests.addresses import free_ports
from tests.core_stand_in import StandInCore
from tests.raw_client import RawClient
from tests.running import MASTER_KEY, ROOT, eventually, shipped_config
from tests.running import configured as configured_for
from tests.serving import SERVE, Serving, serving

ENVIRON = {
    "BLNK_MASTER_KEY": MASTER_KEY,
    "BLNK_GATEWAY_LISTEN": "127.0.0.1:0",
    "BLNK_GATEWAY_ADMIN": "127.0.0.1:0",
    "BLNK_GATEWAY_UPSTREAM__URL": "http://127.0.0.1:1",
    "BLNK_GATEWAY_KEYS__STORE": "memory://",
}
FEW = 256
FLOOD = 600
BESIDE = 112  # for the store, files, and connections that are being refused


def configured(*, clients: int = 10_000, upstream: int = 128, health: bool = True) -> Config:
    config = shipped_config()
    return replace(
        config,
        health=Address("127.0.0.1", 0) if health else None,
        limits=replace(config.limits, connections=clients),
        upstream=replace(config.upstream, connections=upstream),
    )


def numbers(found: FittedConfig) -> tuple[int, int, int]:
    return found.config.limits.connections, found.config.upstream.connections, found.private


class TestRoom:
    def test_what_fits_is_left_as_it_is(self) -> None:
        """Core's connections count twice, since as many late requests run on apart from the pool."""
        config = configured(clients=500)
        needed = BESIDE + 500 + 2 * 128 + 2 * 64
        assert fit(config, needed) == FittedConfig(config, 64, 0, ())
        assert fit(config, needed - 1) != FittedConfig(config, 64, 0, ())

    def test_connections_that_wait_for_their_proxy_header_have_room(self) -> None:
        """With `proxy_protocol` some connections beside those of clients wait for their header."""
        config = replace(configured(clients=500), proxy_protocol=True)
        needed = BESIDE + 500 + 2 * 128 + 2 * 64 + 128
        assert fit(config, needed) == FittedConfig(config, 64, 128, ())
        fewer = fit(config, needed - 1)
        assert (numbers(fewer), fewer.headers) == ((500, 128, 63), 63)
        assert fit(config, LEAST).headers == 1

    def test_the_usual_1024_cost_clients_first(self) -> None:
        found = fit(configured(), 1024)
        assert numbers(found) == (542, 128, 57)
        assert found.shortfalls == (Shortfall("limits.connections", 10_000, 542, 1024, 10_496),)
        assert str(found.shortfalls[0]) == (
            "limits.connections is 10000, but 1024 open files leave room for 542: raise the hard limit of "
            "open files to 10496 (ulimit -Hn, LimitNOFILE= in systemd, ulimits in Compose), or write 542"
        )

    def test_with_256_every_purpose_has_a_share(self) -> None:
        found = fit(configured(), FEW)
        assert numbers(found) == (78, 24, 9)
        assert found.shortfalls == (
            Shortfall("limits.connections", 10_000, 78, FEW, 10_496),
            Shortfall("upstream.connections", 128, 24, FEW, 10_496),
        )

    def test_decisions_have_a_share_where_they_are_listened_for(self) -> None:
        """The bound of their connections counts, and so do the sockets of their listener."""
        config = configured(clients=500)
        deciding = replace(config, decide=DecideConfig(listen=Address("127.0.0.1", 0), connections=200))
        needed = BESIDE + 8 + 500 + 2 * 128 + 200 + 2 * 64
        assert fit(deciding, needed) == FittedConfig(deciding, 64, 0, ())
        found = fit(deciding, FEW)
        assert (*numbers(found), found.config.decide.connections) == (42, 22, 8, 34)
        assert found.shortfalls[-1] == Shortfall("decide.connections", 200, 34, FEW, needed)
        few = fit(deciding, LEAST)
        assert (*numbers(few), few.config.decide.connections) == (2, 1, 1, 2)

    @given(st.integers(LEAST, 20_000), st.integers(1, 20_000), st.integers(1, 20_000), st.booleans())
    def test_nothing_is_beyond_the_limit_and_nothing_is_without_a_share(
        self, limit: int, clients: int, upstream: int, health: bool
    ) -> None:
        found = fit(configured(clients=clients, upstream=upstream, health=health), limit)
        taken, pool, private = numbers(found)
        assert 1 <= taken <= clients
        assert 1 <= pool <= upstream
        assert 1 <= private <= 64
        assert BESIDE + taken + 2 * pool + private * (2 if health else 1) <= limit
        assert {shortfall.setting for shortfall in found.shortfalls} == {
            setting
            for setting, configured_, had in (
                ("limits.connections", clients, taken),
                ("upstream.connections", upstream, pool),
            )
            if had < configured_
        }

    @pytest.mark.parametrize(
        ("limit", "text"),
        [
            (LEAST, ""),
            (100, "100 open files are too few: raise the hard limit to at least 128 (ulimit -Hn)"),
        ],
    )
    def test_too_few_open_files_are_refused_with_the_least(self, limit: int, text: str) -> None:
        assert too_few(limit) == text


def limited(files: int, *, soft: bool = False) -> tuple[str, ...]:
    """Return the words before a command that limit its open files."""
    return ("bash", "-c", f'ulimit {"-Sn" if soft else "-n"} {files}; exec "$0" "$@"')


def open_files(process: Serving) -> int:
    return sum(1 for _ in Path(f"/proc/{process.process.pid}/fd").iterdir())


async def flood(address: Address, count: int) -> list[RawClient]:
    """Connect this often, as fast as possible, and keep every connection."""
    found: list[RawClient] = []
    for _ in range(0, count, 100):
        clients = await asyncio.gather(
            *(RawClient.connect(address, keep=False) for _ in range(100)), return_exceptions=True
        )
        found += [client for client in clients if isinstance(client, RawClient)]
    return found


class TestServe:
    async def test_the_soft_limit_is_raised_to_the_hard_one(self, upstream: StandInCore) -> None:
        async with serving(upstream.url, {}, command=limited(FEW, soft=True)) as process:
            await process.event("ready")
            (line,) = [
                text
                for text in Path(f"/proc/{process.process.pid}/limits").read_text().splitlines()
                if text.startswith("Max open files")
            ]
        assert line.split()[3:5] == [str(hard_limit())] * 2

    async def test_what_cannot_be_had_is_said_at_the_start(self, upstream: StandInCore) -> None:
        async with serving(upstream.url, {}, command=limited(FEW)) as process:
            await process.event("listening")
        (clients, pool) = [event for event in process.events if event["event"].startswith("fewer conn")]
        assert clients == {
            "timestamp": clients["timestamp"],
            "level": "warning",
            "event": "fewer connections than configured",
            "setting": "limits.connections",
            "configured": 10_000,
            "possible": 87,
            "open_files": FEW,
            "needed": 10_432,
            "reason": clients["reason"],
        }
        assert (pool["setting"], pool["configured"], pool["possible"]) == ("upstream.connections", 128, 24)

    async def test_too_few_are_said_in_words(self, upstream: StandInCore) -> None:
        async with serving(upstream.url, {}, command=limited(100)) as process:
            ended = await process.ended()
        assert (ended.code, ended.stderr) == (1, f"blnk-gateway: {too_few(100)}\n")

    @pytest.mark.parametrize(
        "loop", ["", "import sys; sys.modules['uvloop'] = None; "], ids=["uvloop", "asyncio"]
    )
    async def test_a_flood_of_connections_takes_no_descriptor_from_anybody(
        self, upstream: StandInCore, loop: str
    ) -> None:
        """A flood of connections to all three listeners takes no other descriptor, on either event loop."""
        health = Address("127.0.0.1", *free_ports(1))
        settings, script = {"HEALTH": str(health)}, loop + SERVE
        async with serving(upstream.url, settings, command=limited(FEW), script=script) as process:
            address, admin = await process.listening()
            await process.event("ready")
            kept = await RawClient.connect(address)
            assert (await kept.ask("GET", "/ledgers", key=MASTER_KEY)).status == 200
            most = 0

            async def watch() -> None:
                nonlocal most
                while True:
                    most = max(most, open_files(process))
                    await asyncio.sleep(0.005)

            watching = asyncio.create_task(watch())
            floods = await asyncio.gather(*(flood(listener, FLOOD) for listener in (address, admin, health)))
            assert (await kept.ask("GET", "/ledgers", key=MASTER_KEY)).status == 200
            for listener in (admin, health):
                async with await RawClient.connect(listener) as client:
                    asked = b"GET /health/ready HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
                    assert (await client.call(asked)).status == 200
            watching.cancel()
            for client in (kept, *(client for clients in floods for client in clients)):
                await client.close()
            async with await RawClient.connect(address) as late:
                assert (await late.ask("GET", "/ledgers", key=MASTER_KEY)).status == 200
            process.terminate()
            ended = await process.ended()
        assert most < FEW
        assert {event["event"] for event in ended.events if event["level"] == "error"} <= {"request"}
        assert ended.stderr == ""


class TestReload:
    async def test_a_reload_is_kept_below_the_limit_too(self, upstream: StandInCore, tmp_path: Path) -> None:
        """A reload is kept below the limit too, and says so again."""
        shipped, file, log = (ROOT / "gateway.yaml").read_text(), tmp_path / "gateway.yaml", io.StringIO()
        file.write_text(shipped)
        environ = ENVIRON | {"BLNK_GATEWAY_UPSTREAM__URL": upstream.url, "BLNK_GATEWAY_DRAIN__DELAY": "0s"}
        config = configured_for(upstream, {"limits": {"connections": 50}, "upstream": {"connections": 24}})
        gateway = build(config, log, Options(source=Source(file, environ), open_files=FEW))
        await gateway.start()
        assert "fewer" not in log.getvalue()
        file.write_text(shipped + "\n# changed\n")
        gateway.reload()
        await eventually(lambda: '"reloaded"' in log.getvalue(), "the reload")
        assert log.getvalue().count('"fewer connections than configured"') == 2
        assert (gateway.config.limits.connections, gateway.config.upstream.connections) == (87, 24)
        await gateway.close()


class TestCheck:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        """A configuration that no machine has room for."""
        path = tmp_path / "gateway.yaml"
        shipped = (ROOT / "gateway.yaml").read_text()
        path.write_text(f"limits: {{connections: 1000000}}\n{shipped}")
        return path

    @pytest.mark.skipif(hard_limit() > 1_000_000, reason="this machine has room for it")
    @pytest.mark.parametrize(("arguments", "word"), [((), "note"), (("--env",), "warning")])
    def test_it_says_what_this_machine_has_no_room_for(
        self, file: Path, arguments: tuple[str, ...], word: str
    ) -> None:
        """A file that needs more than this machine has is a note, and with --env a warning."""
        found = CliRunner().invoke(cli, ["check", "--config", str(file), *arguments], env=ENVIRON)
        lines = found.stdout.splitlines()
        (shortfall, *_) = fit(configured(clients=1_000_000, health=False), hard_limit()).shortfalls
        assert (found.exit_code, lines[0]) == (0, f"{file}: {word}: {shortfall}")
