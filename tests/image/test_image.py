"""The image: built from its Dockerfile, started as its configuration says, asked for its health, stopped."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.addresses import free_ports
from tests.core_stand_in import StandInCore
from tests.image.buildah import Builder, Image
from tests.raw_client import PATIENCE
from tests.running import MASTER_KEY

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

USER = 10001


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    builder = Builder(tmp_path_factory.mktemp("image"))
    try:
        builder.make_base()
        yield builder.build("deploy/Dockerfile", "blnk-gateway")
    finally:
        builder.close()


def environment(image: Image, **settings: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in image.config["Env"]) | settings


@asynccontextmanager
async def running(image: Image, *command: str, **settings: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a command of the image in its file system, in its working directory and as its user."""

    def enter() -> None:
        os.chroot(image.root)
        os.chdir(image.config["WorkingDir"])
        os.setgroups([])
        os.setgid(USER)
        os.setuid(USER)

    process = await asyncio.create_subprocess_exec(
        *("/usr/bin/env", *image.config["Entrypoint"], *command),
        env=environment(image, **settings),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        preexec_fn=enter,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def output(image: Image, *command: str, **settings: str) -> tuple[int | None, str]:
    async with running(image, *command, **settings) as process:
        out, err = await process.communicate()
        return process.returncode, (out + err).decode()


def test_it_starts_serve_as_a_user_without_privileges(image: Image) -> None:
    names = ("User", "Entrypoint", "Cmd", "WorkingDir")
    assert {name: image.config[name] for name in names} == {
        "User": f"{USER}:{USER}",
        "Entrypoint": ["blnk-gateway"],
        "Cmd": ["serve"],
        "WorkingDir": "/etc/blnk-gateway",
    }
    assert image.config["Healthcheck"]["Test"] == ["CMD", "blnk-gateway", "health", "ready"]


def test_its_user_can_change_nothing_of_the_gateway(image: Image) -> None:
    """No file of the gateway or of its configuration belongs to its user, or can be written by others."""

    def is_writable(path: Path) -> bool:
        found = path.lstat()
        return found.st_uid == USER or bool(found.st_mode & stat.S_IWOTH and not path.is_symlink())

    folders = [image.root / "opt", image.root / "etc/blnk-gateway"]
    assert [path for folder in folders for path in [folder, *folder.rglob("*")] if is_writable(path)] == []


def test_it_has_neither_a_compiler_nor_the_build(image: Image) -> None:
    assert [
        path for path in ("usr/bin/gcc", "src", "wheels", "opt/build") if (image.root / path).exists()
    ] == []


async def test_it_is_compiled(image: Image) -> None:
    code, told = await output(image, "--version")
    assert (code, told.split()[-1]) == (0, "(compiled)")


async def test_its_own_configuration_has_no_problem(image: Image) -> None:
    code, told = await output(image, "check", BLNK_MASTER_KEY=MASTER_KEY)
    assert code == 0, told


async def test_it_serves_is_healthy_and_ends_at_sigterm(image: Image) -> None:
    """The container starts, its own health command finds it ready, and SIGTERM ends it with 0."""
    listen, admin = free_ports(2)
    async with StandInCore(MASTER_KEY) as core:
        settings = {
            "BLNK_MASTER_KEY": MASTER_KEY,
            "BLNK_GATEWAY_LISTEN": f"127.0.0.1:{listen}",
            "BLNK_GATEWAY_ADMIN": f"127.0.0.1:{admin}",
            "BLNK_GATEWAY_UPSTREAM__URL": f"http://127.0.0.1:{core.port}",
            "BLNK_GATEWAY_KEYS__STORE": "memory://",
            "BLNK_GATEWAY_DRAIN__DELAY": "0s",
        }
        async with running(image, "serve", **settings) as process, asyncio.timeout(6 * PATIENCE):
            while (await output(image, "health", "ready", **settings))[0] != 0:
                assert process.returncode is None, await process.communicate()
            process.send_signal(signal.SIGTERM)
            out, _ = await process.communicate()
        assert process.returncode == 0
        assert b'"event":"listening"' in out
