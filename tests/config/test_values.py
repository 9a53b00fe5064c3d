"""Each setting accepts the documented values, and refuses others with a problem."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.config import addresses, peers, secret_values, unix_addresses, urls, values
from gateway.config.addresses import Address
from gateway.config.secret_values import Secret
from gateway.config.unix_addresses import UnixAddress
from gateway.config.values import BadValueError, Raw

ADDRESS = 'write host:port, as 127.0.0.1:5001, or "[::1]:5001" in quotes; 0.0.0.0 is every interface'
DURATION = "write a whole number and its unit, as 10s, 500ms, 2m or 1h"
SIZE = "write a whole number and its unit, as 64KiB, 5MiB or 1GiB"
SIZE_RANGE = "write a size above 0 and at most 64GiB"
UPSTREAM = "write http://host:port or https://host:port, without a path or a password"
DATABASE = "write postgres://user:password@host:5432/database"
COLLECTOR = "write http://host:4318/v1/traces or https://, with a path, without a password"
RATIO = "write a number from 0 to 1, as 0.01"
STORE = (
    "write redis://user:password@host:6379/0, rediss:// for TLS, redis+sentinel://host,host/NAME/0 or "
    "redis+cluster://host,host; or memory:// for a trial"
)
NETWORK = "write an IP address or a network whose host bits are 0, as 10.0.0.0/8"
PREFIX = (
    "write a lower-case letter, then lower-case letters, digits and _, with _ at the end, as blnk_live_; at "
    "most 20 characters, and not api_key_, with which ids begin"
)
UNIX_PATH = "write the whole path of the Unix socket, as unix:/run/blnk-gateway/gateway.sock"
UNIX_FILE = "write the path of a file for the Unix socket, without control characters"
UNIX_LENGTH = "the path of a Unix socket has at most 107 bytes: write a shorter one"
UNIX_MODE = 'write the mode of a file in quotes, as "0660"; who connects has to write to it'
SECRET = "write visible ASCII characters without blanks; put a number in quotes"
TEXT = "write text here, in quotes where YAML would read something else"


@pytest.mark.parametrize(
    ("parse", "raw", "value"),
    [
        (values.text, "a", "a"),
        (addresses.address, "127.0.0.1:5001", Address("127.0.0.1", 5001)),
        (addresses.address, "gateway.internal:0", Address("gateway.internal", 0)),
        (addresses.address, "[::1]:65535", Address("::1", 65535)),
        (values.duration, "500ms", 0.5),
        (values.duration, "10s", 10.0),
        (values.duration, "2m", 120.0),
        (values.duration, "24h", 86400.0),
        (values.duration, "0s", 0.0),
        (values.duration, 0, 0.0),
        (values.deadline, "1ms", 0.001),
        (values.size, "512B", 512),
        (values.size, "64KiB", 65536),
        (values.size, "5MiB", 5242880),
        (values.size, "1GiB", 1073741824),
        (values.count(1), 7, 7),
        (values.count(0), "7", 7),
        (values.choice("a", "b"), "b", "b"),
        (values.sequence(values.text), ("a", "b"), ("a", "b")),
        (values.network, "10.0.0.0/8", ipaddress.ip_network("10.0.0.0/8")),
        (values.network, "fd00::1", ipaddress.ip_network("fd00::1/128")),
        (values.key_prefix, "blnk_live_", "blnk_live_"),
        (values.path, "/run/secrets/key", Path("/run/secrets/key")),
        (secret_values.secret, "k$ey:1", Secret("k$ey:1")),
        (urls.upstream_url, "http://core:5001", "http://core:5001"),
        (urls.upstream_url, "https://[::1]/", "https://[::1]/"),
        (urls.collector_url, "http://h:4318/v1/traces", "http://h:4318/v1/traces"),
        (urls.collector_url, "https://[::1]/v1/traces", "https://[::1]/v1/traces"),
        (values.ratio, 0, 0.0),
        (values.ratio, 1, 1.0),
        (values.ratio, 0.01, 0.01),
        (values.ratio, "0.01", 0.01),
        (addresses.listen_address, "unix:/run//x/../gateway.sock", UnixAddress("/run/gateway.sock")),
        (addresses.listen_address, f"unix:/{'x' * 106}", UnixAddress(f"/{'x' * 106}")),
        (unix_addresses.mode, "660", "0660"),
        (unix_addresses.mode, "0666", "0666"),
        (values.flag, True, True),
        (values.flag, "false", False),
        (peers.trusted_peers, "unix", "unix"),
        (peers.trusted_peers, "unix:", "unix"),
        (peers.trusted_peers, "10.0.0.0/8", ipaddress.ip_network("10.0.0.0/8")),
        (urls.store_url, "memory://", "memory://"),
        (urls.store_url, "redis://u:p@h:1/2", "redis://u:p@h:1/2"),
        (urls.store_url, "redis+sentinel://u:p@a:1,b/keys/2", "redis+sentinel://u:p@a:1,b/keys/2"),
        (urls.store_url, "rediss+cluster://a,[::1]:2", "rediss+cluster://a,[::1]:2"),
        (urls.store_url, "rediss://h?ssl_ca_certs=/ca.pem", "rediss://h?ssl_ca_certs=/ca.pem"),
        (urls.database_url, "postgres://u:p%40@h:5432/blnk", "postgres://u:p%40@h:5432/blnk"),
        (
            urls.database_url,
            "postgresql://u@a:1,b:2/blnk?sslmode=verify-full&target_session_attrs=primary",
            "postgresql://u@a:1,b:2/blnk?sslmode=verify-full&target_session_attrs=primary",
        ),
    ],
)
def test_a_good_value_is_parsed(parse: Callable[[Raw], Any], raw: Raw, value: object) -> None:
    assert parse(raw) == value


@pytest.mark.parametrize(
    ("parse", "raw", "text"),
    [
        (values.text, "", "this is empty: write a value, or remove the setting"),
        (values.text, True, TEXT),
        (addresses.address, 5001, f"the host is missing: {ADDRESS}"),
        (addresses.address, "5001", f"the host is missing: {ADDRESS}"),
        (addresses.address, ":5001", f"the host is missing: {ADDRESS}"),
        (addresses.address, "127.0.0.1", f"the port is missing: {ADDRESS}"),
        (addresses.address, "localhost:", f"the port is missing: {ADDRESS}"),
        (addresses.address, "[::1]", f"the port is missing: {ADDRESS}"),
        (addresses.address, "::1:5001", 'an IPv6 address needs brackets: write "[::1]:5001", in quotes'),
        (addresses.address, "::1", 'an IPv6 address needs brackets: write "[::1]:5001", in quotes'),
        (addresses.address, "host:65536", "the port is too large: write one from 0 to 65535"),
        (addresses.address, "[::1]:000001", "the port is too large: write one from 0 to 65535"),
        (addresses.address, "unix:/run/x", f"only listen takes Unix sockets, as unix:/run/x.sock: {ADDRESS}"),
        (addresses.address, "/run/x.sock", f"only listen takes Unix sockets, as unix:/run/x.sock: {ADDRESS}"),
        (addresses.listen_address, "unix:run/x.sock", UNIX_PATH),
        (addresses.listen_address, "unix:@x", UNIX_PATH),
        (addresses.listen_address, "unix:", UNIX_PATH),
        (addresses.listen_address, "unix:/run/", UNIX_FILE),
        (addresses.listen_address, "unix:/run/\0x", UNIX_FILE),
        (addresses.listen_address, f"unix:/{'x' * 107}", UNIX_LENGTH),
        (addresses.listen_address, "unix:/" + "\u00fc" * 54, UNIX_LENGTH),
        (unix_addresses.mode, 660, UNIX_MODE),
        (unix_addresses.mode, "0o660", UNIX_MODE),
        (unix_addresses.mode, "1777", UNIX_MODE),
        (unix_addresses.mode, "0678", UNIX_MODE),
        (values.flag, "yes", "write true or false"),
        (values.flag, 1, "write true or false"),
        (peers.trusted_peers, "UNIX", f"{NETWORK}, or unix for the peers of Unix sockets"),
        (peers.trusted_peers, "unix:/run/x", f"{NETWORK}, or unix for the peers of Unix sockets"),
        (addresses.address, "http://0.0.0.0:5001", f"this is a URL: {ADDRESS}"),
        (addresses.address, "*:5001", f"'*' is not a host: {ADDRESS}"),
        (addresses.address, "host:x", f"the host or the port is malformed: {ADDRESS}"),
        (addresses.address, "host:\u0665", f"the host or the port is malformed: {ADDRESS}"),
        (addresses.address, "two words", ADDRESS),
        (addresses.address, True, ADDRESS),
        (addresses.address, ("a:1", "b:2"), ADDRESS),
        (
            addresses.address,
            "[1.2.3.4]:1",
            'this is not an IPv6 address: write it as "[::1]:5001", in quotes',
        ),
        (values.duration, 10, DURATION),
        (values.duration, False, DURATION),
        (values.duration, "10", DURATION),
        (values.duration, "1.5s", DURATION),
        (values.duration, "-1s", DURATION),
        (values.duration, "25h", "write at most 24h"),
        (values.deadline, "0s", "write a duration above 0, as 10s"),
        (values.size, 5, SIZE),
        (values.size, "5MB", SIZE),
        (values.size, "0B", SIZE_RANGE),
        (values.size, "65GiB", SIZE_RANGE),
        (values.count(1), 0, "write a whole number from 1 to 1000000"),
        (values.count(0, 9), 10, "write a whole number from 0 to 9"),
        (values.count(0, 9), True, "write a whole number from 0 to 9"),
        (values.count(0, 9), "x", "write a whole number from 0 to 9"),
        (values.choice("a", "b"), "c", "write a or b"),
        (values.choice("a", "b"), 1, "write a or b"),
        (values.choice("accept", "deny"), True, "write accept or deny"),
        (values.sequence(values.text), "a", "write a list, as [a, b]"),
        (values.network, "10.0.0.1/8", NETWORK),
        (values.network, 5, NETWORK),
        *((values.key_prefix, raw, PREFIX) for raw in ("", "blnk", "Blnk_", "api_key_", "api_key_x_", 5)),
        (secret_values.secret, "", "this is empty: write visible ASCII characters"),
        (secret_values.secret, 12345, SECRET),
        (secret_values.secret, "a b", SECRET),
        (secret_values.secret, "\u00fc", SECRET),
        (urls.upstream_url, "core:5001", UPSTREAM),
        (urls.upstream_url, "ftp://core", UPSTREAM),
        (urls.upstream_url, "http://", UPSTREAM),
        (urls.upstream_url, "http://u:p@core", UPSTREAM),
        (urls.upstream_url, "http://core/base", UPSTREAM),
        (urls.upstream_url, "http://core?a", UPSTREAM),
        (urls.upstream_url, "http://core#a", UPSTREAM),
        (urls.upstream_url, "http://core:0", UPSTREAM),
        (urls.upstream_url, "http://core:99999", UPSTREAM),
        (urls.upstream_url, "http://[core", UPSTREAM),
        (urls.upstream_url, "http://co re", UPSTREAM),
        (urls.upstream_url, 5, UPSTREAM),
        (urls.collector_url, "h:4318", COLLECTOR),
        (urls.collector_url, "grpc://h:4317/x", COLLECTOR),
        (urls.collector_url, "http://h:4318", COLLECTOR),
        (urls.collector_url, "http://h:4318/", COLLECTOR),
        (urls.collector_url, "http://u:p@h:4318/v1/traces", COLLECTOR),
        (urls.collector_url, "http://h:4318/v1/traces?key=x", COLLECTOR),
        (urls.collector_url, 4318, COLLECTOR),
        (values.ratio, 1.01, RATIO),
        (values.ratio, "1.01", RATIO),
        (values.ratio, -1, RATIO),
        (values.ratio, "1%", RATIO),
        (values.ratio, True, RATIO),
        (values.count(0, 9), 1.0, "write a whole number from 0 to 9"),
        (values.duration, 0.5, DURATION),
        (values.text, 0.5, TEXT),
        (urls.database_url, "mysql://u:p@h/blnk", DATABASE),
        (urls.database_url, "postgres://h/blnk", DATABASE),
        (urls.database_url, "postgres://u@h", DATABASE),
        (urls.database_url, "postgres://u@h/", DATABASE),
        (urls.database_url, "postgres://u:p@q@h/blnk", DATABASE),
        (urls.database_url, "postgres://u@h/bl nk", DATABASE),
        (urls.database_url, 5432, DATABASE),
        (urls.store_url, "memory://x", STORE),
        (urls.store_url, "redis://", STORE),
        (urls.store_url, "unix:///run/redis.sock", STORE),
        (
            urls.store_url,
            "redis+sentinel://a,b",
            "write what the Sentinels call the primary after them, as /mymaster; or memory:// for a trial",
        ),
        (urls.store_url, "redis+sentinel:///keys", STORE),
        (urls.store_url, "redis+cluster://", STORE),
        (
            urls.store_url,
            "redis+cluster://a/keys",
            "write the number of the database last, as /0; or memory:// for a trial",
        ),
        (urls.store_url, "redis+other://a", STORE),
    ],
)
def test_a_bad_value_is_refused_with_what_to_write(parse: Callable[[Raw], Any], raw: Raw, text: str) -> None:
    with pytest.raises(BadValueError) as caught:
        parse(raw)
    assert str(caught.value) == text


def test_a_secret_shows_itself_only_where_it_is_revealed() -> None:
    secret = Secret("s3cret")
    assert (repr(secret), str(secret), f"{secret}", secret.reveal()) == ("***", "***", "***", "s3cret")
    assert (bool(secret), bool(Secret())) == (True, False)


@pytest.mark.parametrize(
    ("address", "text", "loopback"),
    [
        (Address("127.0.0.2", 1), "127.0.0.2:1", True),
        (Address("::1", 1), "[::1]:1", True),
        (Address("localhost", 1), "localhost:1", True),
        (Address("0.0.0.0", 1), "0.0.0.0:1", False),
        (Address("gateway", 1), "gateway:1", False),
    ],
)
def test_an_address_knows_its_text_and_whether_others_can_reach_it(
    address: Address, text: str, loopback: bool
) -> None:
    assert (str(address), address.is_loopback) == (text, loopback)


@pytest.mark.parametrize(
    ("one", "other", "clash"),
    [
        (Address("127.0.0.1", 1), Address("127.0.0.1", 1), True),
        (Address("0.0.0.0", 1), Address("127.0.0.1", 1), True),
        (Address("::1", 1), Address("::", 1), True),
        (Address("127.0.0.1", 1), Address("::", 1), True),
        (Address("0.0.0.0", 1), Address("::", 1), True),
        (Address("0.0.0.0", 1), Address("::1", 1), False),
        (Address("127.0.0.1", 1), Address("127.0.0.2", 1), False),
        (Address("127.0.0.1", 1), Address("127.0.0.1", 2), False),
        (Address("127.0.0.1", 0), Address("127.0.0.1", 0), False),
    ],
)
def test_two_listeners_clash_on_one_port_of_one_host(one: Address, other: Address, clash: bool) -> None:
    assert one.clashes(other) is clash


@pytest.mark.parametrize(
    ("listener", "host", "reached"),
    [
        (Address("127.0.0.1", 1), "127.0.0.1", True),
        (Address("127.0.0.1", 1), "localhost", True),
        (Address("localhost", 1), "::1", True),
        (Address("0.0.0.0", 1), "127.0.0.2", True),
        (Address("::", 1), "localhost", True),
        (Address("gateway", 1), "gateway", True),
        (Address("127.0.0.1", 1), "127.0.0.2", False),
        (Address("0.0.0.0", 1), "core", False),
        (Address("10.0.0.1", 1), "localhost", False),
        (Address("127.0.0.1", 2), "127.0.0.1", False),
    ],
)
def test_an_address_knows_what_arrives_at_it(listener: Address, host: str, reached: bool) -> None:
    assert listener.is_reached_at(host, 1) is reached


@pytest.mark.parametrize(
    ("data", "outcome"),
    [
        (b"key", Secret("key")),
        (b"key\n", Secret("key")),
        (b"key\r\n", Secret("key")),
        (b"key\n\n", "the file must hold visible ASCII characters, on one line"),
        (b"", "the file is empty: write the secret into it, on one line"),
        (b" \n\n", "the file is empty: write the secret into it, on one line"),
        (b"\xff", "the file must hold visible ASCII characters, on one line"),
        (None, "the file cannot be read: check the path and who may read it"),
    ],
)
def test_a_secret_file_holds_one_line(tmp_path: Path, data: bytes | None, outcome: Secret | str) -> None:
    file = tmp_path / "secret"
    if data is not None:
        file.write_bytes(data)
    try:
        found: Secret | str = secret_values.read_secret(file)
    except BadValueError as error:
        found = str(error)
    assert found == outcome
