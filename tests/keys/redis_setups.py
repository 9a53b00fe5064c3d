"""Real Redis servers on loopback, as teams run them: with replicas, Sentinels, a Cluster, or TLS."""

from __future__ import annotations

import contextlib
import re
import shutil
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.keys.redis.names import PREFIX
from tests import redis_acl
from tests.redis_server import RedisServer, free_port, start_redis

PATIENCE = 20.0
# By default, a primary waits 5 s for more replicas before it sends the first one its copy.
_PERSISTS = ("--appendonly", "yes", "--appendfsync", "always", "--repl-diskless-sync-delay", "0")
SERVICE = "keys"


def until(holds: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
    """Wait until `holds` returns True; after `patience` seconds fail with `what`."""
    deadline = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < deadline, f"never came: {what}"
        time.sleep(0.02)


@dataclass(frozen=True, slots=True)
class Replicated:
    """A primary and its replica; a failover makes the replica the primary."""

    primary: RedisServer
    replica: RedisServer

    @property
    def joined(self) -> bool:
        """Return whether the replica has acknowledged a write; `state=online` alone does not say so."""
        name = f"{PREFIX}joined"
        self.primary.command("SET", name, "yes")
        self.primary.command("DEL", name)
        info = self.primary.command("INFO", "replication")
        # The offset is 0 until the first acknowledgement, and at most one second old after that.
        acknowledged = re.search(rb"state=online,offset=(\d+)", info)
        return acknowledged is not None and int(acknowledged[1]) > 0

    def promoted(self) -> bool:
        """Return whether the replica is a primary now; a Sentinel that promotes it closes its connections."""
        try:
            return b"role:master" in self.replica.command("INFO", "replication")
        except OSError:
            return False


@contextlib.contextmanager
def replicated(folder: Path, *options: str) -> Iterator[Replicated]:
    """Start a primary that persists, and a replica that has all its data."""
    with contextlib.ExitStack() as stack:
        primary = _started(stack, folder / "primary", *_PERSISTS, *options)
        replica = stack.enter_context(replica_of(folder / "replica", primary, *options))
        pair = Replicated(primary, replica)
        until(lambda: pair.joined, "a replica that is in sync")
        yield pair


@contextlib.contextmanager
def replica_of(folder: Path, primary: RedisServer, *options: str) -> Iterator[RedisServer]:
    """Start one more replica, which may still wait for its copy of the data."""
    with contextlib.ExitStack() as stack:
        following = ("--appendonly", "yes", "--replicaof", "127.0.0.1", str(primary.port))
        yield _started(stack, folder, *following, *options)


@dataclass(frozen=True, slots=True)
class Sentinels:
    """Three Sentinels that monitor one primary."""

    ports: tuple[int, ...]
    servers: tuple[RedisServer, ...]

    @property
    def url(self) -> str:
        places = [f"127.0.0.1:{port}" for port in self.ports]
        return redis_acl.url(*places, scheme="redis+sentinel", path=f"/{SERVICE}/0")

    def name(self, port: int) -> bool:
        """Return whether every running Sentinel names this port as the primary's."""
        asked = [
            server.command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
            for server in self.servers
            if server.process.poll() is None
        ]
        return all(b"\r\n%d\r\n" % port in response for response in asked)


@contextlib.contextmanager
def sentinels(folder: Path, primary_port: int, *, replicas: int = 1) -> Iterator[Sentinels]:
    """Start three Sentinels that know each other and the replicas; they fail over after 0.5 s."""
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        servers = [_sentinel(stack, folder / f"sentinel-{number}.conf", primary_port) for number in range(3)]
        watching = Sentinels(tuple(server.port for server in servers), tuple(servers))

        def known(server: RedisServer) -> bool:
            info = server.command("SENTINEL", "MASTER", SERVICE)
            return b"num-slaves\r\n$1\r\n%d" % replicas in info and b"num-other-sentinels\r\n$1\r\n2" in info

        until(lambda: all(map(known, servers)), "Sentinels that know each other")
        yield watching


def _sentinel(stack: contextlib.ExitStack, file: Path, primary_port: int) -> RedisServer:
    port = free_port()
    file.write_text(
        f"port {port}\nbind 127.0.0.1\n"
        f"sentinel monitor {SERVICE} 127.0.0.1 {primary_port} 2\n"
        f"sentinel down-after-milliseconds {SERVICE} 500\n"
        f"sentinel failover-timeout {SERVICE} 3000\n"
    )
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        pytest.skip("no redis-server is installed")
    process = subprocess.Popen(
        [program, str(file), "--sentinel"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    server = RedisServer(port, process)
    stack.callback(server.kill)
    assert server.answers()
    return server


@dataclass(frozen=True, slots=True)
class Cluster:
    """Primaries of a Redis Cluster: `ours` has the slot of the gateway's keys, and a replica."""

    others: tuple[RedisServer, ...]
    ours: RedisServer
    replica: RedisServer

    @property
    def other(self) -> RedisServer:
        """A node that does not have the slot."""
        return self.others[0]

    @property
    def url(self) -> str:
        """A URL with the address of a node that does not have the slot."""
        return redis_acl.url(f"127.0.0.1:{self.other.port}", scheme="redis+cluster", path="")

    def fail_over(self) -> None:
        """Make the replica the primary of the slot; start another election if one fails."""
        promoted = Replicated(self.ours, self.replica).promoted
        again = 0.0

        def done() -> bool:
            nonlocal again
            if not promoted() and time.monotonic() > again:
                self.replica.command("CLUSTER", "FAILOVER")
                again = time.monotonic() + 6
            return promoted()

        until(done, "a promotion", 3 * PATIENCE)


@contextlib.contextmanager
def cluster(folder: Path, slot: int, *, others: int = 1, node_timeout: int = 2000) -> Iterator[Cluster]:
    """Start a whole Cluster; with `others=2` it fails over by itself, `node_timeout` ms after a failure."""
    options = ("--cluster-enabled", "yes", "--cluster-node-timeout", str(node_timeout), *_PERSISTS)
    with contextlib.ExitStack() as stack:
        names = [*(f"other-{number}" for number in range(others)), "ours", "replica"]
        nodes = [_started(stack, folder / name, *options) for name in names]
        *rest, ours, replica = nodes
        _assign_slots(rest, slot)
        assert ours.command("CLUSTER", "ADDSLOTS", str(slot)) == b"+OK\r\n"
        for number, node in enumerate(nodes):
            node.command("CLUSTER", "SET-CONFIG-EPOCH", str(number + 1))
        for node in nodes[1:]:
            node.command("CLUSTER", "MEET", "127.0.0.1", str(rest[0].port))
        until(lambda: _all_report(nodes, b"known_nodes:%d" % len(nodes)), "nodes that met")
        ours_id = ours.command("CLUSTER", "MYID").split(b"\r\n")[1]
        until(lambda: replica.command("CLUSTER", "REPLICATE", ours_id) == b"+OK\r\n", "a replica")
        whole = Cluster(tuple(rest), ours, replica)
        until(lambda: _all_report(nodes, b"cluster_state:ok"), "a whole Cluster")
        until(lambda: Replicated(ours, replica).joined, "a replica that is in sync")
        yield whole


def _assign_slots(nodes: Sequence[RedisServer], left_out: int) -> None:
    """Assign every slot but one to the nodes: only a node that has slots may vote in a failover."""
    slots = [slot for slot in range(16384) if slot != left_out]
    for number, node in enumerate(nodes):
        taken = map(str, slots[number :: len(nodes)])
        assert node.command("CLUSTER", "ADDSLOTS", *taken) == b"+OK\r\n"


@dataclass(frozen=True, slots=True)
class Certificates:
    """A certificate authority, and a certificate that it signed."""

    authority: Path
    certificate: Path
    key: Path

    def options(self, port: int) -> tuple[str, ...]:
        """Return the options that make a redis-server accept TLS at `port` without a client certificate."""
        return (
            *("--tls-port", str(port), "--tls-auth-clients", "no", "--tls-ca-cert-file", str(self.authority)),
            *("--tls-cert-file", str(self.certificate), "--tls-key-file", str(self.key)),
        )


def certificates(folder: Path, name: str = "IP:127.0.0.1") -> Certificates:
    """Make a new authority and a certificate with openssl; `name` is the subject alternative name."""
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("no openssl is installed")
    made = Certificates(folder / "ca.pem", folder / "redis.pem", folder / "redis.key")
    new = [program, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    # Since Python 3.13, an authority without a key usage is not trusted (ssl.VERIFY_X509_STRICT).
    usage = ["-addext", "keyUsage=critical,keyCertSign,cRLSign"]
    authority = ["-subj", "/CN=tests", *usage, "-keyout", str(folder / "ca.key"), "-out", str(made.authority)]
    subprocess.run([*new, *authority], check=True, capture_output=True)
    signed = ["-CA", str(made.authority), "-CAkey", str(folder / "ca.key"), "-keyout", str(made.key)]
    names = ["-subj", "/CN=of-the-tests", "-addext", f"subjectAltName={name}", "-addext"]
    leaf = [*new, *signed, *names, "basicConstraints=critical,CA:FALSE", "-out", str(made.certificate)]
    subprocess.run(leaf, check=True, capture_output=True)
    assert ssl.create_default_context(cafile=made.authority)
    return made


def _all_report(nodes: list[RedisServer], words: bytes) -> bool:
    return all(words in node.command("CLUSTER", "INFO") for node in nodes)


def _started(stack: contextlib.ExitStack, folder: Path, *options: str) -> RedisServer:
    folder.mkdir(parents=True, exist_ok=True)
    server = start_redis(folder, *options)
    stack.callback(server.kill)
    return server
