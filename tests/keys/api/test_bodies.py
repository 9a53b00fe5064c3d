"""Bodies of /api-keys; their texts were recorded from a live Core."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest

from gateway.errors import Code
from gateway.gocompat.times import read_instant
from gateway.keys.api.bodies import read_creation, write_created, write_list
from gateway.keys.new_record import Creation
from gateway.policy.values import Deny
from tests.keys.records import RECORD, instant, revocation

EXPIRES = '"2999-01-02T03:04:05Z"'
GOOD = {"name": '"n"', "scopes": '["ledgers:read"]', "owner": '"acme"', "expires_at": EXPIRES}
CREATION = Creation("n", ("ledgers:read",), "acme", read_instant("2999-01-02T03:04:05Z"))


def body(**members: str | None) -> bytes:
    """Return a good body with some members changed; None removes a member."""
    sent = ",".join(f'"{name}":{value}' for name, value in (GOOD | members).items() if value is not None)
    return f"{{{sent}}}".encode()


def malformed(message: str) -> Deny:
    return Deny(Code.MALFORMED_BODY, message)


def required(*fields: str) -> Deny:
    return malformed(
        "\n".join(
            f"Key: 'CreateAPIKeyRequest.{field}' Error:"
            f"Field validation for '{field}' failed on the 'required' tag"
            for field in fields
        )
    )


def test_a_good_body_is_read() -> None:
    assert read_creation(b" \n" + body()) == CREATION


@pytest.mark.parametrize(
    ("sent", "creation"),
    [
        (body(scopes="[]"), replace(CREATION, scopes=())),
        (body(scopes='[null,"a:b","a:b"]'), replace(CREATION, scopes=("", "a:b", "a:b"))),
        (body(name='" "'), replace(CREATION, name=" ")),
        (body(name='"\\u0001\\ud83d\\ude00"'), replace(CREATION, name="\x01\U0001f600")),
        (body(expires_at='"2999-01-02T03:04:05\\u005a"'), CREATION),
        (body(meta_data='[1,{"a":1e999}]'), CREATION),
    ],
)
def test_values_are_read_as_core_reads_them(sent: bytes, creation: Creation) -> None:
    assert read_creation(sent) == creation


@pytest.mark.parametrize(
    "member", ['"Owner":"victim"', '"OWNER":1', '"\\u017fcopes":["*:*"]', '"SCOPES":["*:*"]']
)
def test_another_spelling_of_a_member_is_an_unknown_member(member: str) -> None:
    assert read_creation(body()[:-1] + f",{member}}}".encode()) == CREATION


def test_an_escaped_name_is_the_same_name() -> None:
    assert read_creation(body(owner=None)[:-1] + b',"own\\u0065r":"acme"}') == CREATION


@pytest.mark.parametrize("first", ['"name":1', '"owner":"victim"', '"scopes":["*:*"]', '"expires_at":"x"'])
def test_the_last_of_repeated_members_counts(first: str) -> None:
    assert read_creation(f"{{{first},".encode() + body()[1:]) == CREATION


@pytest.mark.parametrize(
    ("sent", "fields"),
    [
        (b"{}", ("Name", "Scopes", "Owner", "ExpiresAt")),
        (b"null", ("Name", "Scopes", "Owner", "ExpiresAt")),
        (body(name=None), ("Name",)),
        (body(name='""'), ("Name",)),
        (body(name="null"), ("Name",)),
        (body(owner='""', name=None), ("Name", "Owner")),
        (body(owner="null"), ("Owner",)),
        (body(scopes=None), ("Scopes",)),
        (body(scopes="null"), ("Scopes",)),
        (body(expires_at="null"), ("ExpiresAt",)),
        (body(expires_at='"0001-01-01T00:00:00Z"'), ("ExpiresAt",)),
    ],
)
def test_missing_members_are_named_in_cores_order(sent: bytes, fields: tuple[str, ...]) -> None:
    assert read_creation(sent) == required(*fields)


@pytest.mark.parametrize(
    ("member", "value", "text"),
    [
        ("name", "1.5", "number into Go struct field CreateAPIKeyRequest.name of type string"),
        ("name", "1e999", "number into Go struct field CreateAPIKeyRequest.name of type string"),
        ("owner", "true", "bool into Go struct field CreateAPIKeyRequest.owner of type string"),
        ("owner", "false", "bool into Go struct field CreateAPIKeyRequest.owner of type string"),
        ("name", "[]", "array into Go struct field CreateAPIKeyRequest.name of type string"),
        ("name", "{}", "object into Go struct field CreateAPIKeyRequest.name of type string"),
        ("scopes", '"a:b"', "string into Go struct field CreateAPIKeyRequest.scopes of type []string"),
        ("scopes", '["a:b",1]', "number into Go struct field CreateAPIKeyRequest.scopes of type string"),
        ("scopes", "[[]]", "array into Go struct field CreateAPIKeyRequest.scopes of type string"),
    ],
)
def test_a_member_of_a_wrong_type_is_refused_with_the_text_of_go(member: str, value: str, text: str) -> None:
    assert read_creation(body(**{member: value})) == malformed(f"json: cannot unmarshal {text}")


@pytest.mark.parametrize("value", ["1", "true", "[]", "{}"])
def test_a_time_that_is_no_string_is_refused_with_the_text_of_go(value: str) -> None:
    assert read_creation(body(expires_at=value)) == malformed(
        "Time.UnmarshalJSON: input is not a JSON string"
    )


def test_a_bad_time_is_named_first_and_wrong_types_in_the_order_of_the_body() -> None:
    parse = 'parsing time "x" as "2006-01-02T15:04:05Z07:00": cannot parse "x" as "2006"'
    owner = "json: cannot unmarshal number into Go struct field CreateAPIKeyRequest.owner of type string"
    assert read_creation(b'{"owner":1,"name":1,"expires_at":"x"}') == malformed(parse)
    assert read_creation(b'{"owner":1,"name":1}') == malformed(owner)


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        (b"", "EOF"),
        (b" \n", "EOF"),
        (b'{"name":1,"owner"', "unexpected EOF"),
        (b"{name:1}", "invalid character 'n' looking for beginning of object key string"),
        (b"[1}", "invalid character '}' after array element"),
        (b"[{}]", "json: cannot unmarshal array into Go value of type model.CreateAPIKeyRequest"),
        (b'"s"', "json: cannot unmarshal string into Go value of type model.CreateAPIKeyRequest"),
        (b"1", "json: cannot unmarshal number into Go value of type model.CreateAPIKeyRequest"),
        (b"true", "json: cannot unmarshal bool into Go value of type model.CreateAPIKeyRequest"),
    ],
)
def test_a_body_that_is_no_object_is_refused_with_the_text_of_go(sent: bytes, text: str) -> None:
    assert read_creation(sent) == malformed(text)


@pytest.mark.parametrize(
    "sent",
    [
        body() + b" x",
        body() + body(),
        body() + b"\0",
        body(name='"\\ud800"'),
        body().replace(b'"n"', b'"\xff"'),
        body(x="[" * 5000 + "]" * 5000),
        b"[" * 70_000,
    ],
)
def test_a_body_that_core_would_repair_is_refused(sent: bytes) -> None:
    assert read_creation(sent) == malformed("Request body must be one JSON object")


def test_the_201_has_the_key_and_the_order_of_core() -> None:
    record = replace(
        RECORD, name="<b>&\"'/\u2028\u2029\x01\b\x7f\u00e9", expires_at=instant("2999-01-02T03:04:05.5+02:00")
    )
    assert write_created(record, "KEY=") == (
        b'{"api_key_id":"api_key_00000000-0000-4000-8000-000000000001","key":"KEY=",'
        b'"name":"\\u003cb\\u003e\\u0026\\"\'/\\u2028\\u2029\\u0001\\b\x7f\xc3\xa9","owner_id":"acme",'
        b'"scopes":["ledgers:read"],"expires_at":"2999-01-02T03:04:05.5+02:00",'
        b'"created_at":"2026-01-01T00:00:00Z","last_used_at":"0001-01-01T00:00:00Z","is_revoked":false}'
    )


async def test_the_list_has_no_key_and_the_times_that_postgresql_keeps() -> None:
    record = replace(
        RECORD,
        scopes=(),
        expires_at=instant("2999-01-02T03:04:05.123456789+05:30"),
        revocation=revocation("2026-01-03T00:00:00Z", ""),
    )
    assert await write_list([record]) == (
        b'[{"api_key_id":"api_key_00000000-0000-4000-8000-000000000001","key":"","name":"n","owner_id":"acme",'
        b'"scopes":[],"expires_at":"2999-01-01T21:34:05.123457Z","created_at":"2026-01-01T00:00:00Z",'
        b'"last_used_at":"0001-01-01T00:00:00Z","is_revoked":true,"revoked_at":"2026-01-03T00:00:00Z"}]'
    )


async def test_an_empty_list_is_null() -> None:
    assert await write_list([]) == b"null"


async def test_only_a_disabled_key_has_is_disabled() -> None:
    assert b"is_disabled" not in await write_list([RECORD])
    assert b'"is_revoked":false,"is_disabled":true}]' in await write_list([replace(RECORD, disabled=True)])


async def test_a_long_list_lets_other_tasks_run() -> None:
    """A list of 30,000 keys is written in slices, and other tasks run in between."""
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(other())
    body = await write_list([RECORD] * 30_000)
    beside.cancel()
    assert len(json.loads(body)) == 30_000
    assert turns > 100
