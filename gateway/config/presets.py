"""The presets of the package: `core` has Core's own policy, `recommended` applies the edits below to it.

Rules kept here:
- The packaged gateway.yaml is the only list of Core's routes; the presets are made from it.
- An edit that finds no line to change is an error, so the edits cannot become outdated unnoticed.
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
"""The edits of `recommended`: route -> the new rest of its line."""

_MODELINE: Final = "# yaml-language-server: $schema="
_TITLES: Final = {
    CORE: "# Core's own routes and scopes.",
    RECOMMENDED: "# Core's own routes and scopes, but: filters and searches are reads, revealing personal\n"
    "# data is a write, and backups need the master key.",
}


def shipped() -> str:
    """Return the text of the packaged gateway.yaml."""
    return resources.files("gateway").joinpath("gateway.yaml").read_text(encoding="utf-8")


def preset(name: str) -> str:
    """Return the text of a preset, one of `PRESETS`."""
    return edited(shipped(), EDITS) if name == RECOMMENDED else shipped()


def edited(text: str, edits: Mapping[str, str]) -> str:
    """Return the text of a gateway.yaml, with the rest of the line of some routes replaced.

    Raises:
        ValueError: a route is not on exactly one line.
    """
    for route, rest in edits.items():
        # The blanks that align the column are kept.
        parts = re.split(rf"^(  {re.escape(route)}: +).*$", text, flags=re.MULTILINE)
        if len(parts) != 3:
            raise ValueError(f"{route} is not on exactly one line")
        text = "".join((parts[0], parts[1], rest, parts[2]))
    return text


def starting_file(name: str, schema: str) -> str:
    """Return the text of a new gateway.yaml; `schema` is the URL or path of its JSON Schema."""
    _, _, rest = preset(name).partition("\n")
    return f"{_MODELINE}{schema}\n{_TITLES[name]}\n\n{rest}"


def core_table() -> RouteTable:
    """Return every route of Core, with Core's own scopes, and those that the gateway adds."""
    return parse_config(preset(CORE).encode(), Path("gateway.yaml"), {}, secrets=False).routes
