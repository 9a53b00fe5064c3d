"""The msgspec decoders of the JSON that is stamped, and the types that they need.

Not compiled: mypyc makes no subclass of `str`.
"""

from __future__ import annotations

from typing import Final

import msgspec


class Name(str):
    """A member's name that equals only itself, so that a mapping keeps repeated members apart."""

    __slots__ = ()
    __eq__ = object.__eq__
    __hash__ = object.__hash__


class Record(msgspec.Struct):
    """A record, of which only the value of `meta_data` is kept; empty if there is none."""

    meta_data: msgspec.Raw = msgspec.Raw(b"")


VALUE: Final = msgspec.json.Decoder(msgspec.Raw)
NAME: Final = msgspec.json.Decoder(str)
ELEMENTS: Final = msgspec.json.Decoder(list[msgspec.Raw])
MEMBERS: Final = msgspec.json.Decoder(dict[Name, msgspec.Raw], dec_hook=lambda _, name: Name(name))
RECORD: Final = msgspec.json.Decoder(Record)
