"""Check before a load that a server does what its row of the table says.

Rules kept here:
- Requests must arrive with the master key and the body that was sent; a stamp is all that may be added.
- A number that a double cannot hold is sent; the table shows which servers change it.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from tests.bench.messages import (
    EXACT,
    EXACT_TRANSACTION,
    GET,
    GET_LARGE,
    LARGE_RESPONSE,
    MASTER_KEY,
    POST,
    POST_LARGE,
    RESPONSE,
    TRANSACTION,
    Call,
)
from tests.bench.peers import Duty
from tests.bench.servers import Server, StartError, ask
from tests.bench.upstream import ECHO

_STAMP = "BLNK_GENERATED_BY"
_EXPECTED = ((GET, RESPONSE), (POST, RESPONSE), (GET_LARGE, LARGE_RESPONSE), (POST_LARGE, RESPONSE))
_OTHER = Call("a read without the scope", "GET", "/ledgers")


def verify(server: Server, duties: Collection[Duty]) -> bool:
    """Return whether large numbers arrive unchanged. Raises StartError if the server does not do its job."""
    for call, body in _EXPECTED:
        answer = ask(server.port, call, server.key)
        if (answer.status, answer.body) != (200, body.encode()):
            raise StartError(f"{server.name}: {call.name} got {answer.status} {answer.body[:300]!r}")
    if Duty.KEY in duties:
        _expect(server, GET, "", 401)
    if Duty.SCOPE in duties:
        _expect(server, _OTHER, server.key, 403)
    arrived = _arrived(server, TRANSACTION)
    _compare(server, json.loads(arrived), stamped=Duty.STAMP in duties)
    return f'"precise_amount":{EXACT}' in _arrived(server, EXACT_TRANSACTION)


def _expect(server: Server, call: Call, key: str, status: int) -> None:
    found = ask(server.port, call, key).status
    if found != status:
        raise StartError(f"{server.name}: {call.name} without its right got {found} instead of {status}")


def _arrived(server: Server, body: str) -> str:
    """Return the body that reached the upstream. Raises StartError."""
    answer = ask(server.port, Call("echo", "POST", "/transactions", body), server.key, ECHO)
    try:
        seen = json.loads(answer.body)
        key, arrived = seen["headers"].get("x-blnk-key"), str(seen["body"])
    except (ValueError, KeyError, TypeError):
        raise StartError(f"{server.name}: a POST got {answer.status} {answer.body[:300]!r}") from None
    if key != MASTER_KEY:
        raise StartError(f"{server.name}: a request reached the upstream without the master key")
    return arrived


def _compare(server: Server, arrived: dict[str, Any], *, stamped: bool) -> None:
    stamp = arrived["meta_data"].pop(_STAMP, "")
    if arrived != json.loads(TRANSACTION) or bool(stamp) != stamped or (stamp and "api_key_" not in stamp):
        raise StartError(f"{server.name}: the upstream got {arrived} with the stamp {stamp!r}")
