"""Generated JSON bodies: at every stamped place Core reads the caller, or the body was refused.

Rules kept here:
- Core's reading is `tests.json_reference`: names fold, repeated members merge, later over earlier.
- The body of the stamper's own tests is sent whole, chunked, cut and damaged.
"""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests import json_reference as reference
from tests.conftest import examples
from tests.hostile.conftest import Stage
from tests.raw_client import chunked, request
from tests.stamping.test_reference import BODIES, LARGE_BODIES, SURROGATES, VALUES, arrays, objects

pytestmark = pytest.mark.asyncio(loop_scope="module")

CREATING = ["/ledgers", "/balances", "/transactions", "/identities", "/accounts", "/refund-transaction/x"]
REFUSALS = {
    (400, "GEN_MALFORMED_REQUEST", reference.NOT_AN_OBJECT),
    (400, "GEN_MALFORMED_REQUEST", reference.NOT_META_DATA),
    (400, "GEN_MALFORMED_REQUEST", reference.NOT_ITEMS),
    (400, "GEN_MALFORMED_REQUEST", reference.AMBIGUOUS),
}

nested = st.sampled_from([1, 40, 700, 790, 810, 3000]).flatmap(
    lambda depth: st.sampled_from([("[", "1", "]"), ('{"meta_data":', "{}", "}"), ('{"a":', "[]", "}")]).map(
        lambda parts: parts[0] * depth + parts[1] + parts[2] * depth
    )
)
batches = st.builds('{{"transactions":{},"a":1}}'.format, arrays(objects(VALUES)))
documents = st.one_of(
    BODIES,
    LARGE_BODIES,
    batches.map(str.encode),
    st.builds('{{"meta_data":{},"a":{}}}'.format, objects(VALUES), nested).map(str.encode),
)
marks = st.one_of(
    st.binary(max_size=2),
    st.sampled_from([b'"', b"\\", b"{", b"}", b",", b":", b"\xc5\xbf", *map(str.encode, SURROGATES)]),
)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Documents, some with bytes overwritten."""
    body = draw(documents)
    if draw(st.integers(0, 3)):
        return body
    at = draw(st.integers(0, len(body)))
    return body[:at] + draw(marks) + body[at + draw(st.integers(0, 2)) :]


async def sent(stage: Stage, method: str, target: str, body: bytes, *, pieces: int) -> bytes | None:
    """Return what reached Core of a body, or None if it was refused as in the catalogue."""
    stage.forwarded()
    key = stage.key("all")
    if pieces:
        size = len(body) // pieces + 1
        data = request(method, target, key=key, headers=[("Transfer-Encoding", "chunked")])
        data += chunked(*(body[at : at + size] for at in range(0, len(body), size)))
    else:
        data = request(method, target, key=key, body=body)
    async with await stage.running.connect() as client:
        response = await client.call(data)
    got = stage.forwarded()
    if response.status == 200:
        assert [was.complete for was in got] == [True]
        return bytes(got[0].body)
    assert (response.status, response.code, response.json()["error"]) in REFUSALS
    assert got == []
    return None


def stamps(meta_data: dict[str, str] | None) -> str | None:
    return (meta_data or {}).get(reference.STAMP_NAME)


pieces = st.sampled_from([0, 0, 1, 3, 50])


@examples(300)
@given(body=bodies(), target=st.sampled_from(CREATING), pieces=pieces)
@example(body=b"null", target="/identities", pieces=0)
@example(body=b"", target="/refund-transaction/x", pieces=1)
@example(body=b'{"meta_data":{"BLNK_GENERATED_BY":"forged"},"META_DATA":null}', target="/ledgers", pieces=0)
@example(body=b'{"a":1} {"meta_data":{}}', target="/transactions", pieces=3)
@example(body=rb'{"meta\ud83d_data":1,"meta_data":{"\ud83d":"\ud83d"}}', target="/ledgers", pieces=0)
@example(body=rb'{"\\ud83d":{"meta_data":1},"met\u0061_data":{"\\\uDE00":1}}', target="/ledgers", pieces=1)
async def test_what_is_created_names_its_caller(stage: Stage, body: bytes, target: str, pieces: int) -> None:
    """A created document names its caller alone, once Core has folded and merged what it got."""
    got = await sent(stage, "POST", target, body, pieces=pieces)
    if got is None:
        return
    if not got.strip(b" \t\r\n"):
        assert (got, target) != (body, "/refund-transaction/x")
        return
    found = reference.members(reference.valid(got))
    assert stamps(reference.core_meta_data(found)) == json.dumps(stage.keys["all"].id)
    assert [reference.fold(name) for name, _ in found].count("meta_data") == 1
    (meta_data,) = (value for name, value in found if name == "meta_data")
    assert [name for name, _ in reference.members(meta_data)].count(reference.STAMP_NAME) == 1


@examples(200)
@given(body=bodies() | batches.map(str.encode), pieces=pieces)
@example(
    body=b'{"transactions":[{}],"tran\\u017factions":[{"meta_data":{"BLNK_GENERATED_BY":"x"}}]}', pieces=0
)
@example(body=b'{"transactions":[{}],"transactions":[{},null]}', pieces=0)
async def test_each_item_of_a_batch_names_its_caller(stage: Stage, body: bytes, pieces: int) -> None:
    """Each item of a batch names its caller, whatever other lists of transactions the body has."""
    got = await sent(stage, "POST", "/transactions/bulk", body, pieces=pieces)
    if got is not None and got.strip(b" \t\r\n"):
        items = reference.core_items(reference.valid(got))
        assert {stamps(item) for item in items} <= {json.dumps(stage.keys["all"].id)}


@examples(150)
@given(body=bodies(), pieces=pieces)
@example(body=b'{"meta_data":null,"Meta_Data":{"BLNK_GENERATED_BY":"forged"}}', pieces=0)
async def test_what_is_replaced_names_its_writer(stage: Stage, body: bytes, pieces: int) -> None:
    """A replaced meta_data object names its writer; where Core keeps the stored one, no stamp is sent."""
    got = await sent(stage, "PUT", "/identities/x", body, pieces=pieces)
    if got is not None and got.strip(b" \t\r\n"):
        meta_data = reference.core_meta_data(reference.members(reference.valid(got)))
        assert meta_data is None or stamps(meta_data) == json.dumps(stage.keys["all"].id)


@examples(150)
@given(body=bodies(), pieces=pieces)
@example(body=b'{"meta_data":{"BLNK\\u005fGENERATED_BY":"forged"}}', pieces=0)
async def test_what_is_merged_carries_no_stamp(stage: Stage, body: bytes, pieces: int) -> None:
    """A merged document carries no stamp, since the creator's stays in Core."""
    got = await sent(stage, "POST", "/x/metadata", body, pieces=pieces)
    if got is not None and got.strip(b" \t\r\n"):
        assert stamps(reference.core_meta_data(reference.members(reference.valid(got)))) is None
