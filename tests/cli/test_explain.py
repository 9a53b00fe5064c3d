"""The command `explain`: its output and exit codes, which agree with the responses of a gateway."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway.cli import cli
from gateway.config import load_config
from gateway.errors import Code
from gateway.keys.redis.store import RedisKeyStore
from gateway.policy.decisions import Policy
from gateway.policy.principals import MASTER
from gateway.policy.values import Allow, Deny
from gateway.policy.verdicts import (
    NO_KEY,
    PolicyCaller,
    PolicyRequest,
    body_of,
    key_with,
    read_request,
    verdict,
)
from tests.keys.records import RECORD, instant, revocation
from tests.running import MASTER_KEY, Running

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "gateway.yaml"
KEY = "A_b-0" * 8 + "xyz="  # has the form of a key
LINES = {
    route.name: f"{SHIPPED}:{route.line}" for route in load_config(SHIPPED, {}, secrets=False).routes.routes
}


def run(*arguments: str, environ: Mapping[str, str] | None = None) -> Result:
    return CliRunner().invoke(
        cli, ["explain", *arguments, "--config", str(SHIPPED)], env={"COLUMNS": "20", **(environ or {})}
    )


def outcome(result: Result) -> tuple[int, str, str]:
    return result.exit_code, result.stdout, result.stderr


def refusal(status: int, code: str, message: str) -> str:
    body = f'{{"error":"{message}","error_detail":{{"code":"{code}","message":"{message}"}}}}'
    return f"          {status} {code}  {message}\n          {body}\n"


UNSENT = "Authentication required. Use X-Blnk-Key header"


def test_without_a_caller_it_explains_each_kind_of_caller() -> None:
    text = f"""\
POST /transactions/bulk
segments  'transactions', 'bulk'
route     POST /transactions/bulk  {LINES["POST /transactions/bulk"]}
lost      GET /transactions/{{id}}  {LINES["GET /transactions/{id}"]}  another method
needs     transactions:write
stamp     bulk

deny      a key without any scope
{refusal(403, "AUTH_INSUFFICIENT_PERMISSIONS", "Insufficient permissions for transactions:write")}\
allow     the master key
deny      no key
{refusal(401, "AUTH_MISSING_API_KEY", UNSENT)}"""
    assert outcome(run("POST", "/transactions/bulk")) == (1, text, "")


def test_an_allowed_key_is_shown_with_the_stamp() -> None:
    text = f"""\
POST /refund-transaction/t%20x?y=1
segments  'refund-transaction', 't x'
query     y=1, which decides nothing
route     POST /refund-transaction/{{id}}  {LINES["POST /refund-transaction/{id}"]}
needs     transactions:write
stamp     create; an empty body becomes one with the stamp

allow     a key with ledgers:read, transactions:*, stamp create
"""
    result = run("POST", "/refund-transaction/t%20x?y=1", "--scopes", "ledgers:read, transactions:*")
    assert outcome(result) == (0, text, "")


def test_a_request_without_route_and_scope_is_explained_as_the_gateway_refuses_it() -> None:
    text = f"""\
HEAD /ledgers
segments  'ledgers'
route     none
lost      POST /ledgers  {LINES["POST /ledgers"]}  another method
lost      GET /ledgers  {LINES["GET /ledgers"]}  another method
needs     a route: none matches; a key without ledgers:read, which Core implies here, gets 403, not 404

deny      a key without any scope
          403 AUTH_INSUFFICIENT_PERMISSIONS  Insufficient permissions for ledgers:read
"""
    found = outcome(run("HEAD", "/ledgers", "--scopes", ""))
    assert (found[0], sorted(found[1].splitlines()), found[2]) == (1, sorted(text.splitlines()), "")


def test_an_ambiguous_target_is_explained_with_its_reason() -> None:
    text = f"""\
GET /ledgers//x
target    ambiguous: empty segment
route     none
needs     another target: an ambiguous target is refused for everyone

deny      a key with *:*
{refusal(400, "GEN_BAD_REQUEST", "Ambiguous request target")}"""
    assert outcome(run("GET", "/ledgers//x", "--scopes", "*:*")) == (1, text, "")


def test_a_response_of_the_gateway_itself_is_explained() -> None:
    text = f"""\
DELETE /api-keys/x
segments  'api-keys', 'x'
route     DELETE /api-keys/{{id}}  {LINES["DELETE /api-keys/{id}"]}
lost      PATCH /api-keys/{{id}}  {LINES["PATCH /api-keys/{id}"]}  another method
needs     api-keys:delete
stamp     none: the gateway responds itself, from its key store, and checks owner and scopes there

allow     a key with *:delete
"""
    assert outcome(run("DELETE", "/api-keys/x", "--scopes", "*:delete")) == (0, text, "")


def test_a_public_route_is_open_to_every_kind_of_caller() -> None:
    result = run("GET", "/health")
    allowed = "allow     a key without any scope\nallow     the master key\nallow     no key\n"
    assert (result.exit_code, result.stdout.endswith(f"\n\n{allowed}")) == (0, True)


def test_the_master_key_counts_as_the_configuration_says() -> None:
    result = run("GET", "/hooks", environ={"BLNK_GATEWAY_KEYS__MASTER": "deny"})
    refused = f"deny      the master key\n{refusal(401, 'AUTH_INVALID_API_KEY', 'Invalid API key')}"
    assert refused in result.stdout


def test_json_is_one_object() -> None:
    result = run("GET", "/hooks", "--scopes", "hooks:read", "--output", "json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert found["policy_sha256"] == load_config(SHIPPED, {}, secrets=False).sha256
    assert found["route"]["name"] == "GET /hooks"
    assert [one["decision"] for one in found["verdicts"]] == ["deny"]
    assert found["verdicts"][0]["answer"]["code"] == "AUTH_MASTER_KEY_REQUIRED"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("get", "/ledgers"), "write the method in capitals: GET"),
        (("GETT", "/ledgers"), "the method is one of DELETE, GET, HEAD,"),
        (("GET", "ledgers"), "begin the path with '/'"),
        (("GET", "/gr\xfcn"), "begin the path with '/'"),
        (("GET", f"/ledgers/{KEY}"), "the path holds a key, or a text that looks like one: remove it"),
        (("GET", "/ledgers", "--scopes", "ledger:read"), "did you mean 'ledgers:read'?"),
        (("GET", "/ledgers", "--scopes", KEY), "Invalid value for '--scopes': a scope is a resource of Core"),
        (
            ("GET", "/ledgers", "--key-id", KEY),
            "Invalid value for '--key-id': this looks like a key: write its id",
        ),
        (("GET", "/ledgers", "--scopes", "", "--key-id", "x"), "use --scopes or --key-id, not both"),
        (("GET",), "Missing argument 'PATH'"),
    ],
)
def test_a_wrong_request_is_wrong_usage(arguments: tuple[str, ...], problem: str) -> None:
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert problem in result.stderr
    assert KEY not in result.stderr


def test_a_refused_configuration_explains_nothing(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text("routes:\n  GET /health: public\n")
    result = CliRunner().invoke(cli, ["explain", "GET", "/health", "--config", str(file)])
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"{file}:1: upstream.url is missing" in result.stderr


class TestAStoredKey:
    @pytest.mark.redis
    @pytest.mark.parametrize(
        ("changes", "named", "exit_code"),
        [
            ({}, "live, with ledgers:read", 0),
            ({"expires_at": instant("2020-01-01T00:00:00Z")}, "expired, with ledgers:read", 1),
            ({"revocation": revocation("2026-01-02T00:00:00Z", "master")}, "revoked, with ledgers:read", 1),
            ({"scopes": ("balances:read",)}, "live, with balances:read", 1),
        ],
        ids=["live", "expired", "revoked", "another scope"],
    )
    def test_is_shown_with_its_state_and_never_itself(
        self,
        redis_url: str,
        changes: dict[str, object],
        named: str,
        exit_code: int,
    ) -> None:
        record = replace(RECORD, **changes)  # type: ignore[arg-type]  # values of several fields

        async def store() -> None:
            keys = RedisKeyStore(redis_url)
            await keys.add(record)
            await keys.close()

        asyncio.run(store())
        result = run(
            "GET", "/ledgers", "--key-id", RECORD.id, environ={"BLNK_GATEWAY_KEYS__STORE": redis_url}
        )
        assert (result.exit_code, result.stderr) == (exit_code, "")
        word = "allow" if exit_code == 0 else "deny"
        assert f"\n{word:10}{RECORD.id} of acme, {named}\n" in result.stdout
        assert RECORD.digest not in result.stdout

    @pytest.mark.redis
    def test_with_an_unknown_id_is_wrong_usage(self, redis_url: str) -> None:
        result = run("GET", "/ledgers", "--key-id", "nobody", environ={"BLNK_GATEWAY_KEYS__STORE": redis_url})
        assert result.exit_code == 2
        assert "Invalid value for '--key-id': no key has this id" in result.stderr

    @pytest.mark.redis
    def test_in_an_unreachable_core_is_a_dependency(self, redis_url: str) -> None:
        environ = {
            "BLNK_GATEWAY_KEYS__STORE": redis_url,
            "BLNK_GATEWAY_KEYS__AUTHORITY": "core",
            "BLNK_GATEWAY_KEYS__CORE_DATABASE": "postgres://core@127.0.0.1:1/core",
        }
        result = run("GET", "/ledgers", "--key-id", "nobody", environ=environ)
        assert (result.exit_code, result.stdout) == (3, "")
        assert "Core's database cannot be reached" in result.stderr

    def test_in_an_unreachable_store_is_a_dependency(self) -> None:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            url = f"redis://:s3cret@127.0.0.1:{closed.getsockname()[1]}/0"
            result = run("GET", "/ledgers", "--key-id", "x", environ={"BLNK_GATEWAY_KEYS__STORE": url})
        assert (result.exit_code, result.stdout) == (3, "")
        assert "): Redis cannot be reached: connection refused; " in result.stderr
        assert "s3cret" not in result.stderr

    def test_in_a_store_with_a_wrong_url_is_a_problem_of_the_configuration(self) -> None:
        environ = {"BLNK_GATEWAY_KEYS__STORE": "redis://127.0.0.1/0?socket_timeout=soon"}
        result = run("GET", "/ledgers", "--key-id", "x", environ=environ)
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith("BLNK_GATEWAY_KEYS__STORE: write nothing behind ?")

    def test_in_the_memory_of_another_process_is_wrong_usage(self) -> None:
        environ = {"BLNK_GATEWAY_KEYS__STORE": "memory://"}
        result = run("GET", "/ledgers", "--key-id", "x", environ=environ)
        assert result.exit_code == 2
        assert "keys.store is memory://" in result.stderr


def process(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from gateway.__main__ import main; main()", "explain", *arguments]


def test_a_terminal_gets_colours() -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        subprocess.run(
            process("GET", "/health"),
            cwd=ROOT,
            stdout=theirs,
            check=True,
            env={"TERM": "xterm", "COLUMNS": "20"},
        )
        os.close(theirs)
        assert b"\x1b[1;32mallow" in terminal.read(65536)


def test_what_the_stream_cannot_show_is_escaped(tmp_path: Path) -> None:
    file = tmp_path / "gr\xfcn.yaml"
    file.write_bytes(SHIPPED.read_bytes())
    done = subprocess.run(
        process("GET", "/health", "--config", str(file)),
        cwd=ROOT,
        capture_output=True,
        check=True,
        env={"PYTHONIOENCODING": "ascii:strict", "PYTHONUTF8": "1"},
    )
    assert f"{tmp_path}/gr\\xfcn.yaml:" in done.stdout.decode("ascii")


CALLERS: dict[str, PolicyCaller] = {
    "no key": NO_KEY,
    "master": MASTER,
    "no scope": key_with(()),
    "ledgers": key_with(["ledgers:read", "hooks:*"]),
    "all": key_with(["*:*"]),
}
REQUESTS = (
    "GET /", "GET /health", "HEAD /health", "POST /health", "GET /ledgers", "GET /ledgers/x?limit=1",
    "GET /%6cedgers", "GET /ledgers/", "DELETE /ledgers/x", "OPTIONS /ledgers", "TRACE /ledgers",
    "GET /hooks", "POST /balances-snapshots", "GET /backup-s3", "GET /nothing", "GET /metrics", "GET /a//b",
    "GET /a/../b", "GET /a%2fb", "GET /a#b", "GET /a\\b", "GET /%zz", "PUT /api-keys/x", "HEAD /nothing",
    "GET /search/%ff",
)  # fmt: skip


async def test_the_data_path_responds_as_explained(gateway: Running) -> None:
    """For every caller and request, the status is the same, and a refusal has the same bytes."""
    policy = Policy(gateway.gateway.config.routes)
    keys = {"no key": None, "master": MASTER_KEY}
    for name, scopes in (("no scope", ()), ("ledgers", ("ledgers:read", "hooks:*")), ("all", ("*:*",))):
        keys[name] = (await gateway.mint(*scopes)).key
    explained, responses = {}, {}
    for line in REQUESTS:
        request = read_request(*line.split(" ", 1))
        assert isinstance(request, PolicyRequest)
        for name, caller in CALLERS.items():
            explained[line, name] = refusal_bytes(request, verdict(request, caller, policy, 0.0).decision)
            response = await gateway.ask(request.method, request.raw, key=keys[name])
            by_gateway = response.value("Proxy-Status") is not None
            responses[line, name] = (response.status, response.body) if by_gateway else None
    assert responses == explained
    assert {None, (Code.NOT_FOUND.status, b"")} < set(explained.values())


def refusal_bytes(request: PolicyRequest, decision: Allow | Deny) -> tuple[int, bytes] | None:
    """Return the status and body of a refusal; None for a request that is forwarded."""
    return (decision.code.status, body_of(request, decision)) if isinstance(decision, Deny) else None
