"""The commands of the guide for systemd, up to a stamped write, with what the unit gives its processes."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.cli import cli
from tests.addresses import free_ports
from tests.core_stand_in import StandInCore
from tests.deploy.systemd import UNIT, of_instance, settings
from tests.raw_client import RawClient
from tests.redis_server import RedisServer
from tests.running import MASTER_KEY, ROOT
from tests.serving import serving

pytestmark = pytest.mark.redis


def documented() -> list[str]:
    """Return the commands of the first block of the section, which leads to running processes."""
    section = (ROOT / "deploy" / "README.md").read_text().partition("\n### systemd\n")[2]
    block = section.partition("```sh\n")[2].partition("```")[0]
    return re.sub(r" \\\n\s*", " ", block).splitlines()


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder in place of /etc, with what the second command installs."""
    _, install, _ = documented()
    environ = os.environ | {"BLNK_MASTER_KEY": MASTER_KEY}
    here = install.replace("/etc", str(tmp_path))
    subprocess.run(["bash", "-ec", here], cwd=ROOT, env=environ, check=True)
    return tmp_path


def credentials(etc: Path) -> Path:
    """Return a folder with what LoadCredential= copies."""
    folder = etc / "credentials"
    folder.mkdir()
    [(name, _, source)] = [one.partition(":") for one in settings()["LoadCredential"]]
    (folder / name).write_bytes((etc / source.removeprefix("/etc/")).read_bytes())
    return folder


def test_the_last_command_starts_instances_of_the_unit() -> None:
    *_, start = documented()
    assert f"deploy/{UNIT.name} /etc/systemd/system/" in start
    assert start.endswith("systemctl enable --now blnk-gateway@1 blnk-gateway@2")


async def test_what_the_commands_install_serves_a_stamped_write(
    installed: Path, redis_server: RedisServer
) -> None:
    """Only addresses differ; the file that ships and the credential of the master key are as installed."""
    (port,) = free_ports(1)
    file = installed / "blnk-gateway" / "gateway.yaml"
    given = of_instance(1, credentials(installed))
    here = {"LISTEN": f"127.0.0.1:{port}", "KEYS__STORE": redis_server.url, "ADMIN": "127.0.0.1:0"}
    [command] = settings()["ExecStart"]
    assert command.split()[:2] == ["/opt/blnk-gateway/bin/blnk-gateway", "serve"]
    options = command.replace("/etc", str(installed)).split()[2:]
    unit = {name.removeprefix("BLNK_GATEWAY_"): value for name, value in given.items()}
    async with (
        StandInCore(MASTER_KEY) as core,
        serving(core.url, unit | here, command=("env", "-u", "BLNK_MASTER_KEY"), options=options) as running,
    ):
        clients, admin = await running.listening()
        create = "keys create --owner acme --name first --scopes ledgers:* --expires 1d --print-key --config"
        store = {"BLNK_GATEWAY_KEYS__STORE": redis_server.url}
        minted = await asyncio.to_thread(CliRunner().invoke, cli, [*create.split(), str(file)], env=store)
        async with await RawClient.connect(clients) as client:
            key = minted.stdout.strip()
            response = await client.ask("POST", "/ledgers", key=key, body=b'{"name":"First"}')
        ask = ["health", "ready", "--url", f"http://{admin}"]
        health = await asyncio.to_thread(CliRunner().invoke, cli, ask)
    assert (response.status, health.exit_code) == (200, 0)
    [request] = core.requests
    assert json.loads(request.body)["meta_data"]["BLNK_GENERATED_BY"].startswith("api_key_")
