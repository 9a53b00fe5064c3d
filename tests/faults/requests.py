"""The requests of the load; each has a reference of its own, by which the upstream recognises it."""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass

from tests.raw_client import request

OWNER = "faults"


class Kind(enum.Enum):
    """A kind of request: what it does, and how its body is sent."""

    READ = "r"
    CREATE = "c"
    SPLIT = "s"  # a create whose body comes in two segments
    STREAM = "u"  # a POST that is not stamped, so that it is streamed; its body in two segments
    MINT = "m"  # a new key, which the gateway itself writes into the key store
    STRANGER = "x"  # a read with an unknown key, which is looked up in the key store


@dataclass(frozen=True, slots=True)
class Key:
    """A scoped key of the gateway."""

    key: str
    id: str


@dataclass(frozen=True, slots=True)
class Request:
    """A request with `key`; Core's response pauses before its end for `hold` seconds."""

    reference: str
    kind: Kind
    key: Key
    hold: float = 0.0

    def pieces(self, master_key: str) -> tuple[bytes, bytes]:
        """Return its bytes: those that are sent at once, and those that follow a moment later."""
        query = f"ref={self.reference}" + (f"&hold={self.hold}" if self.hold else "")
        if self.kind in (Kind.READ, Kind.STRANGER):
            target = f"/transactions/reference/{self.reference}?{query}"
            return request("GET", target, key=self.key.key), b""
        if self.kind is Kind.MINT:
            body = json.dumps(key_wanted(self.reference, ["ledgers:read"])).encode()
            whole = request("POST", "/api-keys", key=master_key, body=body)
        else:
            target = "/transactions/filter" if self.kind is Kind.STREAM else "/transactions"
            body = json.dumps({"reference": self.reference, "precise_amount": 10**30}).encode()
            whole = request("POST", f"{target}?{query}", key=self.key.key, body=body)
        split = len(whole) - len(body) // 2 if self.kind in (Kind.SPLIT, Kind.STREAM) else len(whole)
        return whole[:split], whole[split:]


def key_wanted(name: str, scopes: list[str]) -> dict[str, object]:
    """Return the body of a request for a new key."""
    return {"name": name, "owner": OWNER, "scopes": scopes, "expires_at": "2099-01-01T00:00:00Z"}
