"""Commands on a real Redis in which the record of one key cannot be read, such as one of a newer version."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import Result

from gateway.keys.record import KeyRecord
from gateway.keys.record_json import to_members
from gateway.keys.redis.names import id_name, key_name
from tests.conftest import Keys, Stored
from tests.keys.records import GLOBEX, KEY_ID, OTHER, RECORD
from tests.redis_server import RedisServer

pytestmark = pytest.mark.redis

NEWER = replace(RECORD, id=f"{KEY_ID}7", digest="7" * 64)
NAME = key_name(NEWER.digest).decode()
REASON = f"{NAME} in Redis holds no record that can be read"
ADVICE = (
    "where nothing else is said, use the blnk-gateway of the newest version that uses this store; if it "
    "cannot read them either, they are damaged, and 'redis-cli DEL NAME' removes what a name holds. A key is "
    "lost with its record: mint a new one. Where keys.authority is core, the old key works again without its "
    "revocation and its terms, until you revoke it"
)


@pytest.fixture
def redis_with_newer(redis_server: RedisServer, stored: Stored) -> RedisServer:
    """A Redis with four keys, one of which has a term that this version does not know."""
    stored(lambda store: store.add_all([RECORD, OTHER, GLOBEX, NEWER]))
    put(redis_server, json.dumps({**to_members(NEWER), "terms": {"of_a_newer_version": 1}}))
    return redis_server


def put(redis: RedisServer, text: str | bytes) -> None:
    """Set the value under the name of the fourth key."""
    assert redis.command("SET", NAME, text) == b"+OK\r\n"


def ids(result: Result) -> list[str]:
    return [record["id"] for record in json.loads(result.stdout)]


@pytest.mark.usefixtures("redis_with_newer")
@pytest.mark.parametrize(
    ("arguments", "listed"),
    [
        ((), [OTHER, RECORD, GLOBEX]),
        (("--owner", "acme"), [OTHER, RECORD]),
        (("--state", "live", "--unused-since", "2026-01-01T12:00:00Z"), [RECORD, GLOBEX]),
    ],
)
def test_a_list_has_the_keys_that_can_be_read_and_names_the_other_one(
    keys: Keys, arguments: tuple[str, ...], listed: list[KeyRecord]
) -> None:
    result = keys("list", *arguments, "--output", "json")
    assert sorted(ids(result)) == sorted(record.id for record in listed)
    assert result.exit_code == 3
    assert result.stderr.splitlines() == [
        f"{NEWER.id}: its record is left out: {REASON}",
        f"records that cannot be read: 1; {ADVICE}",
    ]


@pytest.mark.parametrize(
    "text",
    ["", "{", '{"id":7}', '{"id":"\\u001b[31m"}', "[]", b"\xff", '{"x":' + "[" * 100_000],
    ids=["empty", "cut", "a number", "a control", "a list", "no UTF-8", "nested"],
)
def test_what_names_no_key_is_named_by_its_place(
    keys: Keys, redis_with_newer: RedisServer, text: str | bytes
) -> None:
    put(redis_with_newer, text)
    result = keys("list")
    assert result.exit_code == 3
    assert result.stderr.splitlines()[0] == f"an unknown key: its record is left out: {REASON}"


@pytest.mark.usefixtures("redis_with_newer")
def test_an_export_has_the_keys_that_can_be_read_and_names_the_other_one(keys: Keys) -> None:
    result = keys("export")
    exported = [json.loads(line)["id"] for line in result.stdout.splitlines()]
    assert sorted(exported) == sorted(record.id for record in (RECORD, OTHER, GLOBEX))
    assert result.exit_code == 3
    assert result.stderr.splitlines()[0] == f"{NEWER.id}: its record is left out: {REASON}"


@pytest.mark.usefixtures("redis_with_newer")
def test_all_other_keys_of_an_owner_are_revoked(keys: Keys, stored: Stored) -> None:
    result = keys("revoke", "--owner", "acme", "--yes")
    assert result.exit_code == 3
    assert sorted(result.stdout.splitlines()) == [f"{RECORD.id}\trevoked", f"{OTHER.id}\trevoked"]
    assert result.stderr.splitlines() == [
        "revoked keys of acme: 2",
        f"{NEWER.id}: not revoked: {REASON}",
        f"records that cannot be read: 1; {ADVICE}",
    ]
    records: list[KeyRecord] = stored(lambda store: store.get_many([RECORD.id, OTHER.id]))
    assert [record.revoked for record in records] == [True, True]


@pytest.mark.usefixtures("redis_with_newer")
def test_a_command_for_that_key_alone_fails(keys: Keys) -> None:
    result = keys("revoke", NEWER.id)
    assert (result.exit_code, result.stdout) == (3, "")
    assert REASON in result.stderr


@pytest.mark.parametrize("led_to", [b"\xff", OTHER.digest], ids=["no digest", "another key"])
def test_a_key_whose_id_leads_elsewhere_is_revoked_once_it_was_imported_again(
    keys: Keys, stored: Stored, redis_server: RedisServer, tmp_path: Path, led_to: str | bytes
) -> None:
    """Until then all other keys of its owner are revoked, and what fails says what to do."""
    stored(lambda store: store.add_all([RECORD, OTHER]))
    redis_server.command("SET", id_name(RECORD.id), led_to)
    first = keys("revoke", "--owner", "acme", "--yes")
    assert (first.exit_code, first.stdout) == (3, "")
    assert (
        "'blnk-gateway keys export --digests' and 'blnk-gateway keys import' write it again" in first.stderr
    )
    states: list[KeyRecord] = stored(lambda store: store.owned("acme"))
    assert {record.id: record.revoked for record in states} == {RECORD.id: False, OTHER.id: True}

    file = tmp_path / "keys.jsonl"
    file.write_text(keys("export", "--digests").stdout)
    assert keys("import", str(file)).exit_code == 0
    again = keys("revoke", "--owner", "acme", "--yes")
    assert (again.exit_code, again.stdout) == (0, f"{RECORD.id}\trevoked\n")
