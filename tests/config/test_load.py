"""The file and the environment become one Config, or every problem is reported at once."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Mapping
from pathlib import Path

import pytest

from gateway.config import (
    Address,
    AuditConfig,
    Config,
    ConfigError,
    DecideConfig,
    DrainConfig,
    KeysConfig,
    LimitsConfig,
    LogConfig,
    Secret,
    TimeoutsConfig,
    TlsConfig,
    TracingConfig,
    UnixAddress,
    UnreadableConfigError,
    UpstreamConfig,
    load_config,
    parse_config,
    settings,
)
from gateway.config.environment import variable
from gateway.policy.problems import Problem
from gateway.policy.report_only import KeyDates
from gateway.policy.routes import Access, Route, compile_routes
from gateway.policy.terms import Rate
from gateway.wire.client_address import UNIX_PEER
from tests.tls import Authority

FILE = Path("gateway.yaml")
SMALL = """\
upstream:
  url: http://core:5100
  master_key: ${KEY}
keys:
  store: memory://
routes:
  GET /health: public
"""
KEY_LINE = "master_key: ${KEY}"
UNREADABLE = "the file cannot be read: check the path and who may read it"
DURATION = "write a whole number and its unit, as 10s, 500ms, 2m or 1h"
OVER = "report-only ended with %s, and requests are refused again: remove it"
UNREPLACED = "'$NAME' is taken literally: write ${NAME} in gateway.yaml for the value of a variable"
IN_CLEAR = "this is a secret in clear: write ${NAME}, and set that environment variable"
SHORT = "the token is short enough to be guessed: write at least 16 characters"
KNOWN = (
    "known here are listen, listen_mode, admin, health, admin_token_file, ready_requires, trusted_proxies, "
    "proxy_protocol, "
    "upstream, tls, keys, timeouts, limits, decide, drain, log, audit, tracing, routes"
)


def parse(text: str, environ: Mapping[str, str] | None = None, *, secrets: bool = True) -> Config:
    environ = {"KEY": "s3cret"} if environ is None else environ
    return parse_config(text.encode(), FILE, environ, secrets=secrets)


def problems(text: str, environ: Mapping[str, str] | None = None, *, secrets: bool = True) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text, environ, secrets=secrets)
    assert str(caught.value) == "\n".join(map(str, caught.value.problems))
    return [str(problem) for problem in caught.value.problems]


def with_line(line: str) -> str:
    """Return the small file with this line added at the top."""
    return f"{line}\n{SMALL}"


def test_a_small_file_has_every_default() -> None:
    routes = compile_routes([Route("GET", "/health", Access.PUBLIC)])
    assert not isinstance(routes, tuple)
    assert parse(SMALL) == Config(
        listen=(Address("127.0.0.1", 5001),),
        admin=Address("127.0.0.1", 5002),
        health=None,
        admin_token_file=None,
        upstream=UpstreamConfig(
            url="http://core:5100",
            master_key=Secret("s3cret"),
            master_key_file=None,
            connections=128,
            queue=1024,
            queue_wait=0.05,
        ),
        keys=KeysConfig(authority="gateway", store="memory://", master="accept"),
        timeouts=TimeoutsConfig(
            head=10.0,
            body=30.0,
            idle=75.0,
            write=30.0,
            connect=2.0,
            first_byte=300.0,
            between_bytes=60.0,
            upstream_idle=60.0,
        ),
        decide=DecideConfig(listen=None, unstamped="deny", connections=1024),
        limits=LimitsConfig(body=5242880, buffered=67108864, connections=10000, rate=None),
        drain=DrainConfig(delay=5.0, timeout=25.0),
        log=LogConfig(format="auto", level="info"),
        audit=AuditConfig(kept=100_000, unshipped="warn"),
        tracing=TracingConfig(endpoint="", ratio=0.01),
        ready_requires=(),
        trusted_proxies=(),
        proxy_protocol=False,
        routes=routes,
        sha256=hashlib.sha256(SMALL.encode()).hexdigest(),
    )


def test_every_setting_is_taken_from_the_environment_first(tmp_path: Path) -> None:
    authority = tmp_path / "ca.pem"
    issued = Authority(tmp_path, "ca").issue("gateway")
    given = {
        "listen": "0.0.0.0:1, [::1]:4, unix:/run/x.sock",
        "listen_mode": "666",
        "admin": "127.0.0.1:2",
        "health": "0.0.0.0:3",
        "upstream.url": "https://core",
        "upstream.master_key": "other",
        "upstream.ca_file": str(authority),
        "upstream.certificate": str(issued.certificate),
        "upstream.key": str(issued.key),
        "upstream.connections": "4",
        "upstream.queue": "5",
        "upstream.queue_wait": "20ms",
        "upstream.max_body": "3KiB",
        "tls.certificate": str(issued.certificate),
        "tls.key": str(issued.key),
        "tls.client_ca": str(authority),
        "tls.listeners": "listen, health",
        "keys.authority": "core",
        "keys.core_database": "postgres://u:p@host/blnk",
        "keys.store": f"rediss://u:p@redis:6379/1?ssl_ca_certs={authority}",
        "keys.grace": "1m",
        "keys.replicas": "2",
        "keys.per_owner": "3",
        "keys.master": "deny",
        "keys.report_only": "api_key_00000000-0000-4000-8000-000000000001=2020-01-01",
        "timeouts.head": "1s",
        "timeouts.body": "2s",
        "timeouts.idle": "3s",
        "timeouts.write": "4s",
        "timeouts.connect": "5s",
        "timeouts.first_byte": "6s",
        "timeouts.between_bytes": "7s",
        "timeouts.upstream_idle": "8s",
        "limits.body": "1KiB",
        "limits.buffered": "2KiB",
        "limits.connections": "6",
        "limits.rate": "7",
        "decide.listen": "127.0.0.1:8",
        "decide.unstamped": "deny",
        "decide.connections": "9",
        "limits.on_store_failure": "deny",
        "drain.delay": "0",
        "drain.timeout": "0s",
        "log.format": "json",
        "log.level": "debug",
        "audit.kept": "2000",
        "audit.unshipped": "drop",
        "ready_requires": "upstream, store",
        "trusted_proxies": "10.0.0.0/8, unix:",
        "tracing.endpoint": "https://collector:4318/v1/traces",
        "tracing.ratio": "0.05",
        "proxy_protocol": "true",
    }
    # The last one cannot be set where Core mints the keys.
    assert given.keys() == settings().keys() - {
        "admin_token_file",
        "upstream.master_key_file",
        "upstream.master_key_next_file",
        "keys.prefix",
    }
    given["drain.delay"] = "0s"
    config = parse(SMALL, {variable(path): value for path, value in given.items()})
    assert config == Config(
        listen=(Address("0.0.0.0", 1), Address("::1", 4), UnixAddress("/run/x.sock")),
        listen_mode="0666",
        admin=Address("127.0.0.1", 2),
        health=Address("0.0.0.0", 3),
        upstream=UpstreamConfig(
            url="https://core",
            master_key=Secret("other"),
            ca_file=authority,
            certificate=issued.certificate,
            key=issued.key,
            connections=4,
            queue=5,
            queue_wait=0.02,
            max_body=3072,
        ),
        tls=TlsConfig(
            certificate=issued.certificate,
            key=issued.key,
            client_ca=authority,
            listeners=("listen", "health"),
        ),
        keys=KeysConfig(
            authority="core",
            core_database="postgres://u:p@host/blnk",
            store=f"rediss://u:p@redis:6379/1?ssl_ca_certs={authority}",
            grace=60.0,
            replicas=2,
            per_owner=3,
            master="deny",
            report_only=KeyDates((("api_key_00000000-0000-4000-8000-000000000001", 1577923200.0),)),
        ),
        timeouts=TimeoutsConfig(
            head=1.0,
            body=2.0,
            idle=3.0,
            write=4.0,
            connect=5.0,
            first_byte=6.0,
            between_bytes=7.0,
            upstream_idle=8.0,
        ),
        decide=DecideConfig(listen=Address("127.0.0.1", 8), unstamped="deny", connections=9),
        limits=LimitsConfig(body=1024, buffered=2048, connections=6, rate=Rate(7), on_store_failure="deny"),
        drain=DrainConfig(delay=0.0, timeout=0.0),
        log=LogConfig(format="json", level="debug"),
        audit=AuditConfig(kept=2000, unshipped="drop"),
        tracing=TracingConfig(endpoint="https://collector:4318/v1/traces", ratio=0.05),
        ready_requires=("upstream", "store"),
        trusted_proxies=(ipaddress.IPv4Network("10.0.0.0/8"), "unix"),
        proxy_protocol=True,
        routes=config.routes,
        sha256=config.sha256,
        warnings=(Problem(0, OVER % "2020-01-01", variable("keys.report_only")),),
    )
    assert config.keys.shown_store == "rediss://redis:6379/1"
    assert (config.upstream.host, config.upstream.port, config.upstream.tls) == ("core", 443, True)


def test_a_small_upstream_url_has_its_parts() -> None:
    upstream = parse(SMALL).upstream
    assert (upstream.host, upstream.port, upstream.tls, upstream.authority) == (
        "core",
        5100,
        False,
        "core:5100",
    )


def test_no_repr_shows_a_secret() -> None:
    text = SMALL.replace("memory://", "redis://user:pass-s3cret@host")
    assert "s3cret" not in repr(parse(text))


def test_no_repr_shows_the_password_of_a_database() -> None:
    text = SMALL.replace("keys:", "keys:\n  core_database: postgres://u:pass-word@host/blnk")
    config = parse(text)
    assert config.keys.core_database == "postgres://u:pass-word@host/blnk"
    assert "pass-word" not in repr(config)


def test_keys_get_a_prefix_only_where_the_gateway_mints_them() -> None:
    text = SMALL.replace("keys:", "keys:\n  prefix: blnk_live_")
    assert parse(text).keys.prefix == "blnk_live_"
    core = {
        "KEY": "s3cret",
        "BLNK_GATEWAY_KEYS__AUTHORITY": "core",
        "BLNK_GATEWAY_KEYS__CORE_DATABASE": "postgres://u@host/blnk",
    }
    assert problems(text, core) == [
        "gateway.yaml:5: keys.prefix: with keys.authority: core, Core mints the keys, without a prefix: "
        "remove this"
    ]


def test_core_as_the_authority_needs_its_database() -> None:
    assert problems(SMALL, {"KEY": "k", "BLNK_GATEWAY_KEYS__AUTHORITY": "core"}) == [
        "BLNK_GATEWAY_KEYS__AUTHORITY: core needs keys.core_database: "
        "write postgres://user:password@host:5432/database"
    ]


def test_an_empty_variable_takes_an_optional_setting_out() -> None:
    config = parse(with_line("health: 127.0.0.1:5003"), {"KEY": "k", "BLNK_GATEWAY_HEALTH": ""})
    assert config.health is None


def test_variables_stand_in_any_value_and_are_never_parsed_as_yaml() -> None:
    text = with_line("trusted_proxies: ['${NET}/8']")
    config = parse(text, {"KEY": "[a]:{b}#'\"", "NET": "10.0.0.0"})
    assert config.upstream.master_key == Secret("[a]:{b}#'\"")
    assert config.trusted_proxies == (ipaddress.IPv4Network("10.0.0.0/8"),)


def test_only_serve_needs_variables() -> None:
    text = SMALL.replace("http://core:5100", "${URL}").replace("memory://", "${STORE}")
    text += "admin: ${ADMIN}\nlisten: 127.0.0.1:5002\n"
    config = parse(text, {}, secrets=False)
    assert (config.upstream.url, config.upstream.master_key) == ("http://127.0.0.1:5100", Secret(""))
    assert problems(text, {}) == [
        "gateway.yaml:2: upstream.url: URL is not set in the environment",
        "gateway.yaml:3: upstream.master_key: KEY is not set in the environment",
        "gateway.yaml:5: keys.store: STORE is not set in the environment",
        "gateway.yaml:8: admin: ADMIN is not set in the environment",
    ]


def test_a_variable_that_is_set_is_checked_even_without_secrets() -> None:
    assert problems(SMALL, {"KEY": "a b"}, secrets=False) == [
        "gateway.yaml:3: upstream.master_key: write visible ASCII characters without blanks; "
        "put a number in quotes"
    ]


def test_secret_files_are_read_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "core.key").write_text("from-file\n")
    (tmp_path / "admin.token").write_text("token\n")
    text = with_line("admin_token_file: admin.token").replace(
        "master_key: ${KEY}", "master_key_file: core.key"
    )
    file = tmp_path / "gateway.yaml"
    file.write_text("admin: 10.0.0.1:5002\n" + text)
    config = load_config(file, {}, secrets=True)
    assert config.upstream.master_key == Secret("from-file")
    assert config.upstream.master_key_file == tmp_path / "core.key"
    assert config.admin_token_file == tmp_path / "admin.token"


def test_secret_files_are_looked_for_only_where_secrets_are_needed(tmp_path: Path) -> None:
    text = with_line("admin_token_file: /absent/a").replace(KEY_LINE, "master_key_file: /absent/b")
    assert parse(text, {}, secrets=False).upstream.master_key == Secret("")
    assert problems(text, {}) == [
        f"gateway.yaml:1: admin_token_file: {UNREADABLE}",
        f"gateway.yaml:4: upstream.master_key_file: {UNREADABLE}",
    ]


@pytest.mark.parametrize("content", [None, "", "\n", "next-key\n"])
def test_the_file_of_the_next_master_key_may_be_absent_or_empty(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "next"
    if content is not None:
        file.write_text(content, encoding="ascii")
    config = parse(SMALL, {"KEY": "s3cret", variable("upstream.master_key_next_file"): str(file)})
    assert (config.upstream.master_key_next_file, config.warnings) == (file, ())


def test_a_file_of_the_next_master_key_that_holds_no_key_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "next"
    file.write_text("two words", encoding="ascii")
    name = variable("upstream.master_key_next_file")
    with pytest.raises(ConfigError) as refused:
        parse(SMALL, {"KEY": "s3cret", name: str(file)})
    text = "the file must hold visible ASCII characters, on one line"
    assert refused.value.problems == (Problem(0, text, name),)


def test_a_next_master_key_that_could_not_be_written_is_warned_of(tmp_path: Path) -> None:
    name = variable("upstream.master_key_next_file")
    config = parse(SMALL, {"KEY": "s3cret", name: str(tmp_path / "absent" / "next")})
    text = "its folder does not exist: the next key could not be written there"
    assert config.warnings == (Problem(0, text, name),)


def test_an_override_of_either_master_key_replaces_the_files(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from-file")
    environ = {"BLNK_GATEWAY_UPSTREAM__MASTER_KEY_FILE": str(tmp_path / "key")}
    assert parse(SMALL, environ).upstream.master_key == Secret("from-file")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("listen: 5001", "listen: the host is missing: write host:port, as 127.0.0.1:5001, or "
         '"[::1]:5001" in quotes; 0.0.0.0 is every interface'),
        ("listen: yes", 'listen: write host:port, as 127.0.0.1:5001, or "[::1]:5001" in quotes; '
         "0.0.0.0 is every interface"),
        ("log: {level: on}", "log.level: write debug or info or warning or error"),
        ("listen: {a: b}", "listen: this is one value: write it on the line of its key"),
        ("listen: ${KEY", "listen: write a variable as ${NAME}: letters, digits and _"),
        ("trusted_proxies: [[a]]", "trusted_proxies: a list holds plain values: "
         "remove the inner list or mapping"),
        ("ready_requires: redis", "ready_requires: write a list, as [a, b]"),
        ("ready_requires: [redis]", "ready_requires: write upstream or store"),
        ("drain: 5s", "drain: write its settings below it, indented, as 'key: value'"),
        ("drain: {delay: 5}", f"drain.delay: {DURATION}"),
        ("drain: {dely: 5s}", "unknown key 'drain.dely'; did you mean 'delay'?"),
        ("drain: {x: 5s}", "unknown key 'drain.x'; known here are delay, timeout"),
        ("listn: a", "unknown key 'listn'; did you mean 'listen'?"),
        ("first_byte: 5s", "unknown key 'first_byte'; did you mean 'timeouts.first_byte'?"),
        ("xyz: 5s", f"unknown key 'xyz'; {KNOWN}"),
        ("s3cret value: 5s", f"unknown key; {KNOWN}"),
        ("listen:", "the value is missing: write one, or remove the line"),
        ("drain:", "the value is missing: write one, or remove the line"),
        ("trusted_proxies: [~]", "the value is missing: write one, or remove the line"),
        ("admin: 0.0.0.0:5002", "admin: others can reach this address: name an admin_token_file, or write a "
         "loopback address, as 127.0.0.1:5002"),
        ("limits: {body: 65MiB}", "limits.body: limits.buffered must hold one body: raise it as well"),
        ("limits: {buffered: 1MiB}", "limits.buffered: this must hold one body: write at least limits.body"),
    ],
)  # fmt: skip
def test_a_bad_line_is_refused_with_what_to_write(line: str, expected: str) -> None:
    assert problems(with_line(line)) == [f"gateway.yaml:1: {expected}"]


def warned(text: str, environ: Mapping[str, str] | None = None, *, secrets: bool = True) -> list[str]:
    return [str(warning) for warning in parse(text, environ, secrets=secrets).warnings]


@pytest.mark.parametrize(
    ("value", "warning"),
    [
        ("$BLNK_MASTER_KEY", UNREPLACED),
        ("${A}$B", UNREPLACED),
        ("hunter2", IN_CLEAR),
        ("pa$5", IN_CLEAR),
    ],
)
def test_a_master_key_that_the_file_shows_or_names_wrongly_is_warned_of(value: str, warning: str) -> None:
    text = SMALL.replace("${KEY}", value)
    assert warned(text, {"A": "a"}) == [f"gateway.yaml:3: upstream.master_key: {warning}"]


@pytest.mark.parametrize(
    ("store", "warnings"),
    [
        ("redis://:$PASSWORD@host", [UNREPLACED]),
        ("redis://user:s3cret@host", [IN_CLEAR]),
        ("redis+sentinel://a/m?sentinel_password=s3cret", [IN_CLEAR]),
        ("redis://user:${PASSWORD}@host", []),
        ("redis+sentinel://a/m?sentinel_password=${PASSWORD}", []),
        ("redis://user@host", []),
        ("redis://[::1]:6379/0", []),
        ("${STORE}", []),
    ],
)
def test_a_store_whose_password_the_file_shows_or_names_wrongly_is_warned_of(
    store: str, warnings: list[str]
) -> None:
    environ = {"KEY": "k", "PASSWORD": "p", "STORE": "redis://u:p@h"}
    lines = warned(SMALL.replace("memory://", f'"{store}"'), environ)
    assert lines == [f"gateway.yaml:5: keys.store: {text}" for text in warnings]


def test_a_database_and_a_path_are_looked_at_too() -> None:
    database = SMALL.replace("keys:", "keys:\n  core_database: postgres://u:pass@host/blnk")
    assert warned(database) == [f"gateway.yaml:5: keys.core_database: {IN_CLEAR}"]
    token = with_line("admin_token_file: $CREDENTIALS_DIRECTORY/token")
    assert warned(token, secrets=False) == [f"gateway.yaml:1: admin_token_file: {UNREPLACED}"]


@pytest.mark.parametrize("value", ["$OTHER", "${OTHER}"])
def test_a_variable_that_holds_the_name_of_another_is_warned_of(value: str) -> None:
    override = variable("upstream.master_key")
    assert warned(SMALL, {"KEY": value}) == [f"gateway.yaml:3: upstream.master_key: {UNREPLACED}"]
    assert warned(SMALL, {override: value}) == [f"{override}: {UNREPLACED}"]


def test_a_secret_file_that_holds_the_name_of_a_variable_is_warned_of(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("$BLNK_MASTER_KEY\n")
    text = SMALL.replace(KEY_LINE, f"master_key_file: {tmp_path}/key")
    assert warned(text) == [f"gateway.yaml:3: upstream.master_key_file: {UNREPLACED}"]


AUDIT_SMALL = (
    "an owner who creates and revokes as many keys as keys.per_owner allows writes more entries than "
    "audit.kept: raise audit.kept"
)


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ({"audit.kept": "7999"}, "audit.kept"),
        ({"keys.per_owner": "12501"}, "keys.per_owner"),
        ({"audit.kept": "8000"}, None),
        ({"audit.kept": "1000", "keys.per_owner": "0"}, None),
    ],
)
def test_an_audit_stream_that_one_owner_can_trim_is_a_warning(
    given: dict[str, str], place: str | None
) -> None:
    """An owner has four records for each key of its quota, and two entries for each record."""
    environ = {variable(path): value for path, value in given.items()}
    expected = [] if place is None else [f"{variable(place)}: {AUDIT_SMALL}"]
    assert warned(SMALL, environ, secrets=False) == expected


@pytest.mark.parametrize(("token", "warnings"), [("fifteen-letters", [SHORT]), ("sixteen--letters", [])])
def test_a_short_admin_token_is_warned_of_where_secrets_are_read(
    tmp_path: Path, token: str, warnings: list[str]
) -> None:
    (tmp_path / "token").write_text(f"{token}\n")
    text = with_line(f"admin_token_file: {tmp_path}/token")
    assert warned(text) == [f"gateway.yaml:1: admin_token_file: {each}" for each in warnings]
    assert warned(text, secrets=False) == []


def test_report_only_that_is_over_is_warned_of_with_its_day() -> None:
    key = "api_key_00000000-0000-4000-8000-000000000001"
    text = SMALL.replace("keys:", f'keys:\n  report_only: {{{key}: "2001-02-03"}}')
    text += '  GET /ledgers: {scope: ledgers:read, mode: report-only, until: "2001-02-04"}\n'
    assert warned(text) == [
        f"gateway.yaml:5: keys.report_only: {OVER % '2001-02-03'}",
        f"gateway.yaml:9: GET /ledgers: {OVER % '2001-02-04'}",
    ]


@pytest.mark.parametrize(
    ("path", "url", "option"),
    [
        ("keys.store", "rediss://host?ssl_certfile=/absent", "ssl_certfile"),
        ("keys.store", "rediss+cluster://a,[::1]:2?ssl_ca_certs=/absent", "ssl_ca_certs"),
        (
            "keys.core_database",
            "postgres://u@host/blnk?sslmode=verify-full&sslrootcert=/absent",
            "sslrootcert",
        ),
    ],
)
def test_a_certificate_that_is_not_there_is_refused_where_secrets_are_needed(
    path: str, url: str, option: str
) -> None:
    environ = {"KEY": "k", variable(path): url}
    text = f"{variable(path)}: the file of {option} cannot be read: No such file or directory"
    assert problems(SMALL, environ) == [text]
    assert warned(SMALL, environ, secrets=False) == []


def test_a_gateway_in_front_of_itself_is_refused() -> None:
    text = with_line("listen: 0.0.0.0:5100").replace("core:5100", "localhost:5100")
    assert problems(text) == [
        "gateway.yaml:3: upstream.url: the gateway itself listens there: write the address of Core"
    ]


def test_two_listeners_may_not_share_a_port() -> None:
    text = with_line("listen: 0.0.0.0:1\nadmin: 127.0.0.1:1\nhealth: 127.0.0.1:2")
    assert problems(text) == ["gateway.yaml:2: admin: listen takes this port already: write another one"]


@pytest.mark.parametrize(
    ("line", "addresses"),
    [
        ("listen: 0.0.0.0:1", (Address("0.0.0.0", 1),)),
        ('listen: ["127.0.0.1:1", "[::1]:1"]', (Address("127.0.0.1", 1), Address("::1", 1))),
    ],
)
def test_clients_may_connect_at_one_address_or_at_several(line: str, addresses: tuple[Address, ...]) -> None:
    assert parse(with_line(line)).listen == addresses


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (
            'listen: ["0.0.0.0:1", "[::]:1"]',
            "listen: two of the addresses take the same port: remove one of them",
        ),
        (
            "listen: [127.0.0.1:1, 127.0.0.1:5002]",
            "listen: admin takes this port already: write another one",
        ),
        ("listen: []", "listen: write host:port, as 127.0.0.1:5001, or a list of them"),
    ],
)
def test_the_addresses_of_a_list_are_held_to_the_same(line: str, problem: str) -> None:
    assert problems(with_line(line)) == [f"gateway.yaml:1: {problem}"]


def test_two_listeners_may_not_share_a_path() -> None:
    line = "listen: ['unix:/run/x.sock', 'unix:/run//x.sock', 127.0.0.1:5001]"
    expected = "gateway.yaml:1: listen: two of the addresses take the same port: remove one of them"
    assert problems(with_line(line)) == [expected]


@pytest.mark.parametrize("line", ['listen_mode: "0600"', "trusted_proxies: [unix]"])
def test_settings_of_unix_sockets_without_one_are_warned_of(line: str) -> None:
    text = "listen names no Unix socket: remove this, or write unix:/run/blnk-gateway/gateway.sock there"
    path = line.partition(":")[0]
    assert list(map(str, parse(with_line(line)).warnings)) == [f"gateway.yaml:1: {path}: {text}"]
    assert parse(with_line(f"listen: unix:/run/x.sock\n{line}")).warnings == ()


def test_proxy_headers_need_proxies_that_may_send_them() -> None:
    text = "nobody could connect: name the proxies that send PROXY headers in trusted_proxies"
    assert problems(with_line("proxy_protocol: true")) == [f"gateway.yaml:1: proxy_protocol: {text}"]
    assert parse(with_line("proxy_protocol: false")).proxy_protocol is False
    lines = "trusted_proxies: [%s]\nproxy_protocol: true"
    sound, open_to_all = (with_line(lines % network) for network in ("10.0.0.1", "0.0.0.0/0"))
    assert parse(sound).warnings == ()
    warning = "everyone is trusted, so any client could send the PROXY header of another: name the proxies"
    assert [problem.text for problem in parse(open_to_all).warnings] == [f"trusted_proxies: {warning}"]


def test_a_listener_may_not_take_the_port_another_has_by_default() -> None:
    assert problems(with_line("listen: 127.0.0.1:5002")) == [
        "gateway.yaml:1: listen: admin takes this port already: write another one"
    ]


def test_decisions_are_not_listened_for_where_nobody_may_ask() -> None:
    decide = "decide: {listen: 127.0.0.1:5004}"
    assert problems(with_line(decide)) == [
        "gateway.yaml:1: decide.listen: nobody may ask there: list the addresses of the ingress in "
        "trusted_proxies, as [127.0.0.1]"
    ]
    assert parse(with_line(f"{decide}\ntrusted_proxies: [127.0.0.1]")).decide.listen == Address(
        "127.0.0.1", 5004
    )


def test_decisions_have_a_port_of_their_own() -> None:
    text = with_line("decide: {listen: 127.0.0.1:5001}\ntrusted_proxies: [127.0.0.1]")
    assert problems(text) == [
        "gateway.yaml:1: decide.listen: listen takes this port already: write another one"
    ]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("decide: {unstamped: allow}", []),
        (
            "decide: {listen: 127.0.0.1:5004, unstamped: allow}",
            [
                "gateway.yaml:1: decide.unstamped: nothing stamps the requests that are allowed: a client "
                "can leave the stamp out, or forge it"
            ],
        ),
    ],
)
def test_allowing_what_is_not_stamped_is_a_warning(line: str, expected: list[str]) -> None:
    assert warned(with_line(f"{line}\ntrusted_proxies: [127.0.0.1]")) == expected


@pytest.mark.parametrize(("host", "warns"), [("127.0.0.1", False), ("0.0.0.0", True), ("10.0.0.1", True)])
def test_a_listener_for_decisions_that_others_can_reach_is_a_warning(host: str, *, warns: bool) -> None:
    text = (
        "this listener speaks no TLS, so others on the network can read the keys of clients: write a "
        "loopback address, as 127.0.0.1:5004"
    )
    line = f"decide: {{listen: '{host}:5004'}}\ntrusted_proxies: [127.0.0.1]"
    assert warned(with_line(line)) == ([f"gateway.yaml:1: decide.listen: {text}"] if warns else [])


def test_one_master_key_is_needed_and_no_two() -> None:
    two = SMALL.replace("  master_key:", "  master_key_file: /absent\n  master_key:")
    none = SMALL.replace("  master_key: ${KEY}\n", "")
    assert problems(two, secrets=False) == [
        "gateway.yaml:3: upstream.master_key_file: keep one of master_key and master_key_file"
    ]
    assert problems(none) == [
        "gateway.yaml:1: upstream.master_key is missing: write 'master_key: ${BLNK_MASTER_KEY}', "
        "or master_key_file"
    ]


def test_what_must_be_given_is_asked_for_with_an_example() -> None:
    assert problems("upstream: {master_key: a}\n\nkeys: {}\n") == [
        "gateway.yaml:1: upstream.url is missing: write 'url: http://127.0.0.1:5100'",
        "gateway.yaml:1: routes is missing: write 'routes:' and below it one line per route",
        "gateway.yaml:3: keys.store is missing: write 'store: redis://127.0.0.1:6379/0'",
    ]


def test_every_problem_of_file_and_environment_is_reported_at_once_in_order() -> None:
    text = SMALL.replace("memory://", "mem").replace("GET /health: public", "GET /health: pubic")
    environ = {
        "KEY": "k",
        "BLNK_GATEWAY_DRAIN__DELAY": "5",
        "BLNK_GATEWAY_LISTN": "x",
        "BLNK_GATEWAY_LOG__LEVEL": "in\nfo",
    }
    assert problems(f"{text}health: *x\n", environ) == [
        "gateway.yaml:5: keys.store: write redis://user:password@host:6379/0, rediss:// for TLS, "
        "redis+sentinel://host,host/NAME/0 or redis+cluster://host,host; or memory:// for a trial",
        "gateway.yaml:7: GET /health: a scope is a resource of Core and read, write or delete, "
        "as ledgers:read; did you mean 'public'?",
        'gateway.yaml:8: a value that begins with * is an alias to YAML: quote it, as "*:read"',
        "BLNK_GATEWAY_LISTN: no such setting: did you mean BLNK_GATEWAY_LISTEN?",
        f"BLNK_GATEWAY_DRAIN__DELAY: {DURATION}",
        "BLNK_GATEWAY_LOG__LEVEL: there is a control character or a line break here: remove it",
    ]


def test_a_file_that_is_no_document_is_not_said_to_lack_settings() -> None:
    assert problems("listen: [") == ["gateway.yaml:1: a value is missing here, or a bracket is never closed"]


def test_an_empty_mapping_lacks_everything_that_must_be_given() -> None:
    assert len(problems("{}")) == 4


def test_no_problem_repeats_a_value() -> None:
    text = (
        "listen: s3cret\nupstream: {url: s3cret, master_key: s3 cret, connections: s3cret}\n"
        "keys: {store: 'redis://:s3cret@', authority: s3cret, master: s3cret}\ns3 cret: s3cret\n"
        "log: {level: !s3cret x}\ndrain: {delay: *s3cret, timeout: &s3cret 5}\nroutes: s3cret\n"
    )
    assert [line for line in problems(text) if "cret" in line] == []


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("absent.yaml", "No such file or directory"),
        (".", "Is a directory"),
        ("nul\0.yaml", "this is not a path"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(tmp_path: Path, path: str, reason: str) -> None:
    with pytest.raises(UnreadableConfigError) as caught:
        load_config(tmp_path / path, {}, secrets=False)
    assert caught.value.problems == (Problem(0, f"cannot be read: {reason}", str(tmp_path / path)),)


@pytest.mark.parametrize(
    ("peer", "trusted"),
    [
        ("10.1.2.3", True),
        ("::ffff:10.1.2.3", True),
        ("fd00::1", True),
        ("11.0.0.1", False),
        ("::1", False),
        ("", False),
        ("not an address", False),
    ],
)
def test_trusted_proxies_are_matched_by_network(peer: str, trusted: bool) -> None:
    config = parse(with_line("trusted_proxies: [10.0.0.0/8, 'fd00::/8']"))
    assert config.trusts(peer) is trusted


def test_peers_on_unix_sockets_are_trusted_only_by_name() -> None:
    listen = "listen: unix:/run/x.sock\n"
    assert not parse(with_line(f"{listen}trusted_proxies: ['0.0.0.0/0', '::/0']")).trusts(UNIX_PEER)
    assert parse(with_line(f"{listen}trusted_proxies: [unix]")).trusts(UNIX_PEER)
    assert not parse(with_line(f"{listen}trusted_proxies: [unix]")).trusts("127.0.0.1")


def test_every_setting_has_a_meaning_in_words() -> None:
    assert all(setting.doc for setting in settings().values())


@pytest.mark.parametrize(
    ("line", "warnings"),
    [
        ("tracing: {endpoint: 'http://h:4318/v1/traces'}", []),
        ("tracing: {endpoint: 'http://h:4318/v1/traces', ratio: 0.1}", []),
        (
            "tracing: {endpoint: 'http://h:4318/v1/traces', ratio: 1}",
            ["a traced request costs several times as much as another: write 0.1 or less in production"],
        ),
        ("tracing: {ratio: 0.5}", ["nothing is traced without tracing.endpoint: write one"]),
    ],
)
def test_a_ratio_that_costs_much_or_does_nothing_is_warned_of(line: str, warnings: list[str]) -> None:
    assert warned(with_line(line)) == [f"gateway.yaml:1: tracing.ratio: {text}" for text in warnings]


def test_a_choice_about_a_shared_store_is_useless_without_one() -> None:
    """`limits.on_store_failure: deny` says nothing with a store of one process, so it is warned of."""
    assert warned(SMALL + "limits: {on_store_failure: deny}\n") == [
        f"gateway.yaml:{SMALL.count(chr(10)) + 1}: limits.on_store_failure: "
        "keys.store is memory://, so limits are not shared"
    ]
