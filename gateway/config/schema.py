"""Makes the JSON Schema of gateway.yaml for editors, from the settings, scopes, stamps and Core's routes.

Rules kept here:
- The schema refuses nothing that `check` accepts, so no valid file is underlined. Only `check` decides.
- It is of draft 7, the newest that the YAML language server supports completely.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from gateway.config import (
    addresses,
    model,
    peers,
    rates,
    report_only_dates,
    secret_values,
    unix_addresses,
    urls,
    values,
)
from gateway.config.presets import core_table
from gateway.config.rendering import rendered
from gateway.config.route_reader import ACCESS, SCOPES
from gateway.config.setting import Setting
from gateway.config.values import choice, count, sequence
from gateway.policy.key_checksum import MAX_PREFIX
from gateway.policy.routes import ADDED, METHODS, Route, Stamp, expected_stamp
from gateway.policy.terms import MOST

Schema = dict[str, Any]

_REFERENCE: Final[Mapping[str, str]] = MappingProxyType(
    {"type": "string", "pattern": r"\$\{[A-Za-z_][A-Za-z0-9_]*\}"}
)
"""An environment variable may take the place of any value."""

_DATE: Final = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
_DURATION: Final = r"^[0-9]{1,9}(ms|s|m|h)$"
_RATE: Final = r"^[0-9]{1,9}$|^[0-9]{1,7}/[smh]$"
_PATTERNS: Final[Mapping[Callable[..., Any], str]] = MappingProxyType(
    {
        addresses.listen_address: r"^(unix:/.+|(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5})$",
        addresses.address: r"^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}$",
        values.deadline: _DURATION,
        values.duration: _DURATION,
        values.size: r"^[0-9]{1,12}(B|KiB|MiB|GiB)$",
        urls.upstream_url: r"^[Hh][Tt][Tt][Pp][Ss]?://[^/]",
        secret_values.secret: r"^[!-~]+$",
        values.path: r".",
        peers.trusted_peers: r"^([0-9A-Fa-f:.]+(%[^/]+)?(/[0-9.]+)?|unix:?)$",
        unix_addresses.mode: r"^0?[0-7]{3}$",
        urls.store_url: r"^(memory://$|rediss?(\+sentinel|\+cluster)?://)",
        urls.database_url: r"^postgres(ql)?://",
        values.key_prefix: rf"^[a-z][a-z0-9_]{{0,{MAX_PREFIX - 2}}}_$",
        urls.collector_url: r"^[Hh][Tt][Tt][Pp][Ss]?://[^/]+/.",
    }
)
"""The texts that each parser accepts."""

_OPTIONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "scope": "Who may call it.",
        "stamp": "Where the caller's key id goes: create: meta_data of the new record; bulk: of every item "
        "of transactions; replace: meta_data, if it is sent; merge: a client's stamp is removed; none.",
        "body": "optional: an empty body is replaced by a body with the stamp.",
        "first_byte": "The time until the first byte of Core's response, instead of timeouts.first_byte.",
        "mode": "report-only: until its date, requests that only lack the scope are let pass and reported.",
        "until": "The last day of report-only, in UTC and in quotes, at most 30 days ahead.",
    }
)


def schema() -> Schema:
    """Return the schema of a whole file."""
    properties: Schema = {}
    for path, setting in model.settings().items():
        section, _, name = path.rpartition(".")
        place = properties
        if section:
            place = properties.setdefault(section, _object({}))["properties"]
        place[name] = _setting(setting)
    for name, kind in model.sections().items():
        properties[name]["description"] = kind.__doc__
    properties["routes"] = _routes()
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "gateway.yaml of Blnk Gateway",
        "definitions": _definitions(),
        # A required setting may come from the environment; routes never do.
        "required": ["routes"],
        **_object(properties),
    }


def _object(properties: Schema) -> Schema:
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _setting(setting: Setting) -> Schema:
    found = {"description": setting.plain_doc, **_value(setting.parse)}
    if setting.example:
        return found | {"examples": [setting.example]}
    if not setting.default or setting.mapped:
        return found
    if isinstance(setting.parse, sequence):
        return found | {"default": list(setting.default)}
    is_plain = isinstance(setting.default, int) and setting.parse is not values.size
    is_plain = is_plain or setting.parse is values.ratio
    return found | {"default": setting.default if is_plain else rendered(setting, setting.default)}


def _value(parse: Callable[..., Any]) -> Schema:
    if isinstance(parse, sequence):
        return {"type": "array", "items": _value(parse.parse)}
    if parse is addresses.addresses:
        one = _value(addresses.listen_address)["anyOf"]
        return {"anyOf": [*one, {"type": "array", "minItems": 1, "items": {"anyOf": one}}]}
    if parse is values.flag:
        return {"anyOf": [{"enum": [True, False, "true", "false"]}, dict(_REFERENCE)]}
    if isinstance(parse, choice):
        return {"anyOf": [{"enum": list(parse.known)}, dict(_REFERENCE)]}
    if isinstance(parse, count):
        digits = {"type": "string", "pattern": "^[0-9]{1,9}$"}
        number = {"type": "integer", "minimum": parse.least, "maximum": parse.most}
        return {"anyOf": [number, digits, dict(_REFERENCE)]}
    if parse is values.ratio:
        digits = {"type": "string", "pattern": r"^[01](\.[0-9]{1,9})?$"}
        return {"anyOf": [{"type": "number", "minimum": 0, "maximum": 1}, digits, dict(_REFERENCE)]}
    if parse is rates.rate:
        text = {"type": "string", "pattern": _RATE}
        return {"anyOf": [{"type": "integer", "minimum": 0, "maximum": MOST}, text, dict(_REFERENCE)]}
    if parse is report_only_dates.key_dates:
        date = {"anyOf": [{"type": "string", "pattern": _DATE}, dict(_REFERENCE)]}
        keys = {**_object({}), "patternProperties": {"^api_key_": date}}
        # A file may also have them as a variable has them: as text, or as a list of texts.
        return {"anyOf": [keys, {"type": "array", "items": {"type": "string"}}, {"type": "string"}]}
    text = {"type": "string", "pattern": _PATTERNS[parse]}
    zero = [{"const": 0}] if parse is values.duration else []
    return {"anyOf": [text, *zero, dict(_REFERENCE)]}


def _definitions() -> Schema:
    scope = {"enum": list(SCOPES)}
    alone = {"enum": list(ACCESS)}
    many = {"type": "array", "minItems": 1, "uniqueItems": True, "items": _ref("scope")}
    members: Schema = {
        "scope": _ref("who"),
        "stamp": {"enum": [stamp.value for stamp in Stamp]},
        "body": {"enum": ["optional"]},
        "first_byte": {"type": "string", "pattern": _DURATION},
        "mode": {"enum": [report_only_dates.MODE]},
        "until": {"type": "string", "pattern": _DATE},
    }
    options = _object(
        {name: {"description": text, "allOf": [members[name]]} for name, text in _OPTIONS.items()}
    )
    return {
        "scope": {"description": "A key with this scope.", **scope},
        "alone": {"description": "public: anyone; master: the master key; deny: nobody.", **alone},
        "who": {"anyOf": [_ref("scope"), _ref("alone"), many]},
        "options": {
            **options,
            "required": ["scope"],
            "dependencies": {"mode": ["until"], "until": ["mode"]},
        },
        "route": {"anyOf": [_ref("who"), _ref("options")]},
    }


def _ref(name: str) -> Schema:
    return {"$ref": f"#/definitions/{name}"}


def _routes() -> Schema:
    methods = "|".join(sorted(METHODS))
    return {
        "description": "METHOD /path: who may call it. What is not listed is refused.",
        "minProperties": 1,
        **_object({route.name: _core_route(route) for route in core_table().routes}),
        "patternProperties": {f"^({methods}) /\\S*$": _ref("route")},
    }


def _core_route(route: Route) -> Schema:
    who = " or ".join(route.scopes) or route.access.value
    if (route.method, route.shape) in ADDED:
        text = "Core has no such route: the gateway serves it."
        return {"description": text, "default": who, "allOf": [_ref("route")]}
    expected = expected_stamp(route)
    if expected is None:
        return {"description": f"Core: {who}.", "default": who, "allOf": [_ref("route")]}
    named = {
        "required": ["scope", "stamp"],
        "properties": {"stamp": {"enum": [expected.value, Stamp.NONE.value]}},
    }
    unstamped = {"required": ["scope"], "properties": {"scope": _ref("alone")}}
    stamped = {"anyOf": [_ref("alone"), {"type": "object", **named}, {"type": "object", **unstamped}]}
    default = {"scope": who, "stamp": route.stamp.value}
    if route.body_optional:
        default["body"] = "optional"
    return {
        "description": f"Core: {who}; it writes meta_data here, so the stamp must be named.",
        "default": default,
        "allOf": [_ref("route"), stamped],
    }
