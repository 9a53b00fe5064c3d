"""Texts that are not JSON get the messages of Go, as recorded from a live Core."""

from __future__ import annotations

import pytest

from gateway.gocompat.json_errors import syntax_fault


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (b"", "EOF"),
        (b" \t\r\n", "EOF"),
        (b"{", "unexpected EOF"),
        (b'{"name":"n', "unexpected EOF"),
        (b'{"name":"n"', "unexpected EOF"),
        (b'["\\', "unexpected EOF"),
        (b'["\\u12', "unexpected EOF"),
        (b"tru", "unexpected EOF"),
        (b"-", "unexpected EOF"),
        (b'{"a":1,}', "invalid character '}' looking for beginning of object key string"),
        (b'{"a":1,,"b":2}', "invalid character ',' looking for beginning of object key string"),
        (b"{'name':'n'}", "invalid character '\\'' looking for beginning of object key string"),
        (b'{"scopes":["a:b",]}', "invalid character ']' looking for beginning of value"),
        (b'{"name":hello}', "invalid character 'h' looking for beginning of value"),
        (b'{"name":nul}', "invalid character '}' in literal null (expecting 'l')"),
        (b"name=n&owner=o", "invalid character 'a' in literal null (expecting 'u')"),
        (b"\xef\xbb\xbf{}", "invalid character '\u00ef' looking for beginning of value"),
        (b"\x00", "invalid character '\\x00' looking for beginning of value"),
        (b"\x7f", "invalid character '\\x7f' looking for beginning of value"),
        (b"\x85", "invalid character '\\u0085' looking for beginning of value"),
        (b"\xa0", "invalid character '\\u00a0' looking for beginning of value"),
        (b"\xad", "invalid character '\\u00ad' looking for beginning of value"),
        (b'{"name":"\\x"}', "invalid character 'x' in string escape code"),
        (b'{"name":"\\u12g4"}', "invalid character 'g' in \\u hexadecimal character escape"),
        (b'{"name":"a\x01"}', "invalid character '\\x01' in string literal"),
        (b'{"name":"a\n"}', "invalid character '\\n' in string literal"),
        (b'{"name":-}', "invalid character '}' in numeric literal"),
        (b'{"name":01}', "invalid character '1' after object key:value pair"),
        (b'{"name":1.}', "invalid character '}' after decimal point in numeric literal"),
        (b'{"name":1e}', "invalid character '}' in exponent of numeric literal"),
        (b'{"name":+1}', "invalid character '+' looking for beginning of value"),
        (b'{"name" "n"}', "invalid character '\"' after object key"),
        (b'{"a":1 "b":2}', "invalid character '\"' after object key:value pair"),
        (b"[1 2]", "invalid character '2' after array element"),
        (b"[" * 10_001, "invalid character '[' exceeded max depth"),
    ],
)
def test_a_fault_is_named_as_go_names_it(text: bytes, fault: str) -> None:
    assert syntax_fault(text) == fault


@pytest.mark.parametrize(
    "text",
    [
        b'{"a":[1,-0.5e+3,true,false,null,"\\u00e9\\n"],"b":{},"c":[]}',
        b" {} garbage",
        b'"\xff"',
        b'"\\ud800"',
        b"[" * 10_000 + b"]" * 10_000,
    ],
)
def test_a_first_value_that_go_reads_has_no_fault(text: bytes) -> None:
    assert syntax_fault(text) is None


def test_a_long_text_is_not_searched() -> None:
    assert syntax_fault(b"x" * 65_537) is None
