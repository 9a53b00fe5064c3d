"""The limits of shared resources in `tests/README.md` are those of the code."""

from __future__ import annotations

import pytest

from gateway.config import settings
from gateway.keys import quota
from gateway.keys.cache import DEFAULT_LIMITS as KEPT
from gateway.keys.core import verifier as verifying
from gateway.keys.redis.durability import NEARLY_FULL_RATIO
from gateway.proxy.stamp_queue import MOST_WAITING, TURN_SECONDS
from gateway.server.listeners import ACCEPTED
from gateway.server.sockets import QUEUE
from gateway.telemetry import sink
from gateway.wire import tls_turns
from gateway.wire.client_deadlines import SLOWEST
from gateway.wire.client_presence import STALLED_SECONDS
from gateway.wire.held_bytes import HELD_BYTES
from gateway.wire.parse_budget import PER_TURN
from gateway.wire.request_body import UNASKED_BODY
from gateway.wire.request_head import MAX_HEAD, MAX_HEADERS, MAX_PART
from gateway.wire.tls_session import HANDSHAKE_HOLDS
from tests.running import ROOT

KIB, MIB = 1 << 10, 1 << 20


def default(name: str) -> int:
    """Return what a file that leaves the setting out gets."""
    value = settings()[name].default
    assert isinstance(value, int)
    return value


def counted(name: str) -> str:
    return f"`{name}` ({default(name):,})"


# The text that the row of a resource must have.
BOUNDS = {
    "connections of clients": counted("limits.connections"),
    "bytes of heads": f"{HELD_BYTES // MIB} MiB; a handshake of TLS that is not done counts "
    f"{HANDSHAKE_HOLDS // KIB} KiB; a head {MAX_HEAD // KIB} KiB, {MAX_PART:,} a target, name or value, "
    f"{MAX_HEADERS} headers; of a body or a response {UNASKED_BODY // KIB} KiB",
    "bytes of bodies": f"`limits.buffered` ({default('limits.buffered') // MIB} MiB)",
    "requests at Core": f"{counted('upstream.connections')}, an eighth more for small keys and "
    "a sixteenth for small networks",
    "... that wait for their turn": counted("upstream.queue"),
    "turns of the event loop": f"of each {PER_TURN // KIB} KiB for parsing, {1000 * TURN_SECONDS:g} ms for "
    f"stamping, and of each listener {1000 * tls_turns.TURN_SECONDS:g} ms for handshakes and as long for "
    f"records; one page of metrics, {ACCEPTED} connections accepted of those that wait ({QUEUE:,} at most)",
    "comparisons with bcrypt": f"{verifying.THREADS} at once, {verifying.MAX_WAITING} that wait",
    "Redis's memory": f"{counted('keys.per_owner')} live keys and {quota.RECORDS_PER_KEY} times as many "
    f"records; name and owner {quota.MAX_TEXT} characters, {quota.MAX_SCOPES} scopes of {quota.MAX_SCOPE}",
    "memory for keys": f"{KEPT.entries:,} principals, {KEPT.revoked:,} revoked ids",
    "lines of the log that wait": f"{sink.MOST_WAITING // MIB} MiB",
}
SHARES = {
    "requests at Core": f"a request whose client has kept Core waiting for {STALLED_SECONDS:g} s is cut",
    "turns of the event loop": f"at most {MOST_WAITING:,} bodies wait",
    "comparisons with bcrypt": f"{verifying.MAX_WAITING_PER_PREFIX} of each",
    "Redis's memory": f"a warning from {100 * NEARLY_FULL_RATIO:g} % of `maxmemory` on",
    "lines of the log that wait": f"{sink.URGENT_RESERVE // MIB} MiB of it for events alone",
}


def row(resource: str) -> list[str]:
    """Return the cells of the one row of the page whose first cell begins with this text."""
    page = (ROOT / "tests" / "README.md").read_text()
    section = page.partition("## Resources that clients share\n")[2].partition("\n## ")[0]
    (found,) = (line for line in section.splitlines() if line.startswith(f"| {resource}"))
    return [cell.strip() for cell in found.strip("|").split("|")]


@pytest.mark.parametrize("resource", BOUNDS)
def test_a_bound_in_total_is_the_codes(resource: str) -> None:
    """The numbers of the second column are the code's."""
    assert BOUNDS[resource] in row(resource)[1]


@pytest.mark.parametrize("resource", SHARES)
def test_a_bound_between_parties_is_the_codes(resource: str) -> None:
    """The numbers of the third column are the code's."""
    assert SHARES[resource] in row(resource)[2]


def test_the_slowest_pace_is_the_codes() -> None:
    """The slowest pace on the page, for a client's body and for its reading, is the code's."""
    page = (ROOT / "tests" / "README.md").read_text()
    assert f"has to go at {SLOWEST // KIB} KiB/s once its first deadline is over." in page
