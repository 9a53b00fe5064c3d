"""Records of TLS 1.3 as a client may send them, among them some that the standard library never sends."""

from __future__ import annotations

import hmac
import ssl
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

CIPHER = "TLS_AES_256_GCM_SHA384"
"""The one that OpenSSL prefers."""
_HASH, _KEY, _IV = "sha384", 32, 12
_HANDSHAKE, _DATA = b"\x16", b"\x17"
_KEY_UPDATE = b"\x18\x00\x00\x01\x00"
_RANDOM = slice(11, 43)
"""The place of the client's random in the bytes that begin a handshake."""


def _expand(secret: bytes, label: bytes, size: int) -> bytes:
    """Return HKDF-Expand-Label with an empty context (RFC 8446 section 7.1); one block is enough."""
    name = b"tls13 " + label
    wanted = size.to_bytes(2, "big") + bytes([len(name)]) + name + b"\x00"
    return hmac.digest(secret, wanted + b"\x01", _HASH)[:size]


def logged_secret(keys: Path, hello: bytes) -> bytes:
    """Return the secret of a client's records from the log of its context (`SSLContext.keylog_filename`)."""
    of_client = f"CLIENT_TRAFFIC_SECRET_0 {hello[_RANDOM].hex()} "
    (line,) = [line for line in keys.read_text().splitlines() if line.startswith(of_client)]
    return bytes.fromhex(line.removeprefix(of_client))


class Records:
    """What a client sends after its handshake, under the secret that the handshake gave."""

    def __init__(self, tls: ssl.SSLObject, secret: bytes) -> None:
        cipher = tls.cipher()
        assert cipher is not None
        assert cipher[0] == CIPHER
        self._adopt(secret)

    def _adopt(self, secret: bytes) -> None:
        self._secret = secret
        self._key = AESGCM(_expand(secret, b"key", _KEY))
        self._iv = int.from_bytes(_expand(secret, b"iv", _IV), "big")
        self._number = 0

    def data(self, data: bytes) -> bytes:
        """Return a record that carries these bytes, of which there may be 16 KiB."""
        return self._sealed(data + _DATA)

    def key_update(self) -> bytes:
        """Return a record that says that the client changes its key, and change it."""
        record = self._sealed(_KEY_UPDATE + _HANDSHAKE)
        self._adopt(_expand(self._secret, b"traffic upd", len(self._secret)))
        return record

    def barren(self, size: int) -> bytes:
        """Return about `size` bytes of records that cost the server most: KeyUpdates, and a little data."""
        made = bytearray()
        while len(made) < size:
            # As much data as keeps a session from being ended for want of any.
            made += self.key_update() + self.data(b"\r\n")
        return bytes(made)

    def _sealed(self, inner: bytes) -> bytes:
        head = b"\x17\x03\x03" + (len(inner) + 16).to_bytes(2, "big")
        nonce = (self._iv ^ self._number).to_bytes(_IV, "big")
        self._number += 1
        return head + self._key.encrypt(nonce, inner, head)
