"""The files of the chart that follow another file, with the content that they have to have.

A chart can only read its own folder, so it has copies.

Rules kept here:
- The schema of `settings` is that of gateway.yaml, without the settings that the chart sets itself and
  without those that no environment variable can hold.
- The schema of the values requires each switch, each value with a default that is not empty, and each section
  with members of its own: null takes the default away, which the templates need. `resources: null` is how
  users of helm leave them out.
"""

from __future__ import annotations

import json
from typing import Any

import yaml

from tests.running import ROOT

CHART = ROOT / "deploy" / "helm" / "blnk-gateway"
COMMAND = "python3 -m tests.deploy"
COPIES = {
    "files/gateway.yaml": "gateway.yaml",
    "files/alerts.yaml": "deploy/prometheus/alerts.yaml",
}
SCHEMA = "values.schema.json"
_MAY_BE_NULL = "resources"
SET_BY_THE_CHART = frozenset(
    {
        "listen",
        "listen_mode",
        "admin",
        "health",
        "admin_token_file",
        "upstream.url",
        "upstream.master_key",
        "upstream.master_key_file",
        "upstream.master_key_next_file",
        "keys.store",
        "keys.core_database",
        "tls.certificate",
        "tls.key",
        "tls.client_ca",
        "tls.listeners",
        "upstream.ca_file",
        "upstream.certificate",
        "upstream.key",
    }
)


def expected() -> dict[str, str]:
    """Return the content of each file of the chart that follows another one, by its path in the chart."""
    copies = {path: (ROOT / source).read_text(encoding="utf-8") for path, source in COPIES.items()}
    return copies | {SCHEMA: _schema_of_values()}


def _schema_of_values() -> str:
    schema = json.loads((CHART / SCHEMA).read_text(encoding="utf-8"))
    gateway = json.loads((ROOT / "deploy" / "gateway.schema.json").read_text(encoding="utf-8"))
    schema["properties"]["settings"] = _settings(gateway, "")
    _require(
        schema, yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8")), schema["definitions"]
    )
    return json.dumps(schema, indent=2) + "\n"


def _require(schema: dict[str, Any], values: dict[str, Any], definitions: dict[str, Any]) -> None:
    """Let a schema require those of these values that the templates need."""
    members = {name: _defined(schema["properties"][name], definitions) for name in values}
    if required := sorted(name for name, value in values.items() if _is_needed(name, value, members[name])):
        schema["required"] = required
    for name, value in values.items():
        if "properties" in members[name] and name != _MAY_BE_NULL:
            _require(members[name], value, definitions)


def _defined(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the definition that a schema refers to, or the schema itself."""
    reference: str = schema.get("$ref", "")
    return definitions[reference.rpartition("/")[2]] if reference else schema


def _is_needed(name: str, value: object, schema: dict[str, Any]) -> bool:
    """Return True for a switch, a section with members of its own, and a value that is not empty."""
    is_needed = isinstance(value, bool) or bool(value) or "properties" in schema
    return is_needed and name != _MAY_BE_NULL


def _settings(section: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Return the schema of the settings of one section that a value of the chart may give."""
    members = {
        name: _settings(member, f"{prefix}{name}.") if "properties" in member else member
        for name, member in section["properties"].items()
        if f"{prefix}{name}" not in SET_BY_THE_CHART and _fits_a_variable(member)
    }
    left = {name: member for name, member in members.items() if member.get("properties") != {}}
    return {"type": "object", "additionalProperties": False, "properties": left}


def _fits_a_variable(member: dict[str, Any]) -> bool:
    """Return True for a section, and for a setting whose value is no mapping; not for the routes."""
    if "properties" in member:
        return not member.get("patternProperties") and member.get("additionalProperties") is False
    return all(form.get("type") != "object" for form in member.get("anyOf", [member]))
