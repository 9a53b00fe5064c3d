"""The author of a change: who makes it, by which way, and for which request."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final


class Way(enum.StrEnum):
    """The way by which a change is made."""

    HTTP = "http"
    CLI = "cli"
    IMPORT = "import"
    PRUNE = "prune"
    CORE = "core"
    GATEWAY = "gateway"


@dataclass(frozen=True, slots=True)
class Author:
    """Who makes changes.

    Attributes:
        by: a key id, `master`, `cli:` and a login, `core` for a change that was seen in Core's table, or
            `gateway` for what the gateway does by itself.
        way: how it is made.
        request_id: the request that makes it; "" for none.
        client: the address of that request's client; "" for none.
    """

    by: str
    way: Way
    request_id: str = ""
    client: str = ""


THE_GATEWAY: Final = Author("gateway", Way.GATEWAY)
CORE: Final = Author("core", Way.CORE)
"""Changes that were made in Core's table, and are only repeated here."""
