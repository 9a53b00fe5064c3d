"""A server is checked before it is measured: a stand-in proxy that does each thing wrongly is refused."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.bench.messages import CLIENT_KEY, KEY_ID, LARGE_RESPONSE, MASTER_KEY, RESPONSE
from tests.bench.peers import Duty
from tests.bench.servers import Server, StartError
from tests.bench.verify import verify

ALL = frozenset(Duty)


def stamped(body: str) -> str:
    """Write the stamp as text, as the gateway does."""
    return body.replace('"meta_data":{', '"meta_data":{"BLNK_GENERATED_BY":"' + KEY_ID + '",')


def rewritten(body: str) -> str:
    """Write the stamp as Lua does: every number becomes a double."""
    return json.dumps(json.loads(stamped(body), parse_int=float), separators=(",", ":"))


@dataclass(frozen=True)
class Faults:
    """The ways in which the stand-in differs from a good proxy."""

    response: str = RESPONSE
    without_key: int = 401
    without_scope: int = 403
    key: str = MASTER_KEY
    sent: Callable[[str], str] = stamped


def handler(faults: Faults) -> type[BaseHTTPRequestHandler]:
    """Return a proxy and its upstream in one."""

    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.headers["X-Blnk-Key"] is None:
                self.respond(faults.without_key, "{}")
            elif self.path == "/ledgers":
                self.respond(faults.without_scope, "{}")
            else:
                self.respond(200, LARGE_RESPONSE if self.path == "/transactions" else faults.response)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            arrived = {"headers": {"x-blnk-key": faults.key}, "body": faults.sent(body)}
            echo = self.headers["X-Bench-Echo"] is not None
            self.respond(200, json.dumps(arrived) if echo else RESPONSE)

        def respond(self, status: int, text: str) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in the base class
            pass

    return Proxy


@contextmanager
def proxy(faults: Faults) -> Iterator[Server]:
    """Run the stand-in."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler(faults)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield Server("stand-in", server.server_port, CLIENT_KEY, ())
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("sent", "duties", "keeps"),
    [(stamped, ALL, True), (rewritten, ALL, False), (str, frozenset(), True)],
    ids=["a stamp as text", "a stamp by doubles", "a proxy that only forwards"],
)
def test_large_numbers_are_kept_or_not(
    sent: Callable[[str], str], duties: frozenset[Duty], keeps: bool
) -> None:
    """A server that changes them is measured all the same, and named for it."""
    with proxy(Faults(sent=sent)) as server:
        assert verify(server, duties) is keeps


@pytest.mark.parametrize(
    ("faults", "error"),
    [
        (Faults(response="{}"), "stand-in: GET got 200 b'{}'"),
        (Faults(without_key=200), "stand-in: GET without its right got 200 instead of 401"),
        (Faults(without_scope=200), "a read without the scope without its right got 200 instead of 403"),
        (Faults(key=CLIENT_KEY), "a request reached the upstream without the master key"),
        (Faults(sent=str), "with the stamp ''"),
        (Faults(sent=lambda body: stamped(body).replace("750", "751")), "the upstream got {'amount': 751"),
    ],
    ids=["another response", "no key", "no scope", "the client's key", "no stamp", "another amount"],
)
def test_a_server_that_does_not_do_its_job_is_refused(faults: Faults, error: str) -> None:
    """The error says which server, and what it did."""
    with proxy(faults) as server, pytest.raises(StartError) as refused:
        verify(server, ALL)
    assert error in str(refused.value)


def test_a_forwarding_proxy_must_not_stamp() -> None:
    """Its row would say less than it does."""
    with proxy(Faults()) as server, pytest.raises(StartError, match="with the stamp 'api_key_"):
        verify(server, frozenset())
