"""The files of the chart that follow another file, with the content that they have to have.

A chart can only read its own folder, so it has copies.

Rules kept here:
- The schema of `settings` is that of gateway.yaml, without the settings that the chart sets itself and
  without those that no environment variable can hold.
- The schema of the values requires each switch, and each section with members of its own: an empty one (null)
  takes the defaults away, which the templates need. `resources: null` is how users of helm leave them out.
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
    _require(schema, yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8")))
    return json.dumps(schema, indent=2) + "\n"


def _require(schema: dict[str, Any], values: dict[str, Any]) -> None:
    """Let a schema require the sections and switches that these values have."""
    members = schema["properties"]
    sections = [
        name for name, value in values.items() if isinstance(value, dict) and "properties" in members[name]
    ]
    others = [name for name, value in values.items() if _is_needed(name, value)]
    if required := sorted({*sections, *others}):
        schema["required"] = required
    for name in sections:
        _require(members[name], values[name])


def _is_needed(name: str, value: object) -> bool:
    """Return True for a switch, and for a section that values.yaml fills."""
    return isinstance(value, bool) or (isinstance(value, dict) and bool(value) and name != "resources")


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
