"""`mode: report-only, until: DATE` on a route or a key: what lacks only its scope passes, and is reported."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.config import ConfigError, parse_config
from gateway.config.report_only_dates import MOST_DAYS, end_of_day, last_day
from gateway.errors import Code
from gateway.keys.minting import mint_id
from gateway.policy.decisions import Policy, decide
from gateway.policy.principals import ApiKey
from gateway.policy.report_only import KeyDates
from gateway.policy.routes import Access, Route, RouteTable, Stamp, compile_routes
from gateway.policy.targets import parse_target
from gateway.policy.values import Allow, Deny
from tests.conftest import Start
from tests.core_stand_in import StandInCore
from tests.raw_client import Response
from tests.running import MASTER_KEY, Running, shipped_config

NOW = 1_795_452_240.0  # 2026-11-23 in UTC
UNTIL = end_of_day("2026-12-01")
KEY = ApiKey(id=mint_id(bytes), owner="acme", scopes=("ledgers:read",), expires_at=NOW + 1e7)
SMALL = 'upstream: {url: "http://core:5100", master_key: x}\nkeys: {store: "memory://"%s}\nroutes:\n  %s\n'


def table(*routes: Route) -> RouteTable:
    compiled = compile_routes(routes)
    assert isinstance(compiled, RouteTable), compiled
    return compiled


ROUTES = (
    Route("GET", "/balances", Access.SCOPES, ("balances:read",)),
    Route("GET", "/hooks", Access.MASTER),
    Route("GET", "/backup", Access.DENY),
    Route("GET", "/api-keys", Access.SCOPES, ("api-keys:read",)),
)
REPORTED = replace(ROUTES[0], report_until=UNTIL)


def decision(
    path: str, key: ApiKey = KEY, *, on_route: bool = False, on_key: bool = True, now: float = NOW
) -> Allow | Deny:
    routes = table(*((REPORTED, *ROUTES[1:]) if on_route else ROUTES))
    dates = KeyDates(((KEY.id, UNTIL),)) if on_key else KeyDates()
    return decide(key, "GET", parse_target(path), Policy(routes, report_only=dates), now)


class TestDecision:
    @pytest.mark.parametrize(("on_route", "on_key"), [(True, False), (False, True), (True, True)])
    def test_what_lacks_only_its_scope_passes_with_its_refusal(self, on_route: bool, on_key: bool) -> None:
        """A request that lacks only its scope passes, and its refusal is kept for the report."""
        found = decision("/balances", on_route=on_route, on_key=on_key)
        assert isinstance(found, Allow)
        refusal = Deny(Code.INSUFFICIENT, "Insufficient permissions for balances:read", found.route)
        assert (found.route.name, found.would_deny) == ("GET /balances", refusal)

    def test_what_holds_its_scope_passes_as_ever(self) -> None:
        key = replace(KEY, scopes=("balances:*",))
        assert decision("/balances", key, on_route=True) == Allow(REPORTED)

    def test_another_key_does_not(self) -> None:
        """The date of one key does not count for another."""
        assert isinstance(decision("/balances", replace(KEY, id="other")), Deny)

    @pytest.mark.parametrize(("now", "kind"), [(UNTIL - 0.001, Allow), (UNTIL, Deny)])
    @pytest.mark.parametrize("on_route", [True, False])
    def test_after_the_date_it_is_refused(self, now: float, kind: type, on_route: bool) -> None:
        """After its date the request is refused without a reload, since each request compares the date."""
        found = decision("/balances", on_route=on_route, on_key=not on_route, now=now)
        assert isinstance(found, kind)

    @pytest.mark.parametrize(
        ("path", "key", "code"),
        [
            ("/balances", replace(KEY, expires_at=NOW), Code.EXPIRED_KEY),
            ("/balances", replace(KEY, revoked=True), Code.EXPIRED_KEY),
            ("/balances", replace(KEY, disabled=True), Code.EXPIRED_KEY),
            ("/hooks", KEY, Code.INSUFFICIENT),
            ("/hooks", replace(KEY, scopes=("hooks:read",)), Code.MASTER_REQUIRED),
            ("/backup", KEY, Code.UNKNOWN_RESOURCE),
            ("/api-keys", KEY, Code.INSUFFICIENT),
            ("/transactions", KEY, Code.INSUFFICIENT),
            ("/ledgers", KEY, Code.NOT_FOUND),
            ("/nothing", KEY, Code.UNKNOWN_RESOURCE),
            ("/balances//", KEY, Code.AMBIGUOUS_TARGET),
        ],
    )
    def test_nothing_else_is_let_pass(self, path: str, key: ApiKey, code: Code) -> None:
        """A dead key, master, deny, /api-keys, an unlisted route and an ambiguous target stay refused."""
        found = decision(path, key, on_route=True)
        assert isinstance(found, Deny)
        assert found.code is code

    @pytest.mark.parametrize(
        "route",
        [
            Route("GET", "/hooks", Access.MASTER, report_until=UNTIL),
            Route("GET", "/backup", Access.DENY, report_until=UNTIL),
            Route("GET", "/health", Access.PUBLIC, report_until=UNTIL),
            Route("GET", "/api-keys", Access.SCOPES, ("api-keys:read",), report_until=UNTIL),
        ],
    )
    def test_it_stands_only_where_a_scope_can_lack(self, route: Route) -> None:
        """Report-only on a route without a scope is refused when the table is compiled."""
        (problem,) = compile_routes([route])  # type: ignore[misc]
        assert "cannot be report-only" in problem.text


def parse(route: str, keys: str = "") -> Any:
    text = (SMALL % (keys, route)).encode()
    return parse_config(text, Path("gateway.yaml"), {}, secrets=True, now=lambda: NOW)


def problems(route: str, keys: str = "") -> list[str]:
    with pytest.raises(ConfigError) as refused:
        parse(route, keys)
    return [problem.text for problem in refused.value.problems]


class TestFile:
    def test_a_route_says_it_with_a_date(self) -> None:
        """A route is report-only up to and including its date, in UTC, and is stamped as before."""
        config = parse(
            'POST /ledgers: {scope: ledgers:write, stamp: create, mode: report-only, until: "2026-12-23"}'
        )
        (route,) = config.routes.routes
        assert (last_day(route.report_until), route.stamp) == ("2026-12-23", Stamp.CREATE)
        assert route.report_until == datetime(2026, 12, 24, tzinfo=UTC).timestamp()

    def test_keys_say_it_by_their_ids(self) -> None:
        config = parse("GET /health: public", f', report_only: {{{KEY.id}: "2026-12-01"}}')
        assert config.keys.report_only == KeyDates(((KEY.id, UNTIL),))

    def test_a_date_that_is_over_loads(self) -> None:
        """A date in the past loads, so that a gateway can restart with an old file, and then refuses."""
        config = parse('GET /a: {scope: ledgers:read, mode: report-only, until: "2020-01-01"}')
        assert 0 < config.routes.routes[0].report_until < NOW

    @pytest.mark.parametrize(
        ("options", "text"),
        [
            ("mode: report-only", 'write both, as mode: report-only, until: "2026-12-24"'),
            ('until: "2026-12-01"', 'write both, as mode: report-only, until: "2026-12-24"'),
            ('mode: reportonly, until: "2026-12-01"', "mode is report-only; did you mean 'report-only'?"),
            ('mode: report-only, until: "soon"', "until: write a date in quotes"),
            ('mode: report-only, until: "2026-13-01"', "until: write a date in quotes"),
            ('mode: report-only, until: "9999-12-31"', "until: write a date in quotes"),
            ('mode: report-only, until: ["2026-12-01"]', "until: write a date in quotes"),
            ('mode: report-only, until: "2026-12-24"', f"report-only lasts at most {MOST_DAYS} days"),
        ],
    )
    def test_what_is_wrong_is_reported(self, options: str, text: str) -> None:
        """Half of the setting, another word, no date and a date too far ahead are refused with the reason."""
        (found,) = problems(f"GET /a: {{scope: ledgers:read, {options}}}")
        assert found.startswith(f"GET /a: {text}")

    def test_a_date_without_quotes_has_to_be_quoted(self) -> None:
        (found,) = problems("GET /a: {scope: ledgers:read, mode: report-only, until: 2026-12-01}")
        assert found == "YAML reads this as a date: quote it"

    @pytest.mark.parametrize(
        ("keys", "text"),
        [
            (', report_only: {master: "2026-12-01"}', "write the id of a key and a date"),
            (f', report_only: {{{KEY.id}: "soon"}}', "write a date in quotes"),
            (f', report_only: {{{KEY.id}: "2026-12-24"}}', f"report-only lasts at most {MOST_DAYS} days"),
            (f", report_only: {{{KEY.id}: [x]}}", "write one value on the line of its key"),
            (", report_only: 5", "write at most 100 lines below it"),
            (f", report_only: {{{KEY.id}: *x}}", "a value that begins with * is an alias to YAML"),
            (f', report_only: {{{KEY.id}: "${{NO_SUCH}}"}}', "NO_SUCH is not set in the environment"),
        ],
    )
    def test_what_is_wrong_with_a_key_is_reported(self, keys: str, text: str) -> None:
        """A faulty setting of a key is refused with the reason; the master key has no id for one."""
        (found,) = problems("GET /health: public", keys)
        assert text in found

    @pytest.mark.parametrize("access", ["master", "deny"])
    def test_master_and_deny_take_no_mode(self, access: str) -> None:
        (found,) = problems(f'GET /a: {{scope: {access}, mode: report-only, until: "2026-12-01"}}')
        assert found == f"GET /a: '{access}' cannot be report-only: only a missing scope is reported"

    def test_public_takes_no_mode(self) -> None:
        (found,) = problems('GET /a: {scope: public, mode: report-only, until: "2026-12-01"}')
        assert found == "GET /a: 'public' takes no option: write 'public' alone"

    def test_api_keys_take_no_mode(self) -> None:
        (found,) = problems('GET /api-keys: {scope: api-keys:read, mode: report-only, until: "2026-12-01"}')
        assert found == "GET /api-keys: /api-keys cannot be report-only"


# In a gateway.

LATER = (time.time() // 86_400 + 3) * 86_400


def reporting(*names: str, until: float = LATER) -> RouteTable:
    """Return the shipped routes, with those of these names report-only."""
    return table(
        *(
            replace(route, report_until=until) if route.name in names else route
            for route in shipped_config().routes.routes
        )
    )


async def ask(gateway: Running, key: str, method: str = "POST", target: str = "/ledgers") -> Response:
    return await gateway.ask(method, target, key=key, body=b'{"name":"x"}' if method == "POST" else None)


class TestGateway:
    async def test_it_passes_stamped_and_is_counted(
        self, start_gateway: Start, upstream: StandInCore
    ) -> None:
        """The request is stamped and served as with the scope, and log, metrics and readiness report it."""
        gateway = await start_gateway(routes=reporting("POST /ledgers"))
        key = await gateway.mint("ledgers:read")
        assert (await ask(gateway, key.key)).status == 200
        (request,) = upstream.requests
        assert json.loads(request.body)["meta_data"] == {"BLNK_GENERATED_BY": key.id}
        assert request.values("x-blnk-key") == [MASTER_KEY]
        log = await gateway.logged('"would_deny"')
        (line,) = [json.loads(line) for line in log.splitlines() if '"path":"/ledgers"' in line]
        shown = {
            name: line[name] for name in ("decision", "code", "would_code", "status", "stamped", "key_id")
        }
        assert shown == {
            "decision": "would_deny",
            "code": "",
            "would_code": "AUTH_INSUFFICIENT_PERMISSIONS",
            "status": 200,
            "stamped": True,
            "key_id": key.id,
        }
        page, _ = gateway.gateway.metrics.exposition("")
        counted = 'would_deny_total{code="AUTH_INSUFFICIENT_PERMISSIONS",route="POST /ledgers"} 1.0'
        assert counted in page.decode()
        assert gateway.gateway.health.notices() == [f"report-only until {last_day(LATER)}: POST /ledgers"]

    async def test_a_key_passes_everywhere_but_at_what_is_never_let_pass(
        self, start_gateway: Start, upstream: StandInCore
    ) -> None:
        """A key that is report-only may take any route to Core that asks for a scope, and no other."""
        gateway = await start_gateway()
        key, other = await gateway.mint("ledgers:read"), await gateway.mint("ledgers:read")
        handler = gateway.gateway.handler
        keys = replace(handler.config.keys, report_only=KeyDates(((key.id, LATER),)))
        handler.adopt(replace(handler.config, keys=keys))
        asked = [("POST", "/ledgers"), ("GET", "/balances/x"), ("GET", "/hooks"), ("GET", "/api-keys"),
                 ("POST", "/api-keys"), ("GET", "/nothing")]  # fmt: skip
        assert [(await ask(gateway, key.key, *one)).status for one in asked] == [200, 200, 403, 403, 403, 403]
        assert [(await ask(gateway, other.key, *one)).status for one in asked] == [403] * 6
        assert [request.target for request in upstream.requests] == ["/ledgers", "/balances/x"]

    async def test_after_its_date_it_refuses_and_readiness_is_quiet(self, start_gateway: Start) -> None:
        """After the date requests are refused and readiness is quiet, without a reload."""
        until = time.time() + 0.7
        gateway = await start_gateway(routes=reporting("POST /ledgers", until=until))
        key = (await gateway.mint("ledgers:read")).key
        assert (await ask(gateway, key)).status == 200
        assert gateway.gateway.health.notices() != []
        await asyncio.sleep(until - time.time() + 0.01)
        assert (await ask(gateway, key)).code == "AUTH_INSUFFICIENT_PERMISSIONS"
        assert gateway.gateway.health.notices() == []

    async def test_readiness_names_a_bounded_number(self, start_gateway: Start) -> None:
        names = [route.name for route in shipped_config().routes.routes if route.access is Access.SCOPES]
        served = {"POST /api-keys", "GET /api-keys", "DELETE /api-keys/{id}"}
        dates = KeyDates(tuple((f"api_key_00000000-0000-4000-8000-{n:012x}", LATER) for n in range(50)))
        gateway = await start_gateway(routes=reporting(*(set(names) - served)), keys={"report_only": dates})
        warnings = gateway.gateway.health.notices()
        total = len(set(names) - served) + 50
        assert (len(warnings), warnings[-1]) == (51, f"and {total - 50} more that are report-only")


def test_the_days_of_a_file_are_those_that_readiness_names() -> None:
    """The end of a date is computed back to the same date, at leap days and turns of the year too."""
    for day in ("2026-12-31", "2028-02-29", "2027-03-28"):
        assert last_day(end_of_day(day)) == day
    assert end_of_day("2026-12-31") - end_of_day("2026-12-01") == timedelta(days=30).total_seconds()
