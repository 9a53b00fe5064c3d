"""The fixtures of every test: a Core that records, a gateway in front of it, keys and stores.

Rules kept here:
- When a gateway is closed, its log and its clients' bytes are searched for secrets.
- With `--need-servers` a skipped test that needs a real server is a failure, so that CI cannot pass without.
- Slow tests run only where `-m` names them.
- No collection of garbage looks through the objects of the whole suite. What a module of tests leaves open is
  reported in the next module, or at the end of the run.
- Hypothesis has two profiles: `fast`, and `deep` with `HYPOTHESIS_PROFILE=deep` or
  `--hypothesis-profile=deep`. A test states its examples for `fast` with `examples`; `deep` makes them
  twenty times as many.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator, Mapping
from contextlib import AsyncExitStack
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, settings

from gateway.cli import cli
from gateway.keys.memory_store import MemoryKeyStore
from gateway.keys.redis.store import RedisKeyStore
from gateway.keys.store import KeyStore
from tests.core_stand_in import StandInCore
from tests.redis_server import RedisServer, start_redis
from tests.running import MASTER_KEY, ROOT, Minted, Running, start

# Markers of tests that need a real program.
SERVERS = ("redis", "postgres", "systemd", "nginx", "helm", "prometheus", "groff", "chromium")

_FAST_EXAMPLES = 100
_UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
settings.register_profile("fast", _UNTIMED, max_examples=_FAST_EXAMPLES)
settings.register_profile("deep", _UNTIMED, max_examples=_FAST_EXAMPLES * 20)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))
_UNHURRIED = pytest.mark.timeout(0)

Start = Callable[..., Awaitable[Running]]
Mint = Callable[..., Awaitable[Minted]]
Keys = Callable[..., Result]
Stored = Callable[[Callable[[KeyStore], Any]], Any]
SHIPPED = str(ROOT / "gateway.yaml")


def examples(fast: int) -> settings:
    """Return the settings of a property test that takes `fast` examples, and more in a deep run."""
    return settings(max_examples=fast * settings().max_examples // _FAST_EXAMPLES)


def pytest_configure() -> None:
    """Let processes that tests start hear signals which a script's background job or `nohup` ignores."""
    for number, default in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, default)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--need-servers", action="store_true", help="a skipped test that needs a real server is a failure"
    )
    parser.addoption("--compiled", action="store_true", help="the installed gateway has to be a compiled one")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if settings().max_examples > _FAST_EXAMPLES:
        for item in items:
            item.add_marker(_UNHURRIED)
    if "slow" in config.option.markexpr:
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in set(slow)]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    needs = [name for name in SERVERS if item.get_closest_marker(name)]
    if report.skipped and needs and item.config.getoption("--need-servers"):
        report.outcome = "failed"
        report.longrepr = f"skipped, although --need-servers was given: needs {', '.join(needs)}"
    return report


@pytest.fixture(scope="session", autouse=True)
def everything_collected() -> Iterator[None]:
    """Show the collector in the end what `frozen_objects` hid: what was left open is a warning then."""
    yield
    gc.unfreeze()


@pytest.fixture(scope="module", autouse=True)
def frozen_objects() -> None:
    """Hide from the garbage collector what there is before a module of tests.

    Late in a run these are 600,000 objects. Looking through them stops a gateway in this process for half a
    second, and some tests measure less than that.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture
async def upstream() -> AsyncIterator[StandInCore]:
    """A stand-in for Core that records."""
    async with StandInCore(MASTER_KEY) as recording:
        yield recording


@pytest.fixture
async def start_gateway(upstream: StandInCore) -> AsyncIterator[Start]:
    """Return a function that starts gateways: `await start_gateway(timeouts={"head": 0.3})`."""
    started: list[Running] = []
    async with AsyncExitStack() as stack:

        async def begin(
            *, ready: bool = True, store: KeyStore | None = None, **changes: Mapping[str, Any]
        ) -> Running:
            running = await start(upstream, ready=ready, store=store, **changes)
            started.append(running)
            stack.push_async_callback(running.close)
            return running

        yield begin
    assert [leak for running in started for leak in running.leaks()] == []


@pytest.fixture
async def gateway(start_gateway: Start) -> Running:
    """The shipped gateway, ready, in front of `upstream`."""
    return await start_gateway()


@pytest.fixture
def mint(gateway: Running) -> Mint:
    """Return a function that mints keys of `gateway`: `await mint("ledgers:read", owner="acme")`."""
    return gateway.mint


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = start_redis(tmp_path_factory.mktemp("redis"))
    yield server
    server.kill()


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """The URL of a real Redis that holds nothing."""
    assert redis_server.command("FLUSHALL") == b"+OK\r\n"
    return redis_server.url


@pytest.fixture
async def redis_store(redis_url: str) -> AsyncIterator[RedisKeyStore]:
    store = RedisKeyStore(redis_url)
    yield store
    await store.close()


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.redis)])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[KeyStore]:
    """Each kind of store in turn, empty."""
    if request.param == "memory":
        yield MemoryKeyStore()
        return
    redis_url: str = request.getfixturevalue("redis_url")
    redis = RedisKeyStore(redis_url)
    yield redis
    await redis.close()


@pytest.fixture
def keys(redis_url: str) -> Keys:
    """Return a function that runs `blnk-gateway keys ...` on an empty store; `stdin` is its input."""

    def run(*arguments: str, stdin: str | None = None, **environ: str) -> Result:
        given = {"BLNK_GATEWAY_KEYS__STORE": redis_url, **environ}
        return CliRunner().invoke(
            cli, ["keys", *arguments, "--config", SHIPPED], env=given, input=stdin, catch_exceptions=False
        )

    return run


@pytest.fixture
def stored(redis_url: str) -> Stored:
    """Return a function that reads or changes the store directly, without the commands."""

    def run(work: Callable[[KeyStore], Any]) -> Any:
        async def with_store() -> Any:
            store = RedisKeyStore(redis_url)
            try:
                return await work(store)
            finally:
                await store.close()

        return asyncio.run(with_store())

    return run
