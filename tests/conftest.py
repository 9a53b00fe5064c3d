"""What every test may ask for: an upstream that records, a gateway in front of it, keys.

Rules kept here:
- A gateway is torn down with a grep of its log and of its clients' bytes for secrets.
- With `--need-servers` a skipped test that needs a real server is a failure, so that CI never goes blind.
- Slow tests run only where `-m` names them.
- Hypothesis has two profiles: `fast`, and `deep` with `HYPOTHESIS_PROFILE=deep` or
  `--hypothesis-profile=deep`. A test states its examples for `fast` with `examples`; `deep` makes them
  twenty times as many.
"""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Mapping
from contextlib import AsyncExitStack
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from gateway.keys.store import KeyStore
from tests.recording import RecordingUpstream
from tests.running import MASTER_KEY, Minted, Running, start

SERVERS = ("redis", "postgres")  # markers of tests that need a real server of that name

_FAST_EXAMPLES = 100
_UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
settings.register_profile("fast", _UNTIMED, max_examples=_FAST_EXAMPLES)
settings.register_profile("deep", _UNTIMED, max_examples=_FAST_EXAMPLES * 20)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))
_UNHURRIED = pytest.mark.timeout(0)

Start = Callable[..., Awaitable[Running]]
Mint = Callable[..., Awaitable[Minted]]


def examples(fast: int) -> settings:
    """The settings of a property test that takes `fast` examples, and its share more in a deep run."""
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


@pytest.fixture
async def upstream() -> AsyncIterator[RecordingUpstream]:
    """A stand-in for Core that records."""
    async with RecordingUpstream(MASTER_KEY) as recording:
        yield recording


@pytest.fixture
async def start_gateway(upstream: RecordingUpstream) -> AsyncIterator[Start]:
    """Starts gateways with changed values: `await start_gateway(timeouts={"head": 0.3})`."""
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
    """Mints keys of `gateway`: `await mint("ledgers:read", owner="acme")`."""
    return gateway.mint
