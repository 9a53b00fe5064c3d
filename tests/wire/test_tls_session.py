"""TLS without I/O: a session of the gateway against a client of the standard library."""

from __future__ import annotations

import itertools
import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.certificates import KeyPair, PemFile, server_context
from gateway.wire.tls_session import RECORD, TlsSession, begins_whole
from tests.conftest import examples
from tests.tls import Authority


class Client:
    """The client's side of a session, after the handshake."""

    def __init__(self, context: ssl.SSLContext, session: TlsSession) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
        done = False
        while not done:
            try:
                self.tls.do_handshake()
                done = True
            except ssl.SSLWantReadError:
                session.shake_hands(self.outgoing.read())
                self.incoming.write(session.due())
        assert session.shake_hands(self.outgoing.read()) in (b"", None)

    def sent(self, data: bytes) -> bytes:
        """Return the records that carry bytes of the client."""
        self.tls.write(data)
        return self.outgoing.read()

    def received(self, records: bytes) -> bytes:
        """Return the bytes that records of the gateway carry."""
        self.incoming.write(records)
        data = b""
        try:
            while more := self.tls.read(RECORD):
                data += more
        except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            pass
        return data


def opened_at_once(session: TlsSession, records: bytes) -> bytes:
    """Return what these records carry, in a turn that has time for all."""
    data, left = session.open(records, lambda: False)
    assert left == b""
    return data


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The contexts of the gateway and of a client."""
    authority = Authority(tmp_path_factory.mktemp("authority"))
    issued = authority.issue("gateway", "localhost")
    pair = KeyPair(PemFile("tls.certificate", issued.certificate), PemFile("tls.key", issued.key))
    return server_context(pair, None), authority.trusting()


@pytest.mark.parametrize(
    ("records", "whole"),
    [
        (b"\x16", False),
        (b"\x16\x03\x01\x00", False),
        (b"\x16\x03\x01\x00\x02", False),
        (b"\x16\x03\x01\x00\x02a", False),
        (b"\x16\x03\x01\x00\x02ab", True),
        (b"\x16\x03\x01\x00\x02abc", True),
        # OpenSSL refuses these at once.
        (b"\x16\x03\x01\x40\x01", True),
        (b"GET / HTTP/1.1\r\n", True),
    ],
)
def test_a_handshake_begins_with_a_whole_record(records: bytes, whole: bool) -> None:
    assert begins_whole(records) is whole


@examples(20)
@given(sizes=st.lists(st.integers(1, 3 * RECORD), min_size=1, max_size=5), cut=st.integers(1, 2 * RECORD))
def test_bytes_arrive_whole_however_they_are_cut(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext], sizes: list[int], cut: int
) -> None:
    """Each way, whatever pieces the bytes were written in, and the records came in."""
    session = TlsSession(contexts[0])
    client = Client(contexts[1], session)
    pieces = [bytes([65 + number]) * size for number, size in enumerate(sizes)]
    records = b"".join(
        b"".join(client.sent(piece[i : i + RECORD]) for i in range(0, len(piece), RECORD)) for piece in pieces
    )
    opened = b"".join(opened_at_once(session, records[at : at + cut]) for at in range(0, len(records), cut))
    assert (opened, session.partial, session.ended) == (b"".join(pieces), False, False)
    assert client.received(b"".join(map(session.seal, pieces))) == b"".join(pieces)


@examples(20)
@given(
    sizes=st.lists(st.integers(1, RECORD), min_size=2, max_size=8),
    over=st.lists(st.booleans(), min_size=1, max_size=8),
)
def test_what_is_left_for_another_turn_is_opened_then(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext], sizes: list[int], over: list[bool]
) -> None:
    """Whenever a turn is over, at least one record's worth was opened, and nothing is lost."""
    session = TlsSession(contexts[0])
    client = Client(contexts[1], session)
    pieces = [bytes([65 + number]) * size for number, size in enumerate(sizes)]
    left = b"".join(map(client.sent, pieces))
    turns = itertools.cycle(over)
    opened = b""
    while left:
        before = len(left)
        data, left = session.open(left, lambda: next(turns))
        opened += data
        assert len(left) <= max(0, before - RECORD)
    assert opened == b"".join(pieces)


def test_a_turn_that_is_over_leaves_all_but_one_records_worth(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    session = TlsSession(contexts[0])
    records = b"".join(map(Client(contexts[1], session).sent, [b"x" * RECORD] * 3))
    assert session.open(records, lambda: True) == (b"", records[RECORD:])


def test_a_record_that_is_not_whole_is_known(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    session = TlsSession(contexts[0])
    records = Client(contexts[1], session).sent(b"x" * 100)
    found = [(opened_at_once(session, part), session.partial) for part in (records[:-1], records[-1:])]
    assert found == [(b"", True), (b"x" * 100, False)]


def test_each_side_ends_by_itself(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    """The client ends its side, and still reads what is sent afterwards; then the gateway ends its own."""
    session = TlsSession(contexts[0])
    client = Client(contexts[1], session)
    with pytest.raises(ssl.SSLWantReadError):
        client.tls.unwrap()
    assert (opened_at_once(session, client.outgoing.read()), session.ended) == (b"", True)
    assert client.received(session.seal(b"late") + session.close()) == b"late"


def test_a_changed_record_is_an_error(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    session = TlsSession(contexts[0])
    records = bytearray(Client(contexts[1], session).sent(b"x" * 100))
    records[20] ^= 1
    with pytest.raises(ssl.SSLError):
        opened_at_once(session, bytes(records))
    assert session.due() != b""
