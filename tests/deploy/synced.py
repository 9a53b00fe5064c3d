"""The files of the chart that follow another file, with the content that they have to have.

A chart can only read its own folder, so it has copies.

Rules kept here:
- The schema of `settings` is that of gateway.yaml, without the settings that the chart sets itself and
  without those that no environment variable can hold.
"""

from __future__ import annotations

import json
from typing import Any

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
    return json.dumps(schema, indent=2) + "\n"


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
