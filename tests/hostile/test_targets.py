"""Generated request targets against a running gateway: the bytes matched are those that Core matches.

Rules kept here:
- Core's reading, and whether it is clear, is worked out by `go_reading`, not by the code under test.
- Forwarding is an equivalence: what is clear, listed and granted crosses byte for byte, and nothing else.
"""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.policy.decisions import decide
from gateway.policy.principals import MASTER
from gateway.policy.targets import parse_target
from gateway.policy.values import Allow
from tests.conftest import examples
from tests.hostile.conftest import Stage
from tests.hostile.go_reading import is_clear, line_of, segments_of
from tests.raw_client import Response, request
from tests.test_matrix import LINES, Line, opens

pytestmark = pytest.mark.asyncio(loop_scope="module")

SCOPES = {"all": "*:*", "reader": "ledgers:read"}
SERVED = ("/api-keys", "/api-keys/{id}")
WORDS = sorted({part for line in LINES for part in line.pattern.split("/") if part[:1] not in ("", "{")})
ODD = [
    *("%2f", "%2F", "%5c", "%00", "%0a", "%0d%0a", "%20", "%7f", "%2e", "%2e%2e", "%252f", "%252e", "%25"),
    *("%ff", "%c0%af", "%e2%80%ae", "%u002f", "%", "%2", "%zz", "%3f", "%23", "%3b", "+", ";", ";x=1"),
    *("/", "//", ".", "..", "/./", "/../", "\\", "#", "?", "&", "=", "~", "{id}", "'", '"', "|", "^", "`"),
    *("<", ":", "@", "*", " ", "\t", "\x00", "\x01", "\x0b", "\x7f", "\x80", "\xa0", "\xc4", "\xff"),
]  # fmt: skip


def spelled(word: str, ways: list[int]) -> str:
    """The word with each of its first characters plain, percent-encoded either way, or in the other case."""
    ways = ways + [0] * len(word)
    return "".join(
        (letter, f"%{ord(letter):02x}", f"%{ord(letter):02X}", _other_case(letter))[way]
        for letter, way in zip(word, ways, strict=False)
    )


def _other_case(letter: str) -> str:
    return letter.swapcase() if letter.isascii() else letter


words = st.sampled_from([*WORDS, "ldg_1", "x", "metrics", "HOOKS", "Api-Keys"])
segments = st.one_of(
    words,
    words,
    st.builds(spelled, words, st.lists(st.integers(0, 3), max_size=12)),
    st.lists(st.sampled_from([*ODD, "a", "api-keys", "hooks"]), min_size=1, max_size=3).map("".join),
)
queries = st.one_of(
    st.just(""), st.lists(st.sampled_from([*ODD, "limit=1"]), max_size=3).map(lambda odd: "?" + "".join(odd))
)
composed = st.builds(
    "/{}{}{}".format,
    st.lists(segments, max_size=4).map("/".join),
    st.sampled_from(["", "", "", "/"]),
    queries,
)


@st.composite
def disturbed(draw: st.DrawFn) -> str:
    """The path of a listed route with up to three characters respelled or inserted."""
    target = draw(st.sampled_from(LINES)).target
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(target) - 1))
        change = draw(st.integers(0, 3))
        if change:
            target = target[:at] + spelled(target[at], [change]) + target[at + 1 :]
        else:
            target = target[:at] + draw(st.sampled_from(ODD)) + target[at:]
    return target


unusual = st.sampled_from(
    ["*", "http://core/ledgers", "https://core/ledgers", "core:443", "ledgers", "?x", "", "//core/x", "\\x"]
)
# `test_heads` puts blanks around the target, as a part of the request line.
targets = st.one_of(composed, composed, disturbed(), disturbed(), disturbed(), unusual).map(
    lambda target: target.strip(" ")
)
methods = st.sampled_from(["GET", "GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"])


def is_open(name: str, line: Line | None) -> bool:
    """Return whether this caller's request goes on to Core, by the text of gateway.yaml."""
    if line is None or line.word == "deny" or line.pattern in SERVED:
        return False
    if line.word == "public" or name == "master":
        return True
    return line.word != "master" and opens(SCOPES[name], line)


async def ask(stage: Stage, name: str, method: str, target: str) -> Response:
    stage.forwarded()
    body = b'{"transactions":[{}]}' if method in ("POST", "PUT", "PATCH") else None
    async with await stage.running.connect() as client:
        return await client.call(request(method, target, key=stage.key(name), body=body))


@examples(500)
@given(target=targets, method=methods, name=st.sampled_from(["all", "all", "reader", "master"]))
@example(target="/ledgers%2Ffilter", method="POST", name="reader")
@example(target="/ledgers/", method="GET", name="reader")
@example(target="/balances/../ledgers", method="GET", name="reader")
@example(target="/%68ooks", method="GET", name="all")
@example(target="/ledgers/%68ooks", method="GET", name="all")
@example(target="/api-keys/x/", method="DELETE", name="master")
@example(target="/api-keys", method="GET", name="reader")
@example(target="/ledgers?\xff", method="GET", name="all")
@example(target="", method="GET", name="all")
async def test_what_is_forwarded_is_what_was_decided_on(
    stage: Stage, target: str, method: str, name: str
) -> None:
    """Core gets exactly the bytes of a forwarded target, and reads the route that was decided and logged."""
    sent = target.encode("latin-1")
    response = await ask(stage, name, method, target)
    got = [(was.method, was.target.encode("latin-1")) for was in stage.forwarded()]
    line = line_of(method, segments_of(sent)) if is_clear(sent) else None
    assert got == ([(method, sent)] if is_open(name, line) else [])
    if line is None or line.pattern not in SERVED:
        assert (response.status == 200) is bool(got)
    if got and line is not None:
        route = f"{line.method} {line.pattern}"
        decided = decide(MASTER, method, parse_target(target), stage.running.gateway.config.policy, now=0.0)
        assert isinstance(decided, Allow)
        assert decided.route.name == route
        request_id = response.value("x-request-id")
        assert request_id is not None
        stage.routes[request_id] = route


@examples(200)
@given(target=targets.filter(lambda target: not is_clear(target.encode("latin-1"))), method=methods)
async def test_what_could_be_read_differently_is_refused_once_the_key_is_good(
    stage: Stage, target: str, method: str
) -> None:
    """A target that servers read differently is 400 for any good key, the master key included."""
    for name in ("all", "reader", "master"):
        response = await ask(stage, name, method, target)
        assert (response.status, response.code) == (400, "GEN_BAD_REQUEST")
    assert stage.forwarded() == []


@examples(100)
@given(
    line=st.sampled_from([line for line in LINES if line.pattern != "/"]), query=st.sampled_from(["", "?a=b"])
)
async def test_a_trailing_slash_matches_nothing(stage: Stage, line: Line, query: str) -> None:
    """A path with a trailing slash matches no route, for the master key too, and there is no redirect."""
    for name in ("all", "master"):
        response = await ask(stage, name, line.method, f"{line.target}/{query}")
        assert response.status in (403, 404)
    assert stage.forwarded() == []
