"""The policies that ship: `core` is Core's own, `recommended` differs from it by the edits listed here.

Rules kept here:
- The gateway.yaml that ships is the only list of Core's routes; all else is made of it.
- An edit that finds no line to change is an error: the two cannot drift apart.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Final

from gateway.config.load import parse_config
from gateway.policy.routes import RouteTable

CORE: Final = "core"
RECOMMENDED: Final = "recommended"
PRESETS: Final = (CORE, RECOMMENDED)

EDITS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "POST /ledgers/filter": "[ledgers:read, ledgers:write]             # a read",
        "POST /balances/filter": "[balances:read, balances:write]          # a read",
        "POST /transactions/filter": "[transactions:read, transactions:write]  # a read",
        "POST /identities/filter": "[identities:read, identities:write]      # a read",
        "POST /accounts/filter": "[accounts:read, accounts:write]          # a read",
        "POST /search/{collection}": "[search:read, search:write]  # a read, of any collection",
        "POST /multi-search": "[search:read, search:write]  # a read, of any collection",
        "GET /identities/{id}/detokenize/{field}": "identities:write    # reveals personal data",
        "GET /backup": "master                            # runs pg_dump",
    }
)
"""What `recommended` says instead: route -> the rest of its line."""

_MODELINE: Final = "# yaml-language-server: $schema="
_TITLES: Final = {
    CORE: "# Core's own routes and scopes.",
    RECOMMENDED: "# Core's own routes and scopes, but: filters and searches are reads, revealing personal\n"
    "# data is a write, and backups need the master key.",
}


def shipped() -> str:
    """The gateway.yaml that ships."""
    return resources.files("gateway").joinpath("gateway.yaml").read_text(encoding="utf-8")


def preset(name: str) -> str:
    """The text of a preset, one of `PRESETS`."""
    return edited(shipped(), EDITS) if name == RECOMMENDED else shipped()


def edited(text: str, edits: Mapping[str, str]) -> str:
    """The text of a gateway.yaml with the rest of some routes' lines replaced.

    Raises:
        ValueError: a route does not stand on exactly one line.
    """
    for route, rest in edits.items():
        # The blanks that align a column stay.
        parts = re.split(rf"^(  {re.escape(route)}: +).*$", text, flags=re.MULTILINE)
        if len(parts) != 3:
            raise ValueError(f"{route} does not stand on one line")
        text = "".join((parts[0], parts[1], rest, parts[2]))
    return text


def starting_file(name: str, schema: str) -> str:
    """The text of a new gateway.yaml; `schema` is where an editor finds its JSON Schema."""
    _, _, rest = preset(name).partition("\n")
    return f"{_MODELINE}{schema}\n{_TITLES[name]}\n\n{rest}"


def core_table() -> RouteTable:
    """Every route of Core, with Core's own scopes."""
    return parse_config(preset(CORE).encode(), Path("gateway.yaml"), {}, secrets=False).routes
