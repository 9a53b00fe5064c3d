"""The gateway.yaml that ships has Core's own routes and scopes, and a damaged copy never opens more."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.config import Address, Config, ConfigError, load_config, parse_config
from gateway.policy.routes import Access, Route, Stamp
from tests.conftest import examples

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "gateway.yaml"
DATA = SHIPPED.read_bytes()
STAMPS = {
    "none": Stamp.NONE,
    "meta_data": Stamp.CREATE,
    "bulk": Stamp.BULK,
    "meta_data_if_present": Stamp.REPLACE,
    "strip": Stamp.MERGE,
}


def recorded(entry: dict[str, Any]) -> Route:
    """Return the route that a line of the contract describes."""
    if entry.get("exempt"):
        return Route(entry["method"], entry["path"], Access.PUBLIC)
    if entry.get("closed") or entry.get("master_only"):
        return Route(entry["method"], entry["path"], Access.MASTER)
    return Route(
        entry["method"],
        entry["path"],
        Access.SCOPES,
        (entry["scope"],),
        stamp=STAMPS[entry["stamp"]],
        body_optional=entry["path"] == "/refund-transaction/{id}",
    )


def test_the_shipped_routes_are_exactly_the_contracts_and_one_more() -> None:
    contract = json.loads((ROOT / "tests/contract/routes.json").read_text())
    shipped = load_config(SHIPPED, {}, secrets=False).routes.routes
    untimed = {replace(route, first_byte=0.0) for route in shipped}
    added = Route("PATCH", "/api-keys/{id}", Access.MASTER)
    assert untimed == {recorded(entry) for entry in contract if not entry.get("hidden")} | {added}
    assert len(shipped) - 1 == len(contract) - 1 == 72


def test_what_core_takes_long_for_has_a_time_of_its_own() -> None:
    """A bulk or a reconciliation that were cut after a minute would be half done."""
    shipped = load_config(SHIPPED, {}, secrets=False).routes.routes
    assert {route.name: route.first_byte for route in shipped if route.first_byte} == dict.fromkeys(
        (
            "POST /transactions/bulk",
            "POST /transactions/inflight/bulk/commit",
            "POST /transactions/inflight/bulk/void",
            "POST /reconciliation/upload",
            "POST /reconciliation/start",
            "POST /reconciliation/start-instant",
        ),
        900.0,
    )


def test_the_shipped_file_serves_with_the_master_key_alone() -> None:
    config = load_config(SHIPPED, {"BLNK_MASTER_KEY": "s3cret"}, secrets=True)
    assert config.upstream.master_key.reveal() == "s3cret"
    assert (config.listen, config.admin, config.health) == (
        (Address("127.0.0.1", 5001),),
        Address("127.0.0.1", 5002),
        None,
    )
    assert "s3cret" not in repr(config)


def test_every_route_keeps_its_line() -> None:
    lines = SHIPPED.read_text().splitlines()
    for route in load_config(SHIPPED, {}, secrets=False).routes.routes:
        assert lines[route.line - 1].startswith(f"  {route.name}:")


def read(data: bytes) -> Config | tuple[str, ...]:
    """Return the configuration, or the problems; any other exception fails the test."""
    try:
        return parse_config(data, Path("gateway.yaml"), {}, secrets=False)
    except ConfigError as error:
        return tuple(map(str, error.problems))


@examples(60)
@given(
    edits=st.lists(
        st.tuples(
            st.integers(0, len(DATA)),
            st.integers(0, 40),
            st.binary(max_size=6) | st.text(alphabet=" \n\t:-[]{}*&!|>'\"#%", max_size=6).map(str.encode),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_bytes_cut_and_inserted_give_a_configuration_or_problems(edits: list[tuple[int, int, bytes]]) -> None:
    data = DATA
    for start, length, inserted in edits:
        data = data[:start] + inserted + data[start + length :]
    assert read(data)


@examples(30)
@given(one=st.integers(0, len(DATA) - 1), other=st.integers(0, len(DATA) - 1), end=st.integers(0, len(DATA)))
def test_bytes_swapped_and_the_end_lost_give_a_configuration_or_problems(
    one: int, other: int, end: int
) -> None:
    data = bytearray(DATA)
    data[one], data[other] = data[other], data[one]
    assert read(bytes(data[:end]))


def test_a_file_cut_before_its_last_line_never_opens_more() -> None:
    whole = set(load_config(SHIPPED, {}, secrets=False).routes.routes)
    text = DATA.splitlines(keepends=True)
    for end in range(0, len(text), 7):
        found = read(b"".join(text[:end]))
        assert not isinstance(found, Config) or set(found.routes.routes) < whole
