"""The stamper agrees with the recorded contract, and with a plain reading of JSON on generated bodies."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.policy.routes import Stamp
from tests import json_reference as reference
from tests.conftest import examples
from tests.stamping.test_stamp import KEY_ID, MEMBER, STAMPING, Refused, malformed, outcome

CONTRACT = Path(__file__).parents[1] / "contract"
STAMPS = {
    "none": Stamp.NONE,
    "meta_data": Stamp.CREATE,
    "bulk": Stamp.BULK,
    "meta_data_if_present": Stamp.REPLACE,
    "strip": Stamp.MERGE,
}
AMBIGUOUS = malformed(reference.AMBIGUOUS)
QUOTED_KEY_ID = json.dumps(KEY_ID)


def recorded() -> list[Any]:
    """Return the contract's cases about stamps; the limit of a body is tested where bodies are read."""
    cases = map(json.loads, (CONTRACT / "cases.jsonl").read_text().splitlines())
    groups = ("body", "bulk", "money", "attribution")
    return [
        pytest.param(case, id=case["id"])
        for case in cases
        if case["group"] in groups and not case["id"].startswith("body/size")
    ]


def recorded_stamp(method: str, target: str) -> Stamp:
    for route in json.loads((CONTRACT / "routes.json").read_text()):
        pattern = re.sub(r"{\w+}", "[^/]+", route["path"])
        if route["method"] == method and re.fullmatch(pattern, target):
            return STAMPS[route["stamp"]]
    raise LookupError(target)


def sent(body: Any) -> bytes:
    if isinstance(body, dict) and "repeat" in body:
        return "".join(text * times for text, times in body["repeat"]).encode()
    return base64.b64decode(body["base64"]) if isinstance(body, dict) else str(body).encode()


def with_literals(text: bytes) -> Any:
    """Return the JSON value, with numbers as they are written."""
    return json.loads(text, parse_int=lambda digits: [digits], parse_float=lambda digits: [digits])


@pytest.mark.parametrize("case", recorded())
def test_the_contract_holds(case: dict[str, Any]) -> None:
    """Each recorded request is stamped or refused as the contract says."""
    request, expected = case["request"], case["gateway"]
    body = sent(request["body"])
    how = recorded_stamp(request["method"], request["target"])
    optional = request["target"].startswith("/refund-transaction/")
    leaves = outcome(body, how, body_optional=optional)
    if isinstance(leaves, Refused):
        response = expected["answers"]
        assert (leaves.code.code, leaves.message) == (response["code"], response["message"])
        return
    want = expected["forwards"]["body"]
    if want is None:
        assert leaves == body
    elif want["json"] is None:
        assert leaves == body[:-1] + b',"meta_data":{%b}}' % MEMBER
    else:
        assert with_literals(leaves) == with_literals(want["json"].replace("{{key_id}}", KEY_ID).encode())


BLANK = st.sampled_from(["", "", "", " ", "\n\t", "\r"])
# Text between quotes: exact, folded and escaped names, and names that only look reserved.
META_DATA = ["META_DATA", "meta\\u005fdata", "\\u004deta_data", "\\u006d\\u0065ta_data", 'x\\"meta_data']
TRANSACTIONS = ["Transactions", "tran\u017factions", "tran\\u017Factions", "transact\\u0069ons"]
STAMP = ["blnk_generated_by", "BLNK\\u005FGENERATED_BY", "BLN\u212a_GENERATED_BY", 'x\\"BLNK_GENERATED_BY']
OTHER = ["name", "name", "Name", "n\\u0061me", "", "\u00e9", "\\u00e9", "a\\nb", "\\\\u0041", "\\u212a"]
# Lone surrogates, pairs, and text that only looks like one.
SURROGATES = [
    "\\ud83d",
    "x\\uDE00",
    "\\ud83d\\ude00",
    "\\uDFFF\\uD800",
    "\\\\ud83d",
    "\\\\\\uD83D",
    "\\uf83d",
]
SPELLING = st.one_of(
    st.sampled_from(["meta_data", "transactions", "BLNK_GENERATED_BY"]),
    st.sampled_from([*META_DATA, *TRANSACTIONS, *STAMP, *OTHER, *SURROGATES]),
)
NUMBERS = ["1.10", "-0", "1e400", "1E+2", "9007199254740993", "1" * 5000]
STRINGS = ['"\\u0041\\n\\/"', '"meta_data"', '"META_DATA"', '"BLNK_GENERATED_BY"', '"}{][,:"', '"\u017f"']
UNREADABLE = ['"\\ud8zz"', "01", "NaN", '"\x01"']
LITERAL = st.one_of(
    st.sampled_from([*NUMBERS, *STRINGS, *(f'"{text}"' for text in SURROGATES)]),
    st.sampled_from(["true", "null", "{}", "{ }", "[]", "[ ]"]),
    st.sampled_from(["null", "{}", *UNREADABLE]),
)


def objects(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    member = st.builds('{}"{}"{}:{}{}{}'.format, BLANK, SPELLING, BLANK, BLANK, values, BLANK)
    return st.lists(member, max_size=5).map(lambda found: "{" + ",".join(found) + "}")


def arrays(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    element = st.builds("{}{}{}".format, BLANK, values, BLANK)
    return st.lists(element, max_size=3).map(lambda found: "[" + ",".join(found) + "]")


VALUES = st.recursive(LITERAL, lambda inner: st.one_of(objects(inner), arrays(inner)), max_leaves=12)
# Longer than one step of the stamper.
LARGE = [
    '"' + "x" * 9000 + '"',
    '"' + "\\\\\\u0041" * 2000 + '"',
    "[" + '"]",{},' * 2000 + "0]",
    '{"a":' * 300 + "{}" + "}" * 300,
    "{" + '"meta_data":[{}],"\\ud83d":"BLNK_GENERATED_BY",' * 300 + '"":"\u017f"}',
    "7" * 9000,
    "1" + " " * 9000,
]
AROUND = st.sampled_from(["", "", "", "", " ", "\n", "x", "{}", "\x00"])
LARGE_VALUES = st.recursive(
    st.one_of(LITERAL, st.sampled_from(LARGE)),
    lambda inner: st.one_of(objects(inner), arrays(inner)),
    max_leaves=12,
)
LARGE_BODIES = objects(st.one_of(LARGE_VALUES, objects(LARGE_VALUES))).map(str.encode)
BODIES = st.builds("{}{}{}".format, BLANK, objects(st.one_of(VALUES, objects(VALUES))), AROUND).map(
    str.encode
)


def expected_outcome(body: bytes, how: Stamp) -> Refused | list[tuple[str, object]]:
    try:
        text = reference.valid(body)
        return (
            reference.batch(text, KEY_ID) if how is Stamp.BULK else reference.record(text, how.value, KEY_ID)
        )
    except reference.RefusedError as refusal:
        return malformed(str(refusal))


def taken_apart(leaves: bytes | Refused, how: Stamp) -> Refused | list[tuple[str, object]]:
    """Return the stamped body as nested members, as deep as the reference goes."""
    if isinstance(leaves, Refused):
        return leaves
    found: list[tuple[str, object]] = []
    for name, value in reference.members(leaves.decode()):
        if how is Stamp.BULK and name == "transactions":
            items = [taken_apart(item.encode(), Stamp.CREATE) for item in reference.elements(value)]
            found.append((name, items))
        elif how is not Stamp.BULK and name == "meta_data" and value != "null":
            found.append((name, reference.members(value)))
        else:
            found.append((name, value))
    return found


@pytest.mark.parametrize("how", STAMPING)
@examples(100)
@given(body=BODIES)
@example(body=b'{"meta_data":{"BLNK_GENERATED_BY":1},"x\\"meta_data":1}')
@example(body=b'{"met\\u0061_data":{"a":"meta_data"}}')
@example(body=b'{"transactions":[{"transactions":1}],"tr\\u0061nsactions":[{}]}')
@example(body=b'{"meta_data":{"meta_data":1,"a\\u0041":2},"a":"\\u0041"}')
def test_every_other_value_leaves_byte_for_byte_in_order(how: Stamp, body: bytes) -> None:
    """The stamped body has the members that a plain reading predicts, or both refuse the body."""
    assert taken_apart(outcome(body, how), how) == expected_outcome(body, how)


@pytest.mark.parametrize("how", STAMPING)
@examples(60)
@given(body=LARGE_BODIES)
def test_a_large_body_is_read_like_any_other(how: Stamp, body: bytes) -> None:
    """A body that is read in steps, which end at any place in it, is stamped as if it were read whole."""
    assert taken_apart(outcome(body, how), how) == expected_outcome(body, how)


@examples(150)
@given(
    body=st.one_of(BODIES, LARGE_BODIES),
    how=st.sampled_from(STAMPING),
    place=st.one_of(st.integers(0, 200), st.integers(0, 30_000)),
    change=st.one_of(st.binary(max_size=2), st.sampled_from([b'"', b"\\", b"{", b"]", b",", b":"])),
)
def test_a_broken_body_never_passes(body: bytes, how: Stamp, place: int, change: bytes) -> None:
    """With a few bytes changed, a body that is not JSON is refused, and any other is stamped as predicted."""
    place %= len(body)
    broken = body[:place] + change + body[place + 1 :]
    if broken.strip(b" \t\r\n"):
        assert taken_apart(outcome(broken, how), how) == expected_outcome(broken, how)


@examples(150)
@given(body=BODIES)
def test_core_reads_exactly_the_callers_stamp(body: bytes) -> None:
    """Core's decoder, which folds and merges names, finds the caller's stamp in the stamped body."""
    record = outcome(body)
    if isinstance(record, bytes):
        meta_data = reference.core_meta_data(reference.members(record.decode()))
        assert (meta_data or {}).get(reference.STAMP_NAME) == QUOTED_KEY_ID
    batch = outcome(b'{"transactions":[%b,{}],%b' % (body, body.lstrip()[1:]), Stamp.BULK)
    if isinstance(batch, bytes):
        items = reference.core_items(batch.decode())
        assert {(item or {}).get(reference.STAMP_NAME) for item in items} <= {QUOTED_KEY_ID}
    update = outcome(body, Stamp.MERGE)
    if isinstance(update, bytes):
        meta_data = reference.core_meta_data(reference.members(update.decode()))
        assert reference.STAMP_NAME not in (meta_data or {})


@examples(150)
@given(
    character=st.one_of(st.sampled_from("\u017f\u212aMTS\u0130\u0131"), st.characters(codec="utf-8")),
    name=st.sampled_from(["meta_data", "transactions"]),
    place=st.integers(0, 11),
)
def test_only_what_core_folds_is_ambiguous(character: str, name: str, place: int) -> None:
    """A name that encoding/json would not bind to a reserved field is accepted like any other."""
    spelled = name[:place] + character + name[place + 1 :]
    ambiguous = reference.fold(spelled) == name != spelled
    for ascii_only in (True, False):
        body = json.dumps({spelled: [], "a": 1}, ensure_ascii=ascii_only).encode()
        assert (outcome(body, Stamp.BULK) == AMBIGUOUS) is ambiguous
