"""Stamping adds the stamp to a JSON body and changes nothing else."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest

from gateway.errors import Code, GatewayError
from gateway.policy.routes import Stamp
from gateway.proxy.errors import code_of, message_of
from gateway.stamping.batches import MAX_ITEMS
from gateway.stamping.json_text import MAX_DEPTH
from gateway.stamping.reserved_names import MAX_REPEATED
from gateway.stamping.stamp import stamp, stamp_at_once, stamp_in_steps

T = TypeVar("T")
KEY_ID = "api_key_0b8a7c1e-8f5d-4b6a-9d3e-2f1a0c9b8d7e"
MEMBER = b'"BLNK_GENERATED_BY":"%b"' % KEY_ID.encode()
LIMIT = 6 * 1024 * 1024
RECORDS = [Stamp.CREATE, Stamp.REPLACE, Stamp.MERGE]
STAMPING = [*RECORDS, Stamp.BULK]


@dataclass(frozen=True)
class Refused:
    """The outcome of a body that is refused."""

    code: Code
    message: str


def outcome(body: bytes, how: Stamp = Stamp.CREATE, **options: Any) -> bytes | Refused:
    """Return the result for a body by all forms of stamping, which must agree where they have one."""
    options.setdefault("max_length", LIMIT)
    whole = _caught(lambda: stamp(body, how, KEY_ID, **options))
    assert _caught(lambda: _finished(stamp_in_steps(body, how, KEY_ID, **options))) == whole
    assert _caught(lambda: stamp_at_once(body, how, KEY_ID, **options)) in (None, whole)
    return whole


def _caught(call: Callable[[], T]) -> T | Refused:
    try:
        return call()
    except GatewayError as error:
        return Refused(code_of(error), message_of(error))


def _finished(steps: Generator[None, None, bytes]) -> bytes:
    while True:
        try:
            next(steps)
        except StopIteration as done:
            return bytes(done.value)


def malformed(message: str) -> Refused:
    return Refused(Code.MALFORMED_BODY, message)


@pytest.mark.parametrize(
    ("body", "leaves"),
    [
        (b"{}", b'{"meta_data":{%b}}'),
        (b" \r\n\t{ } \n", b' \r\n\t{ "meta_data":{%b}} \n'),
        (b'{"name":"x"}', b'{"name":"x","meta_data":{%b}}'),
        (b'{"meta_data":null,"a":1}', b'{"meta_data":{%b},"a":1}'),
        (b'{"meta_data" :\t{} , "a":1}', b'{"meta_data" :\t{%b} , "a":1}'),
        (b'{"meta_data":{ "a" : 1.10 }}', b'{"meta_data":{ "a" : 1.10 ,%b}}'),
        (b'{"meta_data":{"a":1,"BLNK_GENERATED_BY":"forged","b":2}}', b'{"meta_data":{"a":1,"b":2,%b}}'),
        (b'{"meta_data":{"BLNK_GENERATED\\u005fBY":"forged"}}', b'{"meta_data":{%b}}'),
        (b'{"meta_data":{"\\u0061":1}}', b'{"meta_data":{"\\u0061":1,%b}}'),
        (b'{"meta_data":{"blnk_generated_by":1}}', b'{"meta_data":{"blnk_generated_by":1,%b}}'),
        (b'{"met\\u0061_data":{"a":1},"b": 2}', b'{"met\\u0061_data":{"a":1,%b},"b": 2}'),
        (b'{"meta_data":{"f":1},"a":1,"meta_data":{"c":3}}', b'{"a":1,"meta_data":{"c":3,%b}}'),
        (b'{"meta_data":1,"meta_data":{"c":3}}', b'{"meta_data":{"c":3,%b}}'),
        (b'{"meta_data":{"c":3},"meta_data":{"c":3}}', b'{"meta_data":{"c":3,%b}}'),
        (
            b'{"in":{"meta_data":{"c":3}},"meta_data":{"c":3}}',
            b'{"in":{"meta_data":{"c":3}},"meta_data":{"c":3,%b}}',
        ),
        (b'{"in":{"meta_data":{"META_DATA":1}}}', b'{"in":{"meta_data":{"META_DATA":1}},"meta_data":{%b}}'),
        (b'{"a":"meta_data","meta_data":{}}', b'{"a":"meta_data","meta_data":{%b}}'),
        (b'{"name":1,"Name":2,"name":3}', b'{"name":1,"Name":2,"name":3,"meta_data":{%b}}'),
    ],
)
def test_a_created_record_names_its_creator(body: bytes, leaves: bytes) -> None:
    """The caller's stamp is the only one in meta_data, which exists once; every other byte stays."""
    assert outcome(body) == leaves.replace(b"%b", MEMBER)


@pytest.mark.parametrize(
    ("body", "leaves"),
    [
        (b'{"meta_data":{"a":1}}', b'{"meta_data":{"a":1,%b}}'),
        (b'{"meta_data":{}}', b'{"meta_data":{%b}}'),
        (b'{"meta_data":{"BLNK_GENERATED_BY":1}}', b'{"meta_data":{%b}}'),
        (b' {"first_name" : "B"} ', b' {"first_name" : "B"} '),
        (b' {"meta_data" : null} ', b' {"meta_data" : null} '),
        (b'{"meta_data":{"f":1},"meta_data":null}', b'{"meta_data":null}'),
    ],
)
def test_a_replaced_meta_data_names_its_writer(body: bytes, leaves: bytes) -> None:
    """A body with meta_data, which replaces the stored one, is stamped; a body without it stays as it is."""
    assert outcome(body, Stamp.REPLACE) == leaves.replace(b"%b", MEMBER)


@pytest.mark.parametrize(
    ("body", "leaves"),
    [
        (b' {"meta_data" : { "a":1} }', b' {"meta_data" : { "a":1} }'),
        (b'{"meta_data":{"\\u0061":1}}', b'{"meta_data":{"\\u0061":1}}'),
        (b'{"\\u0061":1,"meta_data":{}}', b'{"\\u0061":1,"meta_data":{}}'),
        (b"{ }", b"{ }"),
        (b'{"meta_data":null}', b'{"meta_data":null}'),
        (b'{"meta_data":{"a":1,"BLNK_GENERATED_BY":"forged"}}', b'{"meta_data":{"a":1}}'),
        (b'{"meta_data":{"BLNK_GENERATED_BY":1,"BLNK_GENERATED_B\\u0059":2}}', b'{"meta_data":{}}'),
        (b'{"meta_data":{"BLNK_GENERATED_BY":1},"meta_data":{"c":3}}', b'{"meta_data":{"c":3}}'),
    ],
)
def test_a_merged_meta_data_carries_no_stamp(body: bytes, leaves: bytes) -> None:
    """A client's stamp is removed from a meta_data that Core merges, so the creator's stamp is kept."""
    assert outcome(body, Stamp.MERGE) == leaves


@pytest.mark.parametrize(
    ("body", "leaves"),
    [
        (
            b'{"transactions":[{"a":1.10},{"meta_data":null}, { "meta_data":{"BLNK_GENERATED_BY":1,"b":2}}]}',
            b'{"transactions":[{"a":1.10,"meta_data":{%b}},{"meta_data":{%b}}, { "meta_data":{"b":2,%b}}]}',
        ),
        (b' {"transactions":[ ]}', b' {"transactions":[ ]}'),
        (b' {"skip_queue":true}', b' {"skip_queue":true}'),
        (b'{"transactions":[{"f":1}],"transactions":[]}', b'{"transactions":[]}'),
        (b'{"transactions":null,"transact\\u0069ons":[{}]}', b'{"transact\\u0069ons":[{"meta_data":{%b}}]}'),
        (
            b'{"transactions":[{}],"meta_data":{"BLNK_GENERATED_BY":1}}',
            b'{"transactions":[{"meta_data":{%b}}],"meta_data":{"BLNK_GENERATED_BY":1}}',
        ),
    ],
)
def test_each_item_of_a_batch_names_its_creator(body: bytes, leaves: bytes) -> None:
    """Every item is stamped; meta_data of the batch itself, which Core drops, is forwarded as it came."""
    assert outcome(body, Stamp.BULK) == leaves.replace(b"%b", MEMBER)


@pytest.mark.parametrize("how", list(Stamp))
@pytest.mark.parametrize("body", [b"", b" \r\n\t"])
def test_a_blank_body_leaves_as_it_is(how: Stamp, body: bytes) -> None:
    """An empty body is forwarded, because Core decides how to respond to it."""
    assert outcome(body, how) == body


@pytest.mark.parametrize("body", [b"", b" \r\n\t"])
def test_an_optional_body_is_made_where_it_is_blank(body: bytes) -> None:
    """A refund without a body would inherit the creator's stamp, so the gateway writes one."""
    assert outcome(body, body_optional=True) == b'{"meta_data":{%b}}' % MEMBER


def test_an_optional_body_that_was_sent_is_stamped() -> None:
    """A body that was sent is stamped as usual with `body: optional`."""
    assert outcome(b"{}", body_optional=True) == b'{"meta_data":{%b}}' % MEMBER


def test_a_route_without_a_stamp_leaves_any_body_alone() -> None:
    """With `none` the body is not read."""
    assert outcome(b"\xff not JSON", Stamp.NONE) == b"\xff not JSON"


@pytest.mark.parametrize("how", STAMPING)
@pytest.mark.parametrize(
    "body",
    [
        *(b"null", b"[]", b"1", b'"x"', b"{", b"{'a':1}", b'{"a":1,}', b'{"a":1}{}', b'{"a":1},'),
        *(b'{"a":1}\x00', b'{"a":1}\x0b', b"\x0b", b'\xef\xbb\xbf{"a":1}', b'{"a":NaN}', b'{"a":-Infinity}'),
        *(b'{"a":01}', b'{"a":1.}', b'{"a":.5}', b'{"a":+1}', b'{"a":-}', b'{"a":1e}', b'{"a":0x1}'),
        *(b'{"a":"\\x"}', b'{"a":"\\u12"}', b'{"a":"\n"}', b'{"a":"\x00"}', b'{"a":[1 2]}', b'{"a":tru}'),
        *(b'{"a":"\xff"}', b'{"\xff":1}', b'{"a":["\xed\xa0\x80"]}', b'{"a":"\xc0\x80"}'),
        *(b'{"a":"\\ud8zz"}', b'{"a":"\\ud83"}', b'{"a":"\\uD83d\\u"}', b'{"\\ud80":1}'),
        b'{"a":%b%b}' % (b"[" * 200_000, b"]" * 200_000),
        b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xab\xae\x05\x00",
    ],
)
def test_what_is_not_one_json_object_is_refused(how: Stamp, body: bytes) -> None:
    """A body that Core reads in another way than a strict parser is refused."""
    assert outcome(body, how) == malformed("Request body must be one JSON object")


@pytest.mark.parametrize(
    ("how", "body"),
    [(how, b'{"meta_data":%b}' % value) for how in RECORDS for value in (b"[]", b'"s"', b"1", b"true")]
    + [(Stamp.BULK, b'{"transactions":[{},{"meta_data":[]}]}')],
)
def test_meta_data_of_another_type_is_refused(how: Stamp, body: bytes) -> None:
    """Only null and an object can be meta_data."""
    assert outcome(body, how) == malformed("meta_data must be a JSON object")


@pytest.mark.parametrize("value", [b"null", b"{}", b'"s"', b"1", b"[null]", b"[{},1]", b"[[]]"])
def test_transactions_of_another_type_are_refused(value: bytes) -> None:
    """A batch with an item that cannot be stamped is refused."""
    body = b'{"transactions":%b}' % value
    assert outcome(body, Stamp.BULK) == malformed("transactions must be an array of objects")


@pytest.mark.parametrize(
    ("how", "body"),
    [
        *((how, b'{"meta_data":{},"META_DATA":{}}') for how in RECORDS),
        *((how, b'{"Meta_Data":null}') for how in STAMPING),
        *((how, b'{"\\u004deta_data":1,"a":{}}') for how in STAMPING),
        (Stamp.BULK, b'{"transactions":[{}],"TRANSACTIONS":[]}'),
        (Stamp.BULK, '{"tran\u017factions":[{}]}'.encode()),
        (Stamp.BULK, b'{"tran\\u017Factions":[{}],"transactions":[{}]}'),
        (Stamp.BULK, b'{"transactions":[{"META_DATA":{}}]}'),
    ],
)
def test_a_folded_spelling_of_a_reserved_name_is_refused(how: Stamp, body: bytes) -> None:
    """Another spelling is refused, because Core would bind it to the same field as the stamp."""
    assert outcome(body, how) == malformed("Ambiguous spelling of a reserved field")


def test_exactly_the_limit_of_items_is_stamped() -> None:
    """Core accepts 10,000 items; the decoder that counts items and the plain one agree."""
    few, many = (b'{"transactions":[%b]}' % b",".join([b'{"a":1,"b":2}'] * n) for n in (2, MAX_ITEMS))
    item = b'{"a":1,"b":2,"meta_data":{%b}}' % MEMBER
    assert outcome(few, Stamp.BULK) == b'{"transactions":[%b]}' % b",".join([item] * 2)
    assert outcome(many, Stamp.BULK) == b'{"transactions":[%b]}' % b",".join([item] * MAX_ITEMS)


@pytest.mark.parametrize("item", [b"{}", b"null", b'{"a":[{},{}]}'])
def test_more_items_than_the_limit_are_refused(item: bytes) -> None:
    """The refusal has Core's own message."""
    body = b'{"transactions":[%b]}' % b",".join([item] * (MAX_ITEMS + 1))
    assert outcome(body, Stamp.BULK) == Refused(Code.BULK_LIMIT, "too many transactions; max is 10000")


@pytest.mark.parametrize("how", list(Stamp)[1:])
def test_what_leaves_is_never_longer_than_the_limit(how: Stamp) -> None:
    """One byte too many is refused with both sizes, whether the client or the gateway added it."""
    body = b'{"transactions":[{}],"meta_data":{"a":1}}'
    leaves = outcome(body, how)
    assert isinstance(leaves, bytes)
    assert outcome(body, how, max_length=len(leaves)) == leaves
    sizes = "41 bytes" if leaves == body else f"41 bytes, {len(leaves)} with the stamp"
    assert outcome(body, how, max_length=len(leaves) - 1) == Refused(
        Code.BODY_TOO_LARGE,
        f"Request body too large: {sizes}; Blnk Core takes at most {len(leaves) - 1}",
    )


@pytest.mark.parametrize("name", ["meta_data", "transactions"])
def test_a_reserved_name_repeated_too_often_is_refused(name: str) -> None:
    """Of a repeated reserved name only the last is kept, and too many repetitions are refused."""
    members = [b'"%b":null' % name.encode()] * (MAX_REPEATED - 1)
    repeated = outcome(b'{%b,"transactions":[{}]}' % b",".join(members), Stamp.BULK)
    assert isinstance(repeated, bytes)
    assert repeated.count(b"null") == (name == "meta_data")
    assert outcome(b'{%b,"transactions":[{}]}' % b",".join(members * 2), Stamp.BULK) == malformed(
        "Too many repetitions of a reserved field"
    )


MANY = b",".join(b'"%06d":1' % n for n in range(10_001))


def test_any_number_of_names_is_looked_at() -> None:
    """A body with many members is accepted, whatever escapes and repeated names it has."""
    assert outcome(b"{%b}" % MANY) == b'{%b,"meta_data":{%b}}' % (MANY, MEMBER)
    inner = b'{"meta_data":{"\\u0061":1,%b' % MANY
    assert outcome(inner + b"}}") == inner + b",%b}}" % MEMBER
    assert outcome(b'{"meta_data":{%b},"\\u0061":1}' % MANY) == (
        b'{"meta_data":{%b,%b},"\\u0061":1}' % (MANY, MEMBER)
    )
    assert outcome(b'{"a":{%b},"meta_data":{"meta_data":1}}' % MANY) == (
        b'{"a":{%b},"meta_data":{"meta_data":1,%b}}' % (MANY, MEMBER)
    )
    assert outcome(b'{"meta_data":{"BLNK_GENERATED_BY":1,%b}}' % MANY) == (
        b'{"meta_data":{%b,%b}}' % (MANY, MEMBER)
    )
    assert outcome(b'{"\\u0061":1,"transactions":[{%b}]}' % MANY, Stamp.BULK) == (
        b'{"\\u0061":1,"transactions":[{%b,"meta_data":{%b}}]}' % (MANY, MEMBER)
    )


LONE = [rb"\ud83d", rb"\uDE00", rb"\uDFFF", rb"\ud800x", rb"\ud83d\u0041", rb"\ud83d\ud83d", rb"\\\uD83D"]
WHOLE = [rb"\ud83d\ude00", rb"\\ud83d", rb"\ufffd", rb"\uf83d", rb"\uD7FF"]


@pytest.mark.parametrize("text", [*LONE, *WHOLE])
def test_a_surrogate_passes_byte_for_byte(text: bytes) -> None:
    """A lone surrogate, which JSON.stringify may write and Go reads as U+FFFD, is forwarded as it came."""
    for body in (
        b'{"a":"%b"}',
        b'{"a":[{"b":"%b"}]}',
        b'{"%b":1}',
        b'{"a":"%b","b":"%b"}'.replace(b"%b", text, 1),
    ):
        sent = body % text
        assert outcome(sent) == sent[:-1] + b',"meta_data":{%b}}' % MEMBER
        batch = b'{"transactions":[%b]}'
        assert outcome(batch % sent, Stamp.BULK) == batch % (sent[:-1] + b',"meta_data":{%b}}' % MEMBER)
    for how in RECORDS:
        sent = b'{"meta_data":{"%b":"%b","BLNK_GENERATED_BY":"%b"}}' % (text, text, text)
        stamp = b"" if how is Stamp.MERGE else b"," + MEMBER
        assert outcome(sent, how) == b'{"meta_data":{"%b":"%b"%b}}' % (text, text, stamp)


def test_a_surrogate_hides_no_stamp() -> None:
    """A client's own stamp is found beside a lone surrogate."""
    body = rb'{"x":"\\\ud83d","meta_data":{"\ud83d":1,"BLNK\u005fGENERATED_BY":"\ud83d","b":"\\ud83d"}}'
    assert outcome(body) == rb'{"x":"\\\ud83d","meta_data":{"\ud83d":1,"b":"\\ud83d",%b}}'.replace(
        b"%b", MEMBER
    )


def test_a_large_item_is_stamped_like_any_other() -> None:
    """An item that is larger than a step is stamped in several steps."""
    item = b'{"a":"%b"' % (b"x" * 100_000)
    assert outcome(b'{"transactions":[%b}]}' % item, Stamp.BULK) == (
        b'{"transactions":[%b,"meta_data":{%b}}]}' % (item, MEMBER)
    )


@pytest.mark.parametrize("how", STAMPING)
def test_five_hundred_levels_are_read(how: Stamp) -> None:
    """At least 500 levels of nesting pass."""
    body = b'{"transactions":[{"zz":%b%b}],"meta_data":{"zz":%b%b}}' % ((b"[" * 498, b"]" * 498) * 2)
    leaves = outcome(body, how)
    assert isinstance(leaves, bytes)
    assert leaves.count(b"[" * 498 + b"]" * 498) == 2


NESTING = {
    "arrays": lambda depth: b'{"a":%b%b}' % (b"[" * (depth - 1), b"]" * (depth - 1)),
    "objects": lambda depth: b'{"a":' * (depth - 1) + b"{}" + b"}" * (depth - 1),
    "meta_data": lambda depth: b'{"meta_data":{"a":%b%b}}' % (b"[" * (depth - 2), b"]" * (depth - 2)),
    "behind brackets in strings": lambda depth: (
        b'{"]\\"]":"]]]]\\\\","b":"[","":"","a":%b%b}' % (b"[" * (depth - 1), b"]" * (depth - 1))
    ),
    "far behind": lambda depth: (
        b'{"z":[%b"[]"],"a":%b%b}' % (b'"]",[],' * 30_000, b"[" * (depth - 1), b"]" * (depth - 1))
    ),
}


@pytest.mark.parametrize("how", RECORDS)
@pytest.mark.parametrize("nested", NESTING.values(), ids=NESTING.keys())
def test_how_deep_a_body_may_be_nested_is_the_stampers_to_say(
    how: Stamp, nested: Callable[[int], bytes]
) -> None:
    """The same nesting limit applies on every version of Python."""
    assert isinstance(outcome(nested(MAX_DEPTH), how), bytes)
    for depth in (MAX_DEPTH + 1, 11_000, 200_000):
        assert outcome(nested(depth), how) == malformed("Request body must be one JSON object")


@pytest.mark.parametrize("pad", range(4))
def test_brackets_in_strings_nest_nothing(pad: int) -> None:
    """Brackets in strings do not count as nesting, wherever a step ends within an escape."""
    body = b'{"a":"%b","b":["%b"],"c":"\\"%b","d":%b1%b}' % (
        *(b"[{" * 50_000, b"\\\\[" * 50_000, b"[" * 50_000),
        *(b"[" * 400, b"]" * 400),
    )
    body = body.replace(b'"a"', b'"%b"' % (b"a" * pad), 1)
    assert outcome(body) == body[:-1] + b',"meta_data":{%b}}' % MEMBER
