"""A target can be read in one way only, or it is refused."""

from __future__ import annotations

import re
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.policy.targets import parse_target
from gateway.policy.values import Ambiguous, Target


@pytest.mark.parametrize(
    ("raw", "segments"),
    [
        ("/", ("",)),
        ("/ledgers", ("ledgers",)),
        ("/ledgers/", ("ledgers", "")),
        ("/ledgers/ldg_1", ("ledgers", "ldg_1")),
        ("/ledgers/a+b", ("ledgers", "a+b")),
        ("/ledgers/a%20b", ("ledgers", "a b")),
        ("/ledgers/a%252fb", ("ledgers", "a%2fb")),
        ("/ledgers%3fx", ("ledgers?x",)),
        ("/ledgers/%23", ("ledgers", "#")),
        ("/%61pi-keys", ("api-keys",)),
        ("/ledgers/%c3%a9", ("ledgers", "é")),
        ("/ledgers/%C3%A9/", ("ledgers", "é", "")),
        ("/ledgers/%ff", ("ledgers", "\udcff")),
        ("/ledgers/%c0%af", ("ledgers", "\udcc0\udcaf")),
        ("/ledgers/..a", ("ledgers", "..a")),
        ("/ledgers/.a/...", ("ledgers", ".a", "...")),
        ("/ledgers/a.b", ("ledgers", "a.b")),
        ("/{id}/\"<>^`|'", ("{id}", "\"<>^`|'")),
    ],
)
def test_a_path_is_split_into_segments_that_are_decoded_once(raw: str, segments: tuple[str, ...]) -> None:
    assert parse_target(raw) == Target(raw=raw, path=raw, segments=segments, query="")


@pytest.mark.parametrize(
    ("raw", "path", "query"),
    [
        ("/ledgers?", "/ledgers", ""),
        ("/ledgers?limit=1;x", "/ledgers", "limit=1;x"),
        ("/ledgers?limit=1&%zz", "/ledgers", "limit=1&%zz"),
        ("/ledgers?x=..%2f..&y=//", "/ledgers", "x=..%2f..&y=//"),
        ("/ledgers?a?b#c\\d", "/ledgers", "a?b#c\\d"),
        ("/ledgers?\xe9", "/ledgers", "\xe9"),
    ],
)
def test_a_query_is_kept_as_it_is(raw: str, path: str, query: str) -> None:
    assert parse_target(raw) == Target(raw=raw, path=path, segments=("ledgers",), query=query)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("", "not in origin-form"),
        ("*", "not in origin-form"),
        ("ledgers", "not in origin-form"),
        ("?x", "not in origin-form"),
        ("http://core/health", "not in origin-form"),
        ("core:443", "not in origin-form"),
        ("/ledgers/a b", "control byte, blank or byte outside ASCII in the path"),
        ("/ledgers/\x01", "control byte, blank or byte outside ASCII in the path"),
        ("/ledgers/\x7f", "control byte, blank or byte outside ASCII in the path"),
        ("/ledgers\r\n", "control byte, blank or byte outside ASCII in the path"),
        ("/ledgers\n", "control byte, blank or byte outside ASCII in the path"),
        ("/ledgers/\xe9", "control byte, blank or byte outside ASCII in the path"),
        ("/ledgers/\udce9", "control byte, blank or byte outside ASCII in the path"),
        ("/ledgers\\x", "backslash or '#' in the path"),
        ("/ledgers#x", "backslash or '#' in the path"),
        ("/ledgers/%", "bad escape in the path"),
        ("/ledgers/%2", "bad escape in the path"),
        ("/ledgers/%zz", "bad escape in the path"),
        ("/ledgers/%2/f", "bad escape in the path"),
        ("//", "empty segment"),
        ("//ledgers", "empty segment"),
        ("/ledgers//x", "empty segment"),
        ("/ledgers//", "empty segment"),
        ("/%61//x", "empty segment"),
        ("/.", "dot segment"),
        ("/..", "dot segment"),
        ("/./ledgers", "dot segment"),
        ("/ledgers/../api-keys", "dot segment"),
        ("/ledgers/%2e%2e/api-keys", "dot segment"),
        ("/ledgers/.%2E", "dot segment"),
        ("/ledgers/%2e", "dot segment"),
        ("/ledgers%2Fx", "encoded slash or backslash"),
        ("/ledgers/a%2fb", "encoded slash or backslash"),
        ("/ledgers%5cx", "encoded slash or backslash"),
        ("/ledgers%00", "encoded control byte"),
        ("/ledgers%0d%0aX:1", "encoded control byte"),
        ("/ledgers%7f", "encoded control byte"),
        ("/ledgers%1F", "encoded control byte"),
        ("/ledgers?a b", "control byte or blank in the query"),
        ("/ledgers?a\r\nX: 1", "control byte or blank in the query"),
        ("/ledgers?\x7f", "control byte or blank in the query"),
    ],
)
def test_what_two_parsers_could_read_apart_is_ambiguous(raw: str, reason: str) -> None:
    assert parse_target(raw) == Ambiguous(reason)


names = st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="/\\"), min_size=1).filter(
    lambda name: name not in (".", "..")
)


@settings(deadline=None)
@given(st.lists(names, min_size=1), st.booleans())
def test_any_name_survives_its_own_encoding(segments: list[str], trailing: bool) -> None:
    raw = "/" + "/".join(quote(name, safe="") for name in segments) + "/" * trailing
    expected = (*segments, "") if trailing else tuple(segments)
    assert parse_target(raw) == Target(raw=raw, path=raw, segments=expected, query="")


escapes = ("%2e", "%2F", "%5c", "%00", "%7f", "%", "%zz", "%ff", "%41")
pieces = st.sampled_from(
    (*escapes, "/", "//", ".", "..", "\\", "#", "?", "a", "ledgers", ":", "*", " ", "\n", "\x7f", "\xe9")
)


@settings(deadline=None)
@given(st.one_of(st.lists(pieces).map("".join), st.text(st.characters(max_codepoint=255))))
@example("/a\n")
def test_what_is_accepted_can_be_read_one_way_only(raw: str) -> None:
    target = parse_target(raw)
    if isinstance(target, Target):
        assert target.raw == raw
        assert raw in (target.path, f"{target.path}?{target.query}")
        assert re.fullmatch(r"/[!-\"$-\[\]-~]*", target.path)
        assert not re.search(r"[\x00-\x20\x7f]", raw)
        assert len(target.segments) == target.path.count("/")
        assert "" not in target.segments[:-1]
        assert not {".", ".."} & set(target.segments)
        assert not re.search(r"[\x00-\x1f\x7f/\\]", "".join(target.segments))


@settings(deadline=None)
@given(st.lists(st.sampled_from(["a", "ledgers", "%41", ".x", ""]), min_size=1))
def test_the_fast_path_reads_as_the_slow_one_does(segments: list[str]) -> None:
    """An escaped letter at the end forces the slow path; everything before it must be read alike."""
    plain, escaped = (
        parse_target("/" + "/".join([*segments, "a"])),
        parse_target("/" + "/".join([*segments, "%61"])),
    )
    if isinstance(plain, Target):
        assert isinstance(escaped, Target)
        assert plain.segments == escaped.segments
    else:
        assert plain == escaped
