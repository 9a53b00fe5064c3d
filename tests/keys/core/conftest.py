"""A real PostgreSQL with Core's table of keys.

Rules kept here:
- The test session has a cluster of its own, in a temporary folder and on a free loopback port.
- If the tests run as root, PostgreSQL runs as the user `postgres`, because it refuses to run as root.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import bcrypt
import pytest

from gateway.keys.minting import mint_id, mint_key

COST = 4  # bcrypt's lowest cost; Core uses 10
TABLE = """
CREATE SCHEMA blnk;
CREATE TABLE blnk.api_keys (
    id SERIAL PRIMARY KEY,
    api_key_id TEXT NOT NULL UNIQUE,
    key TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    owner_id TEXT NOT NULL,
    scopes TEXT[] NOT NULL DEFAULT '{}',
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW(),
    last_used_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW(),
    is_revoked BOOLEAN NOT NULL DEFAULT FALSE,
    revoked_at TIMESTAMP WITH TIME ZONE,
    key_prefix VARCHAR(16)
);
CREATE INDEX ON blnk.api_keys (key_prefix);
CREATE ROLE reader LOGIN;
GRANT USAGE ON SCHEMA blnk TO reader;
GRANT SELECT ON blnk.api_keys TO reader;
CREATE ROLE stranger LOGIN;
"""


def program(name: str) -> str | None:
    """Return the path of a program of PostgreSQL; Debian does not put them on the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)
    return shutil.which(name) or (str(found[0]) if found else None)


def unprivileged() -> dict[str, Any]:
    """Return arguments for `subprocess` with which a program of PostgreSQL does not run as root."""
    if os.geteuid() != 0:
        return {}
    user = pwd.getpwnam("postgres")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


@dataclass(slots=True)
class Postgres:
    """A cluster of the test session."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    def url(self, user: str = "reader", database: str = "blnk") -> str:
        return f"postgres://{user}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start the cluster, and wait until it accepts connections."""
        server = program("postgres")
        assert server is not None
        options = {"fsync": "off", "listen_addresses": "127.0.0.1", "unix_socket_directories": ""}
        command = [server, "-D", str(self.folder), "-p", str(self.port)]
        command += [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            **unprivileged(),
        )
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and self.process.poll() is None:
            if self.answers():
                return
            time.sleep(0.02)
        pytest.fail("postgres did not start")

    def answers(self) -> bool:
        """Return whether it accepts connections; after a start that takes a while."""
        asked = [program("pg_isready") or "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(asked, check=False).returncode == 0

    def stop(self) -> None:
        """Stop it at once, with every connection to it."""
        if self.process is not None:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait(timeout=20)
            self.process = None

    @contextmanager
    def down(self) -> Iterator[None]:
        """Stop the server for a while, so that its port refuses connections."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    @contextmanager
    def stalled(self) -> Iterator[None]:
        """Suspend every process of the cluster, as if a link dropped packets."""
        assert self.process is not None
        stopped = [self.process.pid, *child_pids(self.process.pid)]
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)


def child_pids(pid: int) -> list[int]:
    listed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], check=False, capture_output=True, text=True
    )
    return [int(word) for word in listed.stdout.split()]


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """Yield a cluster on which every client from loopback may log in as any user."""
    initdb = program("initdb")
    if initdb is None or program("postgres") is None:
        pytest.skip("no PostgreSQL is installed")
    # Other users may not enter the folder of pytest.
    parent = Path(tempfile.mkdtemp(prefix="blnk-gateway-postgres-"))
    if os.geteuid() == 0:
        shutil.chown(parent, "postgres")
    folder = parent / "data"
    command = [initdb, "--pgdata", str(folder), "--auth", "trust", "--username", "postgres"]
    subprocess.run(
        [*command, "--no-sync", "--encoding", "UTF8"], check=True, capture_output=True, **unprivileged()
    )
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    cluster = Postgres(folder, port)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(parent, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class CoreKey:
    """A key that Core created, as its owner has it."""

    key: str = field(repr=False)
    id: str
    owner: str


@dataclass(frozen=True, slots=True)
class Table:
    """Core's table, and changes to it as Core or an operator makes them."""

    pool: asyncpg.Pool[asyncpg.Record]

    async def mint(self, *scopes: str, owner: str = "acme", cost: int = COST) -> CoreKey:
        """Insert a new key into the table as the API of Core does."""
        key, key_id = mint_key(os.urandom), mint_id(os.urandom)
        await self.insert(key, key_id, scopes, owner, cost)
        return CoreKey(key, key_id, owner)

    async def insert(
        self, key: str, key_id: str, scopes: tuple[str, ...], owner: str, cost: int = COST
    ) -> None:
        await self.pool.execute(
            "INSERT INTO blnk.api_keys (api_key_id, key, key_prefix, name, owner_id, scopes, expires_at)"
            " VALUES ($1, $2, $3, 'n', $4, $5, '2999-01-02T03:04:05Z')",
            key_id,
            hashed(key, cost),
            key[:16],
            owner,
            scopes,
        )

    async def revoke(self, key_id: str, owner: str) -> bool:
        """Revoke a key as the API of Core does; return False if the owner has no key with this id."""
        done: str = await self.pool.execute(
            "UPDATE blnk.api_keys SET is_revoked = true, revoked_at = now()"
            " WHERE api_key_id = $1 AND owner_id = $2",
            key_id,
            owner,
        )
        return done == "UPDATE 1"

    async def change(self, key: CoreKey, what: str) -> None:
        """Set columns of a row: `change(key, "is_revoked = true")`."""
        await self.pool.execute(f"UPDATE blnk.api_keys SET {what} WHERE api_key_id = $1", key.id)  # noqa: S608

    async def delete(self, key: CoreKey) -> None:
        await self.pool.execute("DELETE FROM blnk.api_keys WHERE api_key_id = $1", key.id)

    async def value(self, key: CoreKey, column: str) -> Any:
        query = f"SELECT {column} FROM blnk.api_keys WHERE api_key_id = $1"  # noqa: S608
        return await self.pool.fetchval(query, key.id)


def hashed(key: str, cost: int = COST) -> str:
    return bcrypt.hashpw(key.encode(), bcrypt.gensalt(cost, b"2a")).decode()


@pytest.fixture
async def table(postgres: Postgres) -> AsyncIterator[Table]:
    """Yield Core's table in a database that only this test uses."""
    admin = await asyncpg.connect(postgres.url("postgres", "postgres"))
    await admin.execute("DROP DATABASE IF EXISTS blnk WITH (FORCE)")
    await admin.execute("DROP ROLE IF EXISTS reader")
    await admin.execute("DROP ROLE IF EXISTS stranger")
    await admin.execute("CREATE DATABASE blnk")
    await admin.close()
    # The stand-in of Core and the test use the table at the same time.
    pool = await asyncpg.create_pool(postgres.url("postgres"), min_size=1, max_size=4)
    await pool.execute(TABLE)
    yield Table(pool)
    # Its connections may be broken, because a test may have restarted the cluster.
    pool.terminate()
