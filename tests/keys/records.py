"""Records for tests."""

from __future__ import annotations

from dataclasses import replace

from gateway.keys.minting import digest
from gateway.keys.store import KeyRecord

KEY_ID = "api_key_00000000-0000-4000-8000-00000000000"

RECORD = KeyRecord(
    id=f"{KEY_ID}1",
    digest=digest("first"),
    name="n",
    owner="acme",
    scopes=("ledgers:read",),
    expires_at="2999-01-02T03:04:05Z",
    created_at="2026-01-01T00:00:00Z",
    created_by="master",
)
OTHER = replace(RECORD, id=f"{KEY_ID}2", digest=digest("second"), created_at="2026-01-02T00:00:00Z")
GLOBEX = replace(RECORD, id=f"{KEY_ID}3", digest=digest("third"), owner="globex")
PENDING = replace(
    RECORD,
    id=f"{KEY_ID}4",
    digest=f"pending:{KEY_ID}4",
    owner="initech",
    created_by="core",
    prefix="AAAAAAAAAAAAAAAA",
    # Of 43 A and "=", in the fewest rounds.
    bcrypt="$2b$04$NFUb7Qr2wyVEZlbwPNGkaOO5SX08QFOnobkpWzWfO0qAd9FcdJlQi",
)
