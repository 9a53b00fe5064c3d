"""Clients on a Unix socket: its file, its peers, a drain, and paths that cannot be listened on."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import uvloop
from click.testing import CliRunner

from gateway.cli import cli
from gateway.config import Address, UnixAddress
from gateway.errors import Code
from gateway.keys.memory_store import MemoryKeyStore
from gateway.policy.terms import KeyTerms, read_network
from gateway.server.listener import Listener
from gateway.server.sharing import why_not_shared
from gateway.server.sockets import CannotListenError, PortUse, bound_at
from gateway.server.unix_sockets import UnusablePathError, opened, why_not_usable
from tests.conftest import Start
from tests.core_stand_in import StandInCore
from tests.raw_client import RawClient
from tests.running import MASTER_KEY, ROOT, Running, shipped_config
from tests.server.racing_sockets import race
from tests.server.test_listener import Greeting, connected, received
from tests.serving import serving
from tests.wire.asserting import READ, assert_error

loops = pytest.mark.parametrize(
    "new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)


@pytest.fixture
def address(tmp_path: Path) -> UnixAddress:
    return UnixAddress(f"{tmp_path}/gateway.sock")


async def connect(address: UnixAddress, bound_to: str = "") -> RawClient:
    """Connect, from the path `bound_to` if there is one."""
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    if bound_to:
        client.bind(bound_to)
    client.connect(address.path)
    reader, writer = await asyncio.open_unix_connection(sock=client)
    return RawClient(reader, writer, keep=True)


async def start_with(start_gateway: Start, address: UnixAddress, *trusted: object) -> Running:
    listen = (Address("127.0.0.1", 0), address)
    return await start_gateway(listen=listen, trusted_proxies=trusted)


def opened_at(path: Path) -> None:
    """Make the file of a socket."""
    opened(UnixAddress(str(path)), 0o600, 1).close()


@contextmanager
def folder_of_everyone() -> Iterator[Path]:
    """Make a folder that every user of this machine can use."""
    with TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name)


@contextmanager
def unprivileged() -> Iterator[None]:
    """Do what is inside as a user whom the modes of files bind: root is somebody else meanwhile."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(0)


class TestFile:
    def test_it_has_its_mode_whatever_the_umask_is(self, address: UnixAddress) -> None:
        """The mode of the file is the one of the setting."""
        before = os.umask(0o077)
        try:
            with opened(address, 0o660, 1):
                found = Path(address.path).stat()
        finally:
            os.umask(before)
        assert (stat.S_ISSOCK(found.st_mode), stat.S_IMODE(found.st_mode)) == (True, 0o660)

    def test_one_of_a_dead_process_is_replaced(self, address: UnixAddress) -> None:
        """A file that nobody listens on is replaced."""
        opened(address, 0o600, 1).close()
        assert Path(address.path).exists()
        assert why_not_usable(address) == ""
        with opened(address, 0o600, 1):
            connected(address).close()

    def test_one_that_somebody_listens_on_is_refused(self, address: UnixAddress) -> None:
        """A live socket is refused, and stays as it is, even if it accepts nobody."""
        text = "another program listens there: stop it, or write another path"
        with opened(address, 0o600, 0) as live:
            waiting = [connected(address)]
            with pytest.raises(CannotListenError) as refused:
                bound_at("listen", address, PortUse.EXCLUSIVE, 0o600)
            assert str(refused.value) == f"listen: cannot listen on {address}: {text}"
            assert why_not_usable(address) == text
            live.accept()[0].close()
        for client in waiting:
            client.close()

    def test_a_file_that_is_no_socket_is_refused_and_kept(self, address: UnixAddress) -> None:
        """A file that is no socket is refused, a link to one too, and nothing of it is removed."""
        text = "a file is there that is no socket: remove it, or write another path"
        file = Path(address.path)
        other = file.with_name("other")
        opened(UnixAddress(str(other)), 0o600, 1).close()
        for make in (lambda: file.write_text("kept"), lambda: file.symlink_to(other)):
            make()
            with pytest.raises(UnusablePathError, match=text):
                opened(address, 0o600, 1)
            assert why_not_usable(address) == text
            file.unlink()
        assert other.exists()

    def test_of_processes_that_begin_at_once_one_listens_and_the_others_are_refused(
        self, tmp_path: Path
    ) -> None:
        """On a path that a dead process has left, and on a new one; no other file stays there."""
        paths = [f"{tmp_path}/{number}.sock" for number in range(200)]
        for path in paths[::2]:
            opened(UnixAddress(path), 0o600, 1).close()
        live = "another program listens there: stop it, or write another path"
        outcomes = race(paths, 4)
        for each in zip(*outcomes, strict=True):
            assert sorted(each) == [("", True), *[(live, False)] * 3]
        assert sorted(str(path) for path in tmp_path.iterdir()) == sorted(paths)

    def test_a_lock_that_a_dead_process_has_left_holds_up_nobody(self, address: UnixAddress) -> None:
        Path(f"{address.path}.lock").touch(0o600)
        with opened(address, 0o600, 1):
            connected(address).close()
        assert [path.name for path in Path(address.path).parent.iterdir()] == ["gateway.sock"]

    def test_a_path_that_another_program_keeps_locked_is_refused(self, address: UnixAddress) -> None:
        text = "another program begins to listen there, and has not done so for 2 s"
        with Path(f"{address.path}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with pytest.raises(UnusablePathError, match=text):
                opened(address, 0o600, 1)
        assert not Path(address.path).exists()

    @pytest.mark.parametrize(
        "make",
        [Path.mkdir, lambda lock: lock.symlink_to("other"), os.mkfifo, opened_at],
        ids=["a folder", "a link", "a FIFO", "a socket"],
    )
    def test_what_is_no_file_in_the_place_of_the_lock_is_refused_and_kept(
        self, address: UnixAddress, make: Callable[[Path], object]
    ) -> None:
        """Of a link, neither the target is made nor locked. `check` says what `serve` would."""
        lock = Path(f"{address.path}.lock")
        make(lock)
        what = f"what is in the place of its lock, {lock}, is no regular file"
        text = f"{what}: remove it, or write another path"
        with pytest.raises(UnusablePathError) as refused:
            opened(address, 0o600, 1)
        assert (str(refused.value), why_not_usable(address)) == (text, text)
        assert [path.name for path in lock.parent.iterdir()] == ["gateway.sock.lock"]

    def test_a_lock_of_another_user_is_refused_and_kept(self) -> None:
        """`check` says what `serve` would."""
        with folder_of_everyone() as folder, unprivileged():
            address = UnixAddress(f"{folder}/gateway.sock")
            lock = Path(f"{address.path}.lock")
            lock.touch()
            lock.chmod(0)
            text = f"another user has the file of its lock, {lock}: remove it, or write another path"
            with pytest.raises(UnusablePathError) as refused:
                opened(address, 0o600, 1)
            assert (str(refused.value), why_not_usable(address)) == (text, text)
            assert list(folder.iterdir()) == [lock]

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can open the files of other users")
    def test_root_takes_no_lock_of_another_user(self, address: UnixAddress) -> None:
        lock = Path(f"{address.path}.lock")
        lock.touch()
        os.chown(lock, 65_534, -1)
        text = f"another user has the file of its lock, {lock}: remove it, or write another path"
        with pytest.raises(UnusablePathError) as refused:
            opened(address, 0o600, 1)
        assert (str(refused.value), why_not_usable(address)) == (text, text)
        assert lock.exists()

    def test_a_free_path_is_usable_and_nothing_is_made(self, address: UnixAddress) -> None:
        assert why_not_usable(address) == ""
        assert list(Path(address.path).parent.iterdir()) == []

    def test_a_folder_that_is_missing_is_named(self, tmp_path: Path) -> None:
        """A path in no folder is refused with what to do."""
        absent = UnixAddress(f"{tmp_path}/absent/x.sock")
        text = "its folder does not exist: create it, or write another path"
        with pytest.raises(UnusablePathError, match=text):
            opened(absent, 0o600, 1)
        assert why_not_usable(absent) == text

    @loops
    def test_a_drain_serves_those_that_wait_and_removes_the_file(
        self, address: UnixAddress, new_loop: Callable[[], asyncio.AbstractEventLoop]
    ) -> None:
        """At a drain nobody can connect any more, and all who have are served; on either event loop."""
        loop = new_loop()

        async def drained() -> None:
            listening = Listener(opened(address, 0o600, 100), Greeting, 4, loop)
            assert listening.address == address
            await listening.start()
            clients = [connected(address) for _ in range(30)]
            await listening.drain()
            assert not Path(address.path).exists()
            found = await asyncio.gather(*(asyncio.to_thread(received, client) for client in clients))
            assert found == [b"hello"] * 30
            listening.close()

        try:
            loop.run_until_complete(drained())
        finally:
            loop.close()

    async def test_the_file_of_a_later_process_is_not_removed(self, address: UnixAddress) -> None:
        """A file that another process has put in its place stays."""
        listening = Listener(opened(address, 0o600, 1), Greeting, 1, asyncio.get_running_loop())
        Path(address.path).unlink()
        with opened(address, 0o600, 1):
            listening.close()
            connected(address).close()


class TestPeers:
    async def test_clients_are_served_beside_those_of_tcp(
        self, start_gateway: Start, address: UnixAddress, upstream: StandInCore, tmp_path: Path
    ) -> None:
        """A client on the socket is a peer called `unix:`, whatever path it has bound."""
        gateway = await start_with(start_gateway, address)
        key = (await gateway.mint("ledgers:read")).key
        assert (await gateway.ask("GET", READ, key=key)).status == 200
        for bound_to in ("", f"{tmp_path}/127.0.0.1"):
            client = await connect(address, bound_to)
            response = await client.ask("GET", READ, key=key, headers=[("X-Forwarded-For", "203.0.113.7")])
            assert response.status == 200
            await client.close()
        seen = [request.values("x-forwarded-for") for request in upstream.requests]
        assert seen == [["127.0.0.1"], ["unix:"], ["unix:"]]
        log = await gateway.logged('"client":"unix:"')
        assert f"{gateway.gateway.address}, {address}" in log

    async def test_they_are_trusted_if_trusted_proxies_says_unix(
        self, start_gateway: Start, address: UnixAddress, upstream: StandInCore
    ) -> None:
        """Peers on the socket name their clients only if `trusted_proxies` has `unix`."""
        gateway = await start_with(start_gateway, address, "unix", ip_network("10.0.0.0/8"))
        key = (await gateway.mint("ledgers:read")).key
        client = await connect(address)
        await client.ask("GET", READ, key=key, headers=[("X-Forwarded-For", "203.0.113.7")])
        await client.close()
        assert upstream.requests[0].values("x-forwarded-for") == ["203.0.113.7, unix:"]
        assert '"client":"203.0.113.7"' in await gateway.logged('"client":"203.0.113.7"')

    async def test_a_key_with_networks_is_refused_from_a_peer_without_an_address(
        self, start_gateway: Start, address: UnixAddress
    ) -> None:
        """An unnamed client on the socket is in no network."""
        store = MemoryKeyStore()
        gateway = await start_gateway(store=store, listen=(Address("127.0.0.1", 0), address))
        minted = await gateway.mint("ledgers:read")
        terms = KeyTerms(allow_from=(read_network("0.0.0.0/0"),))
        await store.revise(minted.id, lambda record: replace(record, terms=terms))
        key = minted.key
        client = await connect(address)
        assert_error(await client.ask("GET", READ, key=key), Code.ADDRESS_DENIED)
        assert (await gateway.ask("GET", READ, key=key)).status == 200
        await client.close()

    async def test_untrusted_peers_share_one_place_of_the_connections(
        self, start_gateway: Start, address: UnixAddress
    ) -> None:
        """A flood on the socket makes room for one client of TCP."""
        gateway = await start_gateway(listen=(Address("127.0.0.1", 0), address), limits={"connections": 3})
        key = (await gateway.mint("ledgers:read")).key
        flood = [await connect(address) for _ in range(3)]
        for client in flood:
            assert (await client.ask("GET", "/health")).status == 200
        assert (await gateway.ask("GET", READ, key=key)).status == 200
        for client in flood:
            await client.close()


class TestProcess:
    async def test_the_file_is_there_from_the_start_to_the_end(
        self, upstream: StandInCore, address: UnixAddress
    ) -> None:
        """`serve` makes the file with its mode, serves on it, and removes it at the end."""
        settings = {"LISTEN": str(address), "LISTEN_MODE": "0600", "DRAIN__DELAY": "0s"}
        async with serving(upstream.url, settings) as process:
            await process.event("ready")
            assert stat.S_IMODE(Path(address.path).stat().st_mode) == 0o600
            client = await connect(address)
            assert (await client.ask("GET", READ, key=MASTER_KEY)).status == 200
            await client.close()
            process.terminate()
            ended = await process.ended()
        assert (ended.code, ended.stderr) == (0, "")
        assert not Path(address.path).exists()


def test_several_processes_cannot_share_a_path(address: UnixAddress) -> None:
    """Linux has no SO_REUSEPORT for Unix sockets."""
    config = shipped_config()
    keys = replace(config.keys, store="redis://127.0.0.1:6379/0")
    assert why_not_shared(replace(config, keys=keys, listen=(address,)), "linux") == (
        "listen names a Unix socket, and Linux gives a path to one process only: write host:port, or a path "
        "of its own for each process without this option"
    )


def test_check_env_names_a_path_that_is_taken(address: UnixAddress) -> None:
    """`check --env` warns of a path that is taken, and leaves its file as it is."""
    environ = {
        "BLNK_MASTER_KEY": MASTER_KEY,
        "BLNK_GATEWAY_LISTEN": str(address),
        "BLNK_GATEWAY_ADMIN": "127.0.0.1:0",
        "BLNK_GATEWAY_KEYS__STORE": "memory://",
    }
    with opened(address, 0o600, 1):
        command = ["check", "--env", "--output", "json", "--config", str(ROOT / "gateway.yaml")]
        done = CliRunner().invoke(cli, command, env=environ)
        texts = json.dumps(json.loads(done.output))
        assert f"listen: cannot listen on {address}: another program listens there" in texts
        connected(address).close()
