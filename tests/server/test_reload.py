"""A configuration that changes while the gateway runs: live whole, or refused whole.

Rules kept here:
- Files are real files, changed as people and machines change them.
- The last test reloads under load; every request is followed from the client to Core.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import random
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gateway.config import Config, ConfigError, load_config, parse_config
from gateway.server.build import build
from gateway.server.parts import Options
from gateway.server.reload import MOST_PROBLEMS, Pace, Reload, ReloadResult, Source, needing_restart
from tests.core_stand_in import StandInCore
from tests.raw_client import RawClient, request
from tests.running import MASTER_KEY, ROOT, Minted, Running, eventually
from tests.serving import SERVE

SHIPPED = (ROOT / "gateway.yaml").read_text(encoding="utf-8")
SMALL = """\
upstream: {url: "http://127.0.0.1:5100", master_key: of-no-one}
keys: {store: "memory://"}
routes:
  GET /ledgers: ledgers:read
"""
OTHER = SMALL + "  GET /balances: balances:read\n"
QUICK = Pace(look=0.02, same=0.15, parse=5.0)
NOW = 1_800_000_000.0


def sha256_of(text: str | bytes) -> str:
    return hashlib.sha256(text.encode() if isinstance(text, str) else text).hexdigest()


def parsed(text: str) -> Config:
    return parse_config(text.encode(), Path("gateway.yaml"), {}, secrets=True)


@dataclass(slots=True)
class Target:
    """A target that keeps the SHA-256 of what it adopted, and every outcome."""

    adopted: list[str] = field(default_factory=list)
    outcomes: list[ReloadResult] = field(default_factory=list)

    def adopt(self, config: Config) -> None:
        self.adopted.append(config.sha256)

    def show_result(self, outcome: ReloadResult) -> None:
        self.outcomes.append(outcome)


@dataclass
class Followed:
    """A file that is followed, what became live, and the outcome of each try."""

    path: Path
    reload: Reload
    target: Target

    async def tried(self, count: int = 1) -> ReloadResult:
        """Wait for `count` tries and no more; return the outcome of the last."""
        await eventually(lambda: len(self.target.outcomes) >= count, f"try number {count}")
        await asyncio.sleep(2 * QUICK.same)
        assert len(self.target.outcomes) == count
        return self.target.outcomes[-1]


@asynccontextmanager
async def following(path: Path, *, pace: Pace = QUICK) -> AsyncIterator[Followed]:
    live = load_config(path, {}, secrets=True)
    target = Target()
    reload = Reload(Source(path, {}), live, target, lambda: NOW, pace=pace)
    task = asyncio.create_task(reload.run())
    try:
        yield Followed(path, reload, target)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "gateway.yaml"
    file.write_text(SMALL, encoding="utf-8")
    return file


def renamed(path: Path, text: str) -> None:
    beside = path.with_suffix(".new")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


def written(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


class TestFollowing:
    @pytest.mark.parametrize("change", [renamed, written])
    async def test_a_changed_file_is_live_by_itself(
        self, path: Path, change: Callable[[Path, str], None]
    ) -> None:
        """A changed file becomes live once, by an atomic rename or a write in place."""
        async with following(path) as followed:
            change(path, OTHER)
            assert await followed.tried() == ReloadResult(NOW, sha256_of(OTHER))
            assert followed.target.adopted == [sha256_of(OTHER)]

    async def test_a_swapped_symlink_is_followed(self, tmp_path: Path) -> None:
        """A symlink that is swapped is followed, as Kubernetes mounts a ConfigMap through `..data`."""
        for version, text in (("..1", SMALL), ("..2", OTHER)):
            (tmp_path / version).mkdir()
            (tmp_path / version / "gateway.yaml").write_text(text, encoding="utf-8")
        data, path = tmp_path / "..data", tmp_path / "gateway.yaml"
        data.symlink_to("..1")
        path.symlink_to("..data/gateway.yaml")
        async with following(path) as followed:
            (tmp_path / "..data_tmp").symlink_to("..2")
            (tmp_path / "..data_tmp").replace(data)
            assert (await followed.tried()).success
            assert followed.target.adopted == [sha256_of(OTHER)]

    async def test_a_file_that_is_still_written_is_left_alone(self, path: Path) -> None:
        """A file that is still being written is not tried."""
        async with following(path) as followed:
            with path.open("w", encoding="utf-8") as file:
                for line in OTHER.splitlines(keepends=True):
                    file.write(line)
                    file.flush()
                    await asyncio.sleep(QUICK.same / 2)
            assert await followed.tried() == ReloadResult(NOW, sha256_of(OTHER))

    async def test_a_broken_file_is_refused_once_and_reported_with_its_lines(self, path: Path) -> None:
        """A broken file is refused once, with its lines, and the old configuration runs on."""
        broken = SMALL + "  GET /ledgers/: nobody\n  GET /x: ledgers:read\n"
        async with following(path) as followed:
            written(path, broken)
            outcome = await followed.tried()
            assert (outcome.success, outcome.sha256, followed.target.adopted) == (
                False,
                sha256_of(broken),
                [],
            )
            assert [problem.partition(": ")[0] for problem in outcome.problems] == [f"{path}:5"]

    async def test_a_repaired_file_is_live_again(self, path: Path) -> None:
        """A file that is repaired is live again, even if its content is what runs already."""
        async with following(path) as followed:
            written(path, "nothing: of ours")
            assert not (await followed.tried(1)).success
            written(path, SMALL)
            assert await followed.tried(2) == ReloadResult(NOW, sha256_of(SMALL))

    async def test_a_file_that_is_gone_is_reported_and_changes_nothing(self, path: Path) -> None:
        async with following(path) as followed:
            path.unlink()
            outcome = await followed.tried(1)
            assert (outcome.sha256, followed.target.adopted) == ("", [])
            assert outcome.problems == (f"{path}: cannot be read: No such file or directory",)
            written(path, OTHER)
            assert (await followed.tried(2)).success

    async def test_a_pipe_in_its_place_is_not_waited_for(self, path: Path) -> None:
        """A pipe in the file's place is not opened, since that would wait for a writer for ever."""
        async with following(path) as followed:
            path.unlink()
            os.mkfifo(path)
            assert (await followed.tried()).problems == (f"{path}: cannot be read: this is no plain file",)

    async def test_a_start_from_a_pipe_is_no_refusal(self, path: Path) -> None:
        """A start from `--config <(...)`, which can be read only once, is not refused afterwards."""
        live = load_config(path, {}, secrets=True)
        path.unlink()
        target = Target()
        reload = Reload(Source(path, {}), live, target, lambda: NOW, pace=QUICK)
        task = asyncio.create_task(reload.run())
        await asyncio.sleep(4 * QUICK.same)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert target.outcomes == []

    async def test_sighup_tries_it_at_once_and_again(self, path: Path) -> None:
        """SIGHUP tries the file at once, and tries again what was tried before."""
        async with following(path, pace=Pace(look=60, same=60)) as followed:
            written(path, OTHER)
            for count in (1, 2):
                followed.reload.ask()
                assert (await followed.tried(count)).success
            assert followed.target.adopted == [sha256_of(OTHER)] * 2

    async def test_a_file_that_takes_too_long_is_refused(self, path: Path) -> None:
        """A file that takes too long to read is refused, and never becomes live."""
        async with following(path, pace=Pace(look=0.02, same=0.15, parse=0.01)) as followed:
            written(path, SMALL + "".join(f"  GET /x{number}: ledgers:read\n" for number in range(2000)))
            outcome = await followed.tried()
            assert outcome.problems == (f"{path}: it takes too long to read: make it smaller",)
            assert followed.target.adopted == []

    async def test_thousands_of_problems_are_reported_in_part(self, path: Path) -> None:
        """Health and log repeat a bounded number of problems."""
        async with following(path) as followed:
            written(path, SMALL + "".join(f"  GET /x{number}: nobody\n" for number in range(1000)))
            problems = (await followed.tried()).problems
            assert (len(problems), problems[-1]) == (MOST_PROBLEMS + 1, f"and {1000 - MOST_PROBLEMS} more")


class TestRestart:
    @pytest.mark.parametrize(
        ("line", "setting"),
        [
            ("listen: 127.0.0.1:7001", "listen"),
            ("admin: 127.0.0.1:7002", "admin"),
            ("health: 127.0.0.1:7003", "health"),
            ("decide: {listen: 127.0.0.1:7004}\ntrusted_proxies: [127.0.0.1]", "decide.listen"),
            ("log: {level: debug}", "log.level"),
            ("listen: unix:/run/x.sock", "listen"),
            ("trusted_proxies: [10.0.0.1]\nproxy_protocol: true", "proxy_protocol"),
        ],
    )
    async def test_what_is_bound_at_the_start_needs_a_restart(
        self, path: Path, line: str, setting: str
    ) -> None:
        """A file that changes what is bound at the start is refused whole, and asks for a restart."""
        async with following(path) as followed:
            written(path, f"{line}\n{OTHER}")
            outcome = await followed.tried()
            assert outcome.problems == (f"{path}: {setting} needs a restart: nothing was changed",)
            assert followed.target.adopted == []

    @pytest.mark.parametrize(
        ("before", "after", "expected"),
        [
            ("memory://", "redis://127.0.0.1/3", ("keys.store",)),
            ("of-no-one", "of-another", ("upstream.master_key",)),
            (":5100", ":5101", ("upstream.url",)),
            ('"memory://"', '"memory://", grace: 5s', ("keys.grace",)),
            ('"memory://"', '"memory://", master: deny, per_owner: 5, prefix: b_', ()),
            ("keys:", "limits: {rate: 5, body: 1KiB}\nkeys:", ()),
            ("keys:", "timeouts: {head: 1s}\nkeys:", ()),
            ("keys:", "decide: {unstamped: allow, connections: 3}\nkeys:", ()),
            ("keys:", "trusted_proxies: [10.0.0.1]\nready_requires: [store]\nkeys:", ()),
            ("keys:", "tracing: {ratio: 0.5}\nkeys:", ()),
            (
                "keys:",
                "tracing: {endpoint: 'http://127.0.0.1:4318/v1/traces'}\nkeys:",
                ("tracing.endpoint",),
            ),
            ("of-no-one", "of-no-one, connections: 3, queue: 4", ()),
            ("of-no-one", "of-no-one, master_key_next_file: next", ()),
        ],
    )
    def test_limits_and_modes_need_no_restart(
        self, before: str, after: str, expected: tuple[str, ...]
    ) -> None:
        """Limits and modes need no restart; any setting that is not named as live does."""
        assert needing_restart(parsed(SMALL), parsed(SMALL.replace(before, after))) == expected

    def test_a_master_key_file_may_be_rotated(self, tmp_path: Path) -> None:
        """A new content of the master key file needs no restart, since it is read again after a refusal."""
        file = tmp_path / "key"
        text = SMALL.replace("master_key: of-no-one", f"master_key_file: {file}")
        found = []
        for key in ("one", "other"):
            file.write_text(key, encoding="utf-8")
            found.append(parsed(text))
        assert needing_restart(*found) == ()


# In a gateway.

ENVIRON = {
    "BLNK_MASTER_KEY": MASTER_KEY,
    "BLNK_GATEWAY_LISTEN": "127.0.0.1:0",
    "BLNK_GATEWAY_ADMIN": "127.0.0.1:0",
    "BLNK_GATEWAY_KEYS__STORE": "memory://",
    "BLNK_GATEWAY_DRAIN__DELAY": "0s",
}


class Reloading(Running):
    """A gateway that follows its file."""

    path: Path

    async def write(self, content: str | bytes) -> dict[str, Any]:
        """Write the file and send SIGHUP; return the outcome."""
        beside = self.path.with_suffix(".new")
        beside.write_bytes(content.encode() if isinstance(content, str) else content)
        beside.replace(self.path)
        before = self.gateway.health.last_reload
        self.gateway.reload()
        await eventually(lambda: self.gateway.health.last_reload is not before, "an outcome")
        return self.gateway.health.last_reload


@pytest.fixture
async def reloading(upstream: StandInCore, path: Path) -> AsyncIterator[Reloading]:
    path.write_text(SHIPPED, encoding="utf-8")
    environ = ENVIRON | {"BLNK_GATEWAY_UPSTREAM__URL": upstream.url}
    config = load_config(path, environ, secrets=True)
    log = io.StringIO()
    gateway = build(config, log, Options(source=Source(path, environ)))
    await gateway.start()
    await gateway.ready()
    running = Reloading(gateway, log, upstream)
    running.path = path
    yield running
    await running.close()
    assert running.leaks() == []


def metric(running: Running, name: str) -> list[str]:
    page, _ = running.gateway.metrics.exposition("")
    return [line for line in page.decode().splitlines() if line.startswith(name)]


WIDER = SHIPPED.replace("  GET /balances/{id}:", "  GET /balances/{id}: [balances:read, ledgers:read] #")


class TestGateway:
    async def test_routes_are_live_from_the_next_request_on(self, reloading: Reloading) -> None:
        """Routes are live for the next request, also on a connection that was open before."""
        key = (await reloading.mint("ledgers:read")).key
        client = await reloading.connect()
        assert (await client.ask("GET", "/balances/x", key=key)).status == 403
        assert (await reloading.write(WIDER))["success"]
        assert (await client.ask("GET", "/balances/x", key=key)).status == 200
        assert (await reloading.write(SHIPPED))["success"]
        assert (await client.ask("GET", "/balances/x", key=key)).status == 403

    async def test_limits_and_modes_are_live(self, reloading: Reloading) -> None:
        """The rate, the size of bodies and the use of the master key are live at once."""
        key = (await reloading.mint("*:*")).key
        assert (await reloading.write(SHIPPED + "\nlimits: {rate: 1, body: 1KiB}\n"))["success"]
        large = b'{"name":"%b"}' % (b"x" * 2000)
        assert (await reloading.ask("POST", "/ledgers", key=key, body=large)).status == 413
        assert (await reloading.ask("GET", "/ledgers", key=key)).status == 429
        assert (await reloading.write(SHIPPED.replace("master: accept", "master: deny")))["success"]
        assert (await reloading.ask("GET", "/ledgers", key=MASTER_KEY)).status == 401
        assert (await reloading.ask("POST", "/ledgers", key=key, body=large)).status == 200

    async def test_the_quota_of_an_owner_is_live(self, reloading: Reloading) -> None:
        """The quota of an owner is live at once, also for an owner that has more keys by then."""
        for _ in range(2):
            await reloading.mint("ledgers:read", owner="acme")
        body = b'{"name":"k","owner":"acme","scopes":[],"expires_at":"2999-01-01T00:00:00Z"}'
        assert (await reloading.write(SHIPPED.replace("master: accept", "master: accept\n  per_owner: 1")))[
            "success"
        ]
        assert (await reloading.ask("POST", "/api-keys", key=MASTER_KEY, body=body)).status == 403
        assert (await reloading.write(SHIPPED))["success"]
        assert (await reloading.ask("POST", "/api-keys", key=MASTER_KEY, body=body)).status == 201

    async def test_the_console_shows_the_differences_from_the_file_before(self, reloading: Reloading) -> None:
        await reloading.write(WIDER)
        async with await reloading.connect(reloading.gateway.admin_address) as client:
            response = await client.call(request("GET", "/console/policy", host="127.0.0.1"))
        policy = response.json()
        changes = [(one["request"], one["kind"]) for one in policy["changes"]]
        assert (policy["sha256"], policy["before"], changes) == (
            sha256_of(WIDER),
            sha256_of(SHIPPED),
            [("GET /balances/{id}", "open to scopes")],
        )

    async def test_what_runs_is_shown_by_its_sha256(self, reloading: Reloading) -> None:
        """Readiness, metrics and log show the same SHA-256 of the live file."""
        await reloading.write(WIDER)
        status, ready = reloading.gateway.health.report()
        live = sha256_of(WIDER)
        assert (status, ready["status"], ready["policy_sha256"]) == (200, "ready", live)
        assert ready["last_reload"] == {
            "success": True,
            "at": reloading.gateway.health.last_reload["at"],
            "sha256": live,
            "problems": [],
        }
        assert metric(reloading, "blnk_gateway_config_l") == [
            "blnk_gateway_config_last_reload_success 1.0",
            metric(reloading, "blnk_gateway_config_last_reload_timestamp_seconds")[0],
            f'blnk_gateway_config_live{{sha256="{live}"}} 1.0',
        ]
        events = [json.loads(line) for line in (await reloading.logged('"reloaded"')).splitlines()]
        assert [event["policy_sha256"] for event in events if event["event"] == "reloaded"] == [live]

    async def test_why_the_last_one_was_refused_is_shown(self, reloading: Reloading) -> None:
        """After a refused file the gateway stays ready by the old policy, and shows the reason everywhere."""
        broken = SHIPPED + "  GET /balances: twice\n"
        live = sha256_of(SHIPPED)
        assert not (await reloading.write(broken))["success"]
        _, ready = reloading.gateway.health.report()
        assert (ready["status"], ready["policy_sha256"]) == ("ready", live)
        last = reloading.gateway.health.last_reload
        assert (last["success"], last["sha256"]) == (False, sha256_of(broken))
        assert metric(reloading, "blnk_gateway_config_last_reload_success") == [
            "blnk_gateway_config_last_reload_success 0.0"
        ]
        (event,) = [
            json.loads(line)
            for line in (await reloading.logged("reload refused")).splitlines()
            if "reload refused" in line
        ]
        assert event == {
            "timestamp": event["timestamp"],
            "level": "error",
            "event": "reload refused",
            "problems": last["problems"],
            "refused_sha256": sha256_of(broken),
            "policy_sha256": live,
        }

    async def test_what_check_warns_of_is_logged_with_each_file_that_is_live(
        self, reloading: Reloading
    ) -> None:
        """The warnings of `check` are logged with each file that becomes live, as of a date in the past."""
        over = '{scope: backup:read, mode: report-only, until: "2001-02-03"}'
        file = SHIPPED.replace("  GET /backup:", f"  GET /backup: {over} #")
        assert (await reloading.write(file))["success"]
        line = file[: file.index("  GET /backup:")].count("\n") + 1
        text = "GET /backup: report-only ended with 2001-02-03, and requests are refused again: remove it"
        events = [json.loads(line) for line in (await reloading.logged('"reloaded"')).splitlines()]
        assert [(each["level"], each["problem"]) for each in events if each["event"] == "configuration"] == [
            ("warning", f"{reloading.path}:{line}: {text}")
        ]

    async def test_without_a_file_nothing_is_followed(self, gateway: Running) -> None:
        """A gateway without a file, as in the demo, ignores SIGHUP."""
        gateway.gateway.reload()
        assert gateway.gateway.health.last_reload["success"] is True


async def test_sighup_reloads_a_process(upstream: StandInCore, path: Path) -> None:
    """SIGHUP reloads a process and does not end it."""
    path.write_text(SHIPPED, encoding="utf-8")
    environ = {name: value for name, value in os.environ.items() if not name.startswith("BLNK_")}
    environ |= ENVIRON | {"BLNK_GATEWAY_UPSTREAM__URL": upstream.url}
    process = await asyncio.create_subprocess_exec(
        os.sys.executable,  # type: ignore[attr-defined]
        *("-c", SERVE, "serve", "--config", str(path)),
        cwd=ROOT,
        env=environ,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(20):
            await _event(process.stdout, "ready")
            path.write_text(WIDER, encoding="utf-8")
            process.send_signal(signal.SIGHUP)
            assert (await _event(process.stdout, "reloaded"))["policy_sha256"] == sha256_of(WIDER)
            path.write_text(SHIPPED, encoding="utf-8")
            assert (await _event(process.stdout, "reloaded"))["policy_sha256"] == sha256_of(SHIPPED)
            process.terminate()
            await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
    assert process.returncode == 0


async def _event(lines: asyncio.StreamReader, name: str) -> dict[str, Any]:
    while line := await lines.readline():
        event: dict[str, Any] = json.loads(line)
        if event["event"] == name:
            return event
    raise AssertionError(f"ended without {name!r}")


# Under load.

RELOADS = 200
TRANSACTION = b'{"amount":1,"precision":100,"meta_data":{"a":1}}'


def refused(content: bytes, environ: Mapping[str, str]) -> bool:
    try:
        parse_config(content, Path("gateway.yaml"), environ, secrets=True)
    except ConfigError:
        return True
    return False


def broken(chance: random.Random, environ: Mapping[str, str]) -> bytes:
    """Return content that is no configuration, in one of the ways that files go wrong."""
    shipped = SHIPPED.encode()
    makers: list[Callable[[], bytes]] = [
        lambda: shipped[: chance.randrange(1, len(shipped))],
        lambda: b"",
        lambda: shipped + b"\nlisten: 127.0.0.1:1\nlisten: 127.0.0.1:2\n",
        lambda: shipped + b"\nunknown_key: 1\n",
        lambda: b"a: &a [x]\n" + b"".join(b"b%d: &b%d [*a, *a]\n" % (n, n) for n in range(20)) + shipped,
        lambda: chance.randbytes(2000),
        lambda: shipped.replace(b"127.0.0.1:6379", b"127.0.0.1:6379\x00"),
    ]
    while True:
        # A file that is cut between two routes is valid: requests of the missing routes are refused.
        content = chance.choice(makers)()
        if refused(content, environ):
            return content


@dataclass
class Load:
    """A client that sends the same round of requests until it is stopped."""

    client: RawClient
    key: Minted
    wrong: list[str] = field(default_factory=list)
    rounds: int = 0

    async def run(self, over: asyncio.Event) -> None:
        while not over.is_set():
            read = await self.client.ask("GET", f"/ledgers/{self.key.id}", key=self.key.key)
            made = await self.client.ask("POST", "/transactions", key=self.key.key, body=TRANSACTION)
            either = await self.client.ask("GET", "/balances/x", key=self.key.key)
            missing = await self.client.ask("GET", "/ledgers/x/y/z", key=self.key.key)
            found = (read.status, made.status, missing.status, either.status)
            if found[:3] != (200, 200, 404) or either.status not in (200, 403):
                self.wrong.append(str(found))
            self.rounds += 1
            await asyncio.sleep(0.005)


async def test_two_hundred_reloads_under_load_lose_misroute_and_unstamp_nothing(
    reloading: Reloading, upstream: StandInCore
) -> None:
    """In 200 reloads under load, half with broken files, the last valid policy decides on every request."""
    chance = random.Random("reload")  # noqa: S311 - for the same files each time
    environ = ENVIRON | {"BLNK_GATEWAY_UPSTREAM__URL": upstream.url}
    keys = [await reloading.mint("ledgers:read", "transactions:write") for _ in range(3)]
    loads = [Load(await reloading.connect(keep=False), key) for key in keys]
    probe = await reloading.connect(keep=False)
    over = asyncio.Event()
    running = [asyncio.create_task(load.run(over)) for load in loads]
    live, wrong = SHIPPED, []
    for number in range(RELOADS):
        sound = number % 2 == 0
        if sound:
            live = WIDER if live == SHIPPED else SHIPPED
        outcome = await reloading.write(live if sound else broken(chance, environ))
        response = await probe.ask("GET", "/balances/x", key=keys[0].key)
        expected = (sound, 200 if live == WIDER else 403, sha256_of(live))
        found = (outcome["success"], response.status, reloading.gateway.health.policy_sha256)
        if found != expected:
            wrong.append((number, found, expected))
    over.set()
    await asyncio.gather(*running)
    assert wrong == []
    assert [load.wrong for load in loads] == [[], [], []]
    assert all(load.rounds > RELOADS / 10 for load in loads)
    made = [request for request in upstream.requests if request.target == "/transactions"]
    assert len(made) == sum(load.rounds for load in loads)
    stamps = [json.loads(request.body)["meta_data"].get("BLNK_GENERATED_BY") for request in made]
    assert {key.id: stamps.count(key.id) for key in keys} == {load.key.id: load.rounds for load in loads}
