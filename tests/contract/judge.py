"""Say what a case of the contract demands, and judge whether what happened meets it.

Rules kept here:
- Numbers are compared as written; the last duplicate of a member wins, as in Core, but may touch no stamp.
- A forwarded request has one X-Blnk-Key, the master key; on `GET /` and `GET /health` that or none.
- A verdict is a sentence that says what is wrong, or None.
"""

from __future__ import annotations

import base64
import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from tests.core_stand_in import RECORDS, Request, is_public
from tests.http_messages import values_of
from tests.raw_client import Response

HERE = Path(__file__).resolve().parent
FIXTURES = {
    "ledger_id": "ldg_fixture",
    "identity_id": "idt_fixture",
    "balance_a": "bln_a",
    "balance_b": "bln_b",
    "txn_id": "txn_fixture",
    "refund_txn_id": "txn_refund",
    "inflight_id": "txn_inflight",
}
PLACEHOLDER = re.compile(r"\{\{([\w:-]+)\}\}")
FOLDED = {"meta_data", "transactions"}  # names that Core matches in any case
STAMP = "BLNK_GENERATED_BY"

Values = Mapping[str, str]
Item = dict[str, Any]


class Number(NamedTuple):
    """A JSON number as it was written."""

    literal: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """The client's response (None: the connection ended without one), and the requests at the upstream."""

    response: Response | None
    seen: list[Request]


def load(name: str) -> list[Item]:
    return [json.loads(line) for line in (HERE / name).read_text().splitlines() if line]


def fill(text: str, values: Values) -> str:
    return PLACEHOLDER.sub(lambda match: values.get(match.group(1), match.group(0)), text)


def filled(value: Any, values: Values) -> Any:
    return json.loads(fill(json.dumps(value), values))


def context(principal: str | None, minted: Mapping[str, Mapping[str, str]], values: Values) -> dict[str, str]:
    """Return the value of each placeholder: fixtures, the principal's own key, and `key:NAME` for others."""
    own = minted.get(principal or "") or {"key": "", "key_id": "", "owner": ""}
    every = {f"{kind}:{name}": known[kind] for name, known in minted.items() for kind in known}
    soon = (datetime.now(UTC) + timedelta(seconds=2)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {**own, "unique": uuid.uuid4().hex, "soon": soon, **values, **every}


def body_bytes(body: Any, values: Values) -> bytes | None:
    """Return a body in the forms of the contract: text, base64, repeated pieces, or none."""
    if body is None:
        return None
    if isinstance(body, str):
        return fill(body, values).encode()
    if "base64" in body:
        return base64.b64decode(body["base64"])
    return "".join(fill(text, values) * times for text, times in body["repeat"]).encode()


def request_bytes(item: Item, values: Values) -> bytes:
    """Return the request exactly as the case spells it.

    Headers that the case does not name are added: Host, Connection: close, the principal's X-Blnk-Key,
    and Content-Length if the case has a body.
    """
    request = item["request"]
    headers = [(name, fill(value, values)) for name, value in request["headers"]]
    named = {name.strip().lower() for name, _ in headers}
    body = body_bytes(request["body"], values)
    lines = [f"{request['method']} {fill(request['target'], values)} {request.get('version', 'HTTP/1.1')}"]
    if "host" not in named:
        lines.append("Host: gateway.test")
    if "connection" not in named:
        lines.append("Connection: close")
    if item["principal"] is not None and "x-blnk-key" not in named:
        lines.append("X-Blnk-Key: " + values["key"])
    lines += [f"{name}: {value}" for name, value in headers]
    if body is not None and not {"content-length", "transfer-encoding"} & named:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + (body or b"")


def pick(body: bytes, path: str) -> Any:
    """Return the member at a dotted path of a JSON body, or None."""
    try:
        document = json.loads(body)
        for part in path.split("."):
            document = document[int(part) if isinstance(document, list) else part]
    except (ValueError, KeyError, IndexError, TypeError):
        return None
    return document


def judge(item: Item, values: Values, outcome: Outcome, master_key: str) -> str | None:
    """Return what is wrong with the outcome of a case or of a scenario's step, or None."""
    expected = item["gateway"]
    if outcome.response is not None and shows(outcome.response, master_key):
        return "the master key reached a client"
    if "forwards" in expected:
        return wrong_forwarding(expected["forwards"], item["request"], outcome, values, master_key)
    if outcome.seen:
        return f"reached the upstream: {outcome.seen[0].method} {outcome.seen[0].target}"
    if "serves" in expected:
        return wrong_key_response(expected["serves"], expected.get("saw", {}), outcome.response, values)
    return wrong_response(expected["answers"], outcome.response, head=item["request"]["method"] == "HEAD")


def shows(response: Response, secret: str) -> bool:
    return secret.encode() in response.body or any(secret in value for _, value in response.headers)


def wrong_response(expected: Item, response: Response | None, *, head: bool) -> str | None:
    """Return what is wrong with a response of the gateway itself, or None."""
    if expected["status"] is None:
        if response is None or 400 <= response.status < 500:
            return None
        return f"status {response.status}, not a refusal"
    if response is None:
        return "no response"
    if response.status != expected["status"]:
        return f"status {response.status}, not {expected['status']}: {response.body[:120]!r}"
    if expected["code"] is None or head:
        return None
    if response.values("content-type") != ["application/json; charset=utf-8"]:
        return "the content type is not Core's"
    message = expected["message"] or json.loads(response.body)["error"]
    want = {"error": message, "error_detail": {"code": expected["code"], "message": message}}
    if compact(want) != (response.body if expected["message"] else compact(json.loads(response.body))):
        return f"body {response.body[:200]!r}, not {want}"
    return None


def compact(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def wrong_forwarding(
    expected: Item, request: Item, outcome: Outcome, values: Values, master_key: str
) -> str | None:
    """Return what is wrong unless one request reached the upstream, and it is the expected one."""
    if len(outcome.seen) != 1:
        return f"{len(outcome.seen)} requests reached the upstream, not 1; the client got {outcome.response}"
    got, target = outcome.seen[0], fill(expected["target"], values)
    if (got.method, got.target) != (request["method"], target):
        return f"{got.method} {got.target!r}, not {request['method']} {target!r}"
    problem = wrong_headers(expected, request, got, values, master_key)
    sent = unframed_body(request, values)
    problem = problem or wrong_body(expected["body"], bytes(got.body), sent, values)
    if problem:
        return problem
    if outcome.response is None or (outcome.response.status, outcome.response.body) != (200, RECORDS):
        return f"the client got {outcome.response}, not Core's response"
    return None


def wrong_headers(expected: Item, request: Item, got: Request, values: Values, master_key: str) -> str | None:
    """Return what is wrong with the headers that reached the upstream, or None."""
    keys = [value for name, value in got.headers if name.lower().replace("_", "-") == "x-blnk-key"]
    if keys != [master_key] and not (is_public(got.target) and not keys):
        return f"{len(keys)} keys reached the upstream, or not the master key"
    if values["key"] not in ("", master_key) and any(values["key"] in value for _, value in got.headers):
        return "the client's key reached the upstream"
    for name in expected.get("absent_headers", []):
        sent = [fill(value, values) for value in values_of(request["headers"], name)]
        if any(value in arrived for value in sent for arrived in got.values(name)):
            return f"{name} reached the upstream"
    if len(got.values("content-length") + got.values("transfer-encoding")) > 1:
        return "the body at the upstream is framed twice"
    return None


def unframed_body(request: Item, values: Values) -> bytes:
    """Return the body that the client sent, without its framing."""
    body = body_bytes(request["body"], values) or b""
    return dechunk(body) if values_of(request["headers"], "transfer-encoding") else body


def dechunk(data: bytes) -> bytes:
    body = b""
    while True:
        size, _, data = data.partition(b"\r\n")
        length = int(size.split(b";")[0] or b"0", 16)
        if not length:
            return body
        body += data[:length]
        data = data[length + 2 :]


def literal(data: bytes) -> Any:
    """Return JSON with numbers as written; raise ValueError if a reserved member is repeated."""

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        spelled = [name.casefold() if name.casefold() in FOLDED else name for name, _ in pairs]
        if any(spelled.count(name) > 1 for name in (*FOLDED, STAMP)):
            raise ValueError("a reserved member is repeated")
        return dict(pairs)

    def constant(name: str) -> None:
        raise ValueError(f"{name} is not JSON")

    return json.loads(
        data, object_pairs_hook=members, parse_int=Number, parse_float=Number, parse_constant=constant
    )


def stamped(data: bytes, paths: list[str], key_id: str) -> Any:
    """Return the document with the caller's stamp at each path."""
    document = literal(data)
    for path in paths:
        *parents, last = path.split(".")
        holder = document
        for part in parents:
            holder = holder[int(part) if isinstance(holder, list) else part]
        holder[last] = (holder.get(last) or {}) | {STAMP: key_id}
    return document


def wrong_body(expected: Any, got: bytes, sent: bytes, values: Values) -> str | None:
    """Return what is wrong with the body that reached the upstream, compared with the one sent, or None."""
    if expected is None:
        return None if got == sent else f"body {got[:200]!r}, not {sent[:200]!r}"
    if expected["json"] is None:
        want = stamped(sent, expected["stamped_paths"], values["key_id"])
    else:
        want = literal(fill(expected["json"], values).encode())
    try:
        document = literal(got)
    except ValueError as problem:
        return f"the body at the upstream is not clean JSON ({problem}): {got[:200]!r}"
    return None if document == want else f"the body at the upstream is {got[:300]!r}, not {str(want)[:300]}"


def wrong_key_response(expected: Item, saw: Item, response: Response | None, values: Values) -> str | None:
    """Return what is wrong with a response of /api-keys, or None."""
    if response is None:
        return "no response"
    if response.status != expected["status"]:
        return f"status {response.status}, not {expected['status']}: {response.body[:160]!r}"
    if "body" in expected and response.body.decode() != fill(expected["body"], values):
        return f"body {response.body[:200]!r}"
    document = json.loads(response.body or b"null")
    for member, name in (("owner_id", "owner"), ("scopes", "scopes")):
        for listed in document if isinstance(document, list) else [document]:
            if name in expected and listed[member] != filled(expected[name], values):
                return f"{member} {listed[member]!r}, not {filled(expected[name], values)!r}"
    for path, want in saw.items():
        if pick(response.body, path) != filled(want, values):
            return f"{path} {pick(response.body, path)!r}, not {filled(want, values)!r}"
    return None
