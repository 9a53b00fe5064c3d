"""The confused deputy: what a scoped key sends, the gateway does with Core's master key and its own store.

Rules kept here:
- What may be done is worked out here from the sender of the request: its owner and its scopes.
- The store is checked as well as the response; nothing of `/api-keys` ever reaches Core.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.conftest import examples
from tests.hostile.conftest import Stage
from tests.raw_client import Response

pytestmark = pytest.mark.asyncio(loop_scope="module")

HELD = ("api-keys:*", "ledgers:read", "balances:*")  # the scopes of mallory's key `minter`
LATER = "2099-01-01T00:00:00Z"

OWNERS = [
    "mallory",
    "alice",
    "",
    "Mallory",
    "ALICE",
    " alice",
    "alice ",
    "alice\x00",
    "mallory\x00alice",
    "*",
]
OWNERS += ["\u0430lice", "al\u0131ce", "mallory,alice", "mallory&owner=alice", "mallory/../alice", "master"]
GRANTS = ["ledgers:read", "balances:write", "api-keys:write", "balances:*", "api-keys:*"]
BROADER = ["*:*", "ledgers:*", "ledgers:write", "*:read", "hooks:read", "balances", "balances:", ":read", "*"]
BROADER += [
    "balances:*:*",
    "BALANCES:READ",
    "balances :read",
    "balances:read ledgers:write",
    "ledgers:read\x00",
]
BROADER += ["balance\u017f:read", "ledgers:r\u0435ad", "", "ledgers:read,ledgers:write"]

MEMBERS = {
    "owner": ["Owner", "OWNER", "owner_id", "ow\\u006eer", "\\u004fwner", "owner ", "owner\\u0000"],
    "scopes": ["Scopes", "SCOPES", "\u017fcopes", "scope\\u017f", "\\u0073copes", "scope"],
    "expires_at": ["Expires_At", "EXPIRE\u017f_AT", "expiresAt"],
    "name": ["Name", "n\\u0061me"],
}
LIKE_MEMBERS = [*("key", "is_revoked", "api_key_id", "created_by", "Key", "__proto__"), *MEMBERS]

owners = st.one_of(st.just("mallory"), st.just("alice"), st.sampled_from(OWNERS)).map(json.dumps)
scope_lists = st.lists(st.sampled_from(GRANTS) | st.sampled_from([*GRANTS, *BROADER]), max_size=3).map(
    json.dumps
)
VALUES: dict[str, st.SearchStrategy[str]] = {
    "owner": owners | st.sampled_from(["null", "1", '["alice"]', '{"owner":"alice"}']),
    "scopes": scope_lists | st.sampled_from(["null", "[]", '"*:*"', '[["*:*"]]', "[null]", "{}"]),
    "expires_at": st.sampled_from([f'"{LATER}"'] * 3 + ['"2999-12-31T23:59:59Z"', "null", "1", '""']),
    "name": st.sampled_from(['"k"', '"k"', '""', "null"]),
}


@st.composite
def creations(draw: st.DrawFn) -> str:
    """Bodies of POST /api-keys: every member, some twice, some spelled otherwise, in any order."""
    found = [f'"{name}":{draw(values)}' for name, values in VALUES.items()]
    for name in draw(st.lists(st.sampled_from(list(MEMBERS)), max_size=3)):
        spelling = draw(st.sampled_from([name, *MEMBERS[name]]))
        found.append(f'"{spelling}":{draw(VALUES[name])}')
    if draw(st.booleans()):
        found.append(f'"{draw(st.sampled_from(LIKE_MEMBERS))}":{draw(owners)}')
    behind = draw(st.sampled_from(["", "", "", "", " ", "{}", "x", "\x00"]))
    return "{" + ",".join(draw(st.permutations(found))) + "}" + behind


def granted(scope: str) -> bool:
    """Return whether mallory's `minter` may grant the scope: each part is its own, or under its `*`."""
    parts = scope.split(":")
    return (
        len(parts) == 2
        and all(parts)
        and any(
            resource == parts[0] and action in (parts[1], "*")
            for resource, action in (held.split(":") for held in HELD)
        )
    )


async def owned(stage: Stage, owner: str) -> list[Any]:
    return list(await stage.running.gateway.store.owned(owner))


async def ask(stage: Stage, method: str, target: str, **more: Any) -> Response:
    """Return the response to mallory's `minter`; assert that alice's keys stay and that Core got nothing."""
    before = await owned(stage, "alice")
    response = await stage.running.ask(method, target, key=stage.key("minter"), **more)
    assert await owned(stage, "alice") == before
    assert [record.revocation for record in before] == [None]
    assert stage.forwarded() == []
    return response


@examples(300)
@given(body=creations())
@example(body=f'{{"name":"k","scopes":[],"expires_at":"{LATER}","owner":"mallory","Owner":"alice"}}')
@example(body=f'{{"name":"k","owner":"mallory","expires_at":"{LATER}","scopes":[],"\u017fcopes":["*:*"]}}')
@example(body=f'{{"name":"k","owner":"mallory","expires_at":"{LATER}","scopes":["balances:*:*"]}}')
async def test_no_key_is_minted_for_another_owner_or_with_more_scopes(stage: Stage, body: str) -> None:
    """A minted key belongs to the caller's owner, and holds no scope that the caller does not."""
    before = len(await owned(stage, "mallory"))
    response = await ask(stage, "POST", "/api-keys", body=body.encode())
    if response.status != 201:
        assert response.status in (400, 403)
        assert len(await owned(stage, "mallory")) == before
        return
    stage.running.secrets.discard(response.json()["key"])
    record = await stage.running.gateway.store.get(response.json()["api_key_id"])
    assert record is not None
    assert (record.owner, record.created_by) == ("mallory", stage.keys["minter"].id)
    assert [scope for scope in record.scopes if not granted(scope)] == []
    assert (response.json()["owner_id"], tuple(response.json()["scopes"])) == ("mallory", record.scopes)
    assert len(await owned(stage, "mallory")) == before + 1


NAMES = ["owner", "owner", "Owner", "OWNER", "%6fwner", "%6Fwner", "owner[]", "owner%00", "+owner", "owner+"]
NAMES += ["owner%20", "owner.id", "%u006fwner", "o%77ner", "owner%zz"]
SEPARATORS = ["&", "&", "&", ";", "&&", "?", "&amp;", ",", "%26", "/"]
SENT = ["alice", "mallory", "", "ALICE", "%61lice", "alice%00", "alice+", "+alice", "mallory%26owner=alice"]
SENT += ["al%69ce", "alice%zz", "*", "%2a", "mallory%00alice", "%ff"]


@st.composite
def queries(draw: st.DrawFn) -> str:
    pairs = draw(st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(SENT)), min_size=1, max_size=3))
    text = ""
    for name, value in pairs:
        text += (draw(st.sampled_from(SEPARATORS)) if text else "") + f"{name}={value}"
    return text


@examples(150)
@given(query=queries())
@example(query="owner=mallory&owner=alice")
@example(query="owner=alice&owner=mallory")
@example(query="owner=mallory;owner=alice")
async def test_no_other_owners_keys_are_listed(stage: Stage, query: str) -> None:
    """No list shows keys of another owner, however `owner` is spelled, repeated or cut."""
    response = await ask(stage, "GET", f"/api-keys?{query}")
    if response.status == 200:
        assert {item["owner_id"] for item in response.json()} == {"mallory"}
        assert {item["key"] for item in response.json()} == {""}
    else:
        assert (response.status, response.code) == (403, "AUTH_CROSS_OWNER_ACCESS")


PATHS = [
    "{}",
    "{}",
    "%61pi_key_{uuid}",
    "./{}",
    "x/../{}",
    "%2e%2e/{}",
    "x%2f..%2f{}",
    "{}/",
    "{};x",
    "{}%00",
]
PATHS += ["{}%20", "%20{}", "{}?x", "{}#", "API_KEY_{uuid}", "{}/x", "/{}", "%2f{}", "{own},{}", "{own}/{}"]
PATHS += ["{own}%26{}", "{own}%0d%0aX: {}", "*", "", "{upper}", "\\{}", "{own}/../{}", "{own}%2f..%2f{}"]


@examples(150)
@given(path=st.sampled_from(PATHS), query=st.one_of(st.just(""), queries().map("?{}".format)))
@example(path="{}", query="?owner=alice")
@example(path="{}", query="?owner=mallory&owner=alice")
@example(path="{}", query="")
async def test_no_other_owners_key_is_revoked(stage: Stage, path: str, query: str) -> None:
    """No key of another owner is revoked, however its id is spelled, or the path around it."""
    victim, own = stage.keys["victim"].id, stage.keys["reader"].id
    spelled = path.replace("{}", victim).replace("{uuid}", victim[8:]).replace("{upper}", victim.upper())
    response = await ask(stage, "DELETE", f"/api-keys/{spelled.replace('{own}', own)}{query}")
    assert response.status in (400, 403, 404)
    for name in ("victim", "reader"):
        record = await stage.running.gateway.store.get(stage.keys[name].id)
        assert record is not None
        assert record.revocation is None


METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "get", "Post", "TRACE", "X"]
OVERRIDES = [
    "X-HTTP-Method-Override",
    "X-Method-Override",
    "X-Original-URL",
    "X-Rewrite-URL",
    "X-Forwarded-Prefix",
]


@examples(150)
@given(
    method=st.sampled_from(METHODS),
    path=st.sampled_from(
        ["hooks", "hooks/x", "api-keys", "api-keys/x/y", "backup-s3", "balances-snapshots", "metrics"]
    ),
    header=st.sampled_from(OVERRIDES),
    value=st.sampled_from(["GET", "POST", "DELETE", "/ledgers", "/hooks", "/api-keys"]),
)
@example(method="GET", path="hooks", header="X-Original-URL", value="/ledgers")
async def test_no_scope_opens_what_is_the_master_keys(
    stage: Stage, method: str, path: str, header: str, value: str
) -> None:
    """No scope, not even `*:*`, opens a master-key route, by any method or by a header of other servers."""
    body = b"{}" if method in ("POST", "PUT", "PATCH") else None
    headers = [(header, value)]
    response = await stage.running.ask(method, f"/{path}", key=stage.key("all"), headers=headers, body=body)
    served = path == "api-keys" and method in ("GET", "POST")
    assert response.status in ((200, 400) if served else (400, 403, 404))
    assert stage.forwarded() == []
