"""The Redis, file and variables that the chart renders, run on this machine up to a stamped write."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gateway.cli import cli
from gateway.config import Address
from gateway.server.store_watch import EMPTY
from tests.core_stand_in import StandInCore
from tests.deploy.containers import SECRET, environment
from tests.deploy.helm import Helm, Manifest, container_of, only
from tests.deploy.values import AUDITED
from tests.deploy.volumes import update
from tests.raw_client import PATIENCE, RawClient
from tests.redis_server import RedisServer, free_port
from tests.running import MASTER_KEY, ROOT
from tests.serving import Serving, serving

pytestmark = [pytest.mark.helm, pytest.mark.redis]

POD = "10.1.2.3"  # the kubelet and Prometheus connect to the address of the pod


@pytest.fixture
def manifests(helm: Helm) -> list[Manifest]:
    return helm.render(AUDITED)


@pytest.fixture
def redis(manifests: list[Manifest], tmp_path: Path) -> Iterator[RedisServer]:
    """The bundled Redis, started by the script of its container."""
    if shutil.which("redis-server") is None:
        pytest.skip("no redis-server is installed")
    container = container_of(manifests, "StatefulSet", "gw-blnk-gateway-redis")
    [script] = container["args"]
    (tmp_path / "data").mkdir()
    port = free_port()
    here = script.replace("/data", str(tmp_path / "data")).replace("/run/redis", str(tmp_path))
    process = subprocess.Popen(
        [*container["command"], f"{here.rstrip()} --port {port} --bind 127.0.0.1"],
        env=os.environ | environment(container),
        stdout=subprocess.DEVNULL,
    )
    server = RedisServer(port, process)
    assert server.answers()
    yield server
    server.kill()


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """An empty folder, for the ConfigMap."""
    folder = tmp_path / "config"
    folder.mkdir()
    return folder


def file_of(manifests: list[Manifest]) -> str:
    """Return gateway.yaml, as the ConfigMap has it."""
    return str(only(manifests, "ConfigMap")["data"]["gateway.yaml"])


def settings(manifests: list[Manifest], redis: RedisServer, folder: Path) -> dict[str, str]:
    """Return the variables of the gateway, with places of this machine instead of those of the cluster."""
    container = container_of(manifests, "Deployment")
    (folder / "master-key").write_text(SECRET["master-key"])
    environ = {
        name: value.replace("gw-blnk-gateway-redis:6379", f"127.0.0.1:{redis.port}").replace(
            "/run/secrets/blnk-gateway", str(folder)
        )
        for name, value in environment(container).items()
        if name.startswith("BLNK_GATEWAY_") and not name.endswith("UPSTREAM__URL")
    }
    ports = {"LISTEN": 0, "ADMIN": 0, "HEALTH": free_port()}
    return environ | {f"BLNK_GATEWAY_{name}": f"127.0.0.1:{port}" for name, port in ports.items()}


@dataclass(frozen=True, slots=True)
class InPod:
    """A running gateway with the variables and the file of its pod."""

    process: Serving
    environ: dict[str, str]
    clients: Address

    @property
    def health(self) -> Address:
        """The address that the kubelet asks."""
        host, _, port = self.environ["BLNK_GATEWAY_HEALTH"].rpartition(":")
        return Address(host, int(port))


@pytest.fixture
async def running(
    upstream: StandInCore, manifests: list[Manifest], redis: RedisServer, volume: Path, tmp_path: Path
) -> AsyncIterator[InPod]:
    update(volume, {"gateway.yaml": file_of(manifests).encode()})
    environ = settings(manifests, redis, tmp_path) | {"BLNK_GATEWAY_UPSTREAM__URL": upstream.url}
    given = {name.removeprefix("BLNK_GATEWAY_"): value for name, value in environ.items()}
    file = str(volume / "gateway.yaml")
    async with serving(upstream.url, given, options=("--config", file)) as process:
        clients, _ = await process.listening()
        await process.event("ready")
        yield InPod(process, environ, clients)


async def get(address: Address, path: str) -> tuple[int, Any]:
    """Ask for a path as the kubelet does; return the status and the JSON body."""
    async with await RawClient.connect(address) as client:
        response = await client.ask("GET", path, host=f"{POD}:5003")
    return response.status, json.loads(response.body)


async def minted(running: InPod, volume: Path) -> str:
    """Return a key that is minted by a command in the pod."""
    command = ["keys", "create", "--owner", "acme", "--scopes", "ledgers:write", "--expires", "1d"]
    options = ["--print-key", "--config", str(volume / "gateway.yaml")]
    result = await asyncio.to_thread(CliRunner().invoke, cli, [*command, *options], env=running.environ)
    return result.stdout.strip()


async def warnings(address: Address) -> list[str]:
    """Return the warnings of the health page, once the store was checked; an empty store is one of them."""
    async with asyncio.timeout(PATIENCE):
        while not (found := (await get(address, "/health/ready"))[1]["warnings"]):
            await asyncio.sleep(0.02)
    return list(found)


async def test_the_first_write_is_stamped(running: InPod, upstream: StandInCore, volume: Path) -> None:
    """The probes find the gateway ready, and a key that is minted in the pod creates a stamped ledger."""
    assert [(await get(running.health, f"/health/{what}"))[0] for what in ("alive", "ready")] == [200, 200]
    # No setting of this Redis could lose a key.
    assert await warnings(running.health) == [EMPTY]
    key = await minted(running, volume)
    async with await RawClient.connect(running.clients) as client:
        json_type = [("Content-Type", "application/json")]
        response = await client.ask("POST", "/ledgers", key=key, headers=json_type, body=b'{"name":"main"}')
    assert response.status == 200
    [request] = upstream.requests
    body = json.loads(request.body)
    assert body["meta_data"]["BLNK_GENERATED_BY"].startswith("api_key_")
    assert MASTER_KEY in str(request.headers)


async def test_an_update_of_the_volume_is_live_without_a_restart(
    running: InPod, manifests: list[Manifest], volume: Path
) -> None:
    """The gateway follows the link that kubelet renames."""
    _, before = await get(running.health, "/health/ready")
    update(volume, {"gateway.yaml": f"{file_of(manifests)}  GET /new: master\n".encode()})
    async with asyncio.timeout(PATIENCE):
        await running.process.event("reloaded")
    _, after = await get(running.health, "/health/ready")
    assert after["policy_sha256"] != before["policy_sha256"]
    assert after["last_reload"]["success"] is True


def test_nobody_else_can_use_the_bundled_redis(redis: RedisServer) -> None:
    """The default user is off, and the password of the Secret is not in the arguments of the process."""
    assert redis.command("GET", "{blnk-gateway}:x").startswith(b"-NOAUTH")
    arguments = Path(f"/proc/{redis.process.pid}/cmdline").read_bytes()
    assert SECRET["redis-password"].encode() not in arguments


def test_the_probe_of_the_bundled_redis_finds_it_ready(manifests: list[Manifest], redis: RedisServer) -> None:
    """It logs in as the gateway's user, and notices a wrong password."""
    container = container_of(manifests, "StatefulSet", "gw-blnk-gateway-redis")
    *shell, probe = container["readinessProbe"]["exec"]["command"]
    here = [*shell, probe.replace("redis-cli", f"redis-cli -p {redis.port}")]
    environ = os.environ | environment(container)
    assert subprocess.run(here, env=environ, check=False).returncode == 0
    wrong = environ | {"REDISCLI_AUTH": "wrong"}
    assert subprocess.run(here, env=wrong, check=False, capture_output=True).returncode == 1


async def test_the_audit_shipper_prints_each_entry_and_goes_on_where_it_stopped(
    running: InPod, manifests: list[Manifest], redis: RedisServer, volume: Path
) -> None:
    """The next pod prints no entry again; the Redis of the chart is all that it needs."""
    container = container_of(manifests, "Deployment", "gw-blnk-gateway-audit")
    environ = {
        name: value.replace("gw-blnk-gateway-redis:6379", f"127.0.0.1:{redis.port}")
        for name, value in environment(container).items()
    }
    command = [sys.executable, "-m", "gateway", *container["args"]]

    async def shipped_until(kind: str) -> list[dict[str, Any]]:
        process = await asyncio.create_subprocess_exec(
            *command, env={"PATH": os.environ["PATH"], **environ}, cwd=ROOT, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        entries: list[dict[str, Any]] = []
        async with asyncio.timeout(PATIENCE):
            while kind not in [entry["kind"] for entry in entries]:
                entries.append(json.loads(await process.stdout.readline()))
            process.terminate()
            entries += map(json.loads, (await process.stdout.read()).splitlines())
            assert await process.wait() == 0
        return entries

    first = await shipped_until("gateway_started")
    await minted(running, volume)
    second = await shipped_until("key_created")
    assert {entry["id"] for entry in first}.isdisjoint(entry["id"] for entry in second)
