"""The JSON Schema in deploy/ is the one that the command prints, and accepts all that `check` accepts.

Rules kept here:
- A third-party validator judges the schema, on values that a YAML parser of an editor would read.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from gateway.config import ConfigError, parse_config, settings
from gateway.config.model import sections
from gateway.config.presets import PRESETS, core_table, preset
from gateway.config.route_reader import OPTIONS
from gateway.config.schema import schema
from gateway.policy.routes import expected_stamp
from tests.running import ROOT

SCHEMA = schema()
VALIDATOR = jsonschema.Draft7Validator(SCHEMA)
LEAST = "upstream: {url: 'http://127.0.0.1:5100', master_key: x}\nkeys: {store: 'memory://'}\n"
ROUTES = "routes: {GET /health: public}\n"
# What a setting needs beside it.
BESIDE = {
    "tls.certificate": {"tls.key": "k"},
    "tls.key": {"tls.certificate": "c"},
    "tls.client_ca": {"tls.certificate": "c", "tls.key": "k"},
    "tls.listeners": {"tls.certificate": "c", "tls.key": "k"},
    "upstream.ca_file": {"upstream.url": "https://h"},
    "upstream.certificate": {"upstream.url": "https://h", "upstream.key": "k"},
    "upstream.key": {"upstream.url": "https://h", "upstream.certificate": "c"},
}
GIVEN = {"upstream.url": "'http://127.0.0.1:5100'", "upstream.master_key": "x", "keys.store": "'memory://'"}
VALUES = (
    "0", "1", "200", "70000", '"200"', "10s", "500ms", "0s", "24h", "25h", "5MiB", "1GiB", "0B",
    "127.0.0.1:5003", '"[::1]:5003"', "localhost:0", "5003", "accept", "deny", "auto", "debug", "gateway",
    "core", "'${NAME}'", "true", "[]", "[store]", "[store, upstream]", "[listen, admin]", "[10.0.0.0/8]",
    "['::1/128', 10.1.2.3]", "a/b", "{}",
    "http://h:1", "HTTPS://h", "http://h:1/x", "redis://h", "memory://", '"é"',
    '""', "rediss://u:p@h:1/2?x=y", "'redis+sentinel://a,b/n'", "'redis+cluster://a,b'", "postgres://u:p@h/d",
    "postgresql://u:p@h/d", "[a, [b]]", "[api_key_x]", '"2001-01-02"',
    '"0660"', "unix:/run/x.sock", "[unix]", "['unix:/a', 127.0.0.1:1]",
    '{api_key_00000000-0000-4000-8000-000000000001: "2001-01-02"}',
    '["api_key_00000000-0000-4000-8000-000000000001=2001-01-02"]',
)  # fmt: skip
PERMISSIONS = (
    "public", "master", "deny", "ledgers:read", "ledger:read", "[ledgers:read, ledgers:write]", "[]",
    "[ledgers:read, ledgers:read]", "[public]", '"*:*"', "{scope: ledgers:write}", "{scope: master}",
    "{scope: ledgers:write, stamp: create}", "{scope: ledgers:write, stamp: none}", "{stamp: create}",
    "{scope: [ledgers:read, ledgers:write], stamp: bulk}", "{scope: public}", "{scope: deny, body: x}",
    "{scope: ledgers:write, stamp: create, body: optional}", "{scope: deny, stamps: x}", "true", "{}",
    '{scope: ledgers:write, stamp: none, mode: report-only, until: "2001-01-02"}',
    '{scope: ledgers:read, mode: report-only, until: "2001-01-02"}',
    "{scope: ledgers:write, stamp: none, mode: report-only}", '{scope: deny, until: "2001-01-02"}',
)  # fmt: skip
NAMES = (
    *(route.name for route in core_table().routes if expected_stamp(route) or route.method == "DELETE"),
    "GET /{rest...}", "PUT /x/{id}", "HEAD /", "get /ledgers", "TRACE /x", "GET ledgers", "GET  /x", "GET",
)  # fmt: skip


def accepts(text: str) -> bool:
    """Return whether `check` accepts the text."""
    try:
        parse_config(text.encode(), Path("gateway.yaml"), {}, secrets=False)
    except ConfigError:
        return False
    return True


def complaints(text: str) -> list[str]:
    return [error.message for error in VALIDATOR.iter_errors(yaml.safe_load(text))]


def test_the_schema_in_deploy_is_the_one_that_the_command_prints() -> None:
    """The file is up to date; `blnk-gateway schema > deploy/gateway.schema.json` writes it again."""
    assert json.loads((ROOT / "deploy/gateway.schema.json").read_text()) == SCHEMA


def test_the_file_that_ships_points_at_it() -> None:
    first = (ROOT / "gateway.yaml").read_text().partition("\n")[0]
    link = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", first)
    assert link is not None
    assert (ROOT / link[1]).is_file()


def test_it_is_a_schema_of_draft_7() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == jsonschema.Draft7Validator.META_SCHEMA["$schema"]


@pytest.mark.parametrize("name", PRESETS)
def test_it_accepts_what_ships(name: str) -> None:
    assert complaints(preset(name)) == []


def test_it_knows_every_setting_every_option_and_every_route_of_core() -> None:
    """The schema describes every setting, as an editor shows it, and lists every option and route."""
    properties: dict[str, Any] = SCHEMA["properties"]
    found = {
        f"{name}.{below}" if name in sections() else name: entry["description"]
        for name in properties
        if name != "routes"
        for below, entry in (
            properties[name]["properties"].items() if name in sections() else [("", properties[name])]
        )
    }
    assert found == {path: setting.plain_doc for path, setting in settings().items()}
    assert set(SCHEMA["definitions"]["options"]["properties"]) == set(OPTIONS)
    assert set(properties["routes"]["properties"]) == {route.name for route in core_table().routes}


def test_every_default_that_an_editor_fills_in_is_accepted() -> None:
    """`check` accepts the default of each setting, and the permission that each route of Core has."""
    routes = {name: entry["default"] for name, entry in SCHEMA["properties"]["routes"]["properties"].items()}
    assert accepts(json.dumps({**yaml.safe_load(LEAST), "routes": routes}))
    for name, entry in SCHEMA["properties"].items():
        below = {key: one["default"] for key, one in entry.get("properties", {}).items() if "default" in one}
        if name in sections() and name not in ("upstream", "keys"):
            assert accepts(LEAST + ROUTES + json.dumps({name: below})[1:-1].replace("\n", "") + "\n"), name


def with_setting(path: str, value: str) -> str:
    """Return a file with this setting, and else only what is required."""
    sections_of = dict.fromkeys(sections(), "")
    lines = [ROUTES]
    for one, text in (GIVEN | BESIDE.get(path, {}) | {path: value}).items():
        section, _, name = one.rpartition(".")
        if section:
            sections_of[section] += f"  {name}: {text}\n"
        else:
            lines.append(f"{name}: {text}\n")
    return "".join([*lines, *(f"{name}:\n{text}" for name, text in sections_of.items() if text)])


@pytest.mark.parametrize("path", settings())
def test_a_setting_that_check_accepts_is_accepted(path: str) -> None:
    values = [value for value in VALUES if not (settings()[path].many and "$" in value)]
    texts = [text for value in values if accepts(text := with_setting(path, value))]
    assert texts != []
    assert {text: found for text in texts if (found := complaints(text))} == {}


@pytest.mark.parametrize("path", [path for path, setting in settings().items() if setting.many])
def test_an_item_of_a_list_may_be_a_variable(path: str) -> None:
    assert complaints(with_setting(path, "['${NAME}']")) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_route_that_check_accepts_is_accepted(name: str) -> None:
    texts = [text for who in PERMISSIONS if accepts(text := f"{LEAST}routes:\n  {name}: {who}\n")]
    assert (texts == []) == (name in NAMES[-5:])
    assert {text: found for text in texts if (found := complaints(text))} == {}


@pytest.mark.parametrize(
    "lines",
    [
        "routes: {}",
        "routes: {GET /ledgers: ledger:read}",
        'routes: {GET /ledgers: "*:read"}',
        "routes: {get /ledgers: ledgers:read}",
        "routes: {GET /ledgers: {scope: ledgers:read, stemp: none}}",
        "routes: {GET /ledgers: {stamp: none}}",
        "routes: {POST /ledgers: ledgers:write}",
        "routes: {POST /ledgers: {scope: ledgers:write, stamp: bulk}}",
        "routes: {GET /ledgers: {scope: ledgers:read, mode: report-only}}",
        "listne: 127.0.0.1:5001",
        "listen: 5001",
        "listen: []",
        "listen: [5001]",
        "limits: {body: 5MB}",
        "limits: {rate: -1}",
        "timeouts: {head: 10}",
        "keys: {master: maybe}",
        "trusted_proxies: 10.0.0.0/8",
    ],
)
def test_what_an_author_often_gets_wrong_is_underlined(lines: str) -> None:
    text = lines + ("" if lines.startswith("routes") else "\n" + ROUTES)
    assert not accepts(LEAST + text)
    assert complaints(text) != []
