"""Settings that differ between two configurations: which are shown, which are hidden, and which widen."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config import Config, parse_config
from gateway.config.differences import Difference, differences
from gateway.config.presets import CORE, preset

KEY = "api_key_00000000-0000-4000-8000-00000000000"


def config(*edits: tuple[str, str], environ: dict[str, str] | None = None) -> Config:
    text = preset(CORE)
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    return parse_config(text.encode(), Path("gateway.yaml"), environ or {}, secrets=False)


def master(value: str) -> Config:
    return config(("master: accept", f"master: {value}"))


def report_only(*pairs: str) -> Config:
    return config(("  master: accept", "\n".join(["  report_only:", *(f"    {pair}" for pair in pairs)])))


def added(lines: str) -> Config:
    return config(("\nroutes:\n", f"\n{lines}\nroutes:\n"))


def test_nothing_differs_from_itself() -> None:
    assert differences(config(), config()) == ()


def test_every_kind_of_value_is_shown_as_the_file_would_say_it() -> None:
    lines = (
        "health: 127.0.0.1:5003\ntrusted_proxies: [10.0.0.0/8, '::1']\nready_requires: [store]\n"
        "limits: {body: 1536KiB, rate: 5}\ntimeouts: {head: 1500ms, body: 90s}\n"
        "drain: {delay: 0, timeout: 500ms}\ntracing: {ratio: 0.5}"
    )
    assert differences(config(), added(lines)) == (
        Difference("health", "none", "127.0.0.1:5003"),
        Difference("timeouts.head", "10s", "1.5s"),
        Difference("timeouts.body", "30s", "90s"),
        Difference("limits.body", "5MiB", "1536KiB"),
        Difference("limits.rate", "none", "5/s"),
        Difference("drain.delay", "5s", "0s"),
        Difference("drain.timeout", "25s", "500ms"),
        Difference("tracing.ratio", "0.01", "0.5"),
        Difference("ready_requires", "[]", "[store]"),
        Difference("trusted_proxies", "[]", "[10.0.0.0/8, ::1/128]", widens=True),
    )


def test_one_address_is_shown_as_one_and_several_as_a_list() -> None:
    several = config(("listen: 127.0.0.1:5001", "listen: [127.0.0.1:1, '[::1]:2']"))
    assert differences(config(), several) == (
        Difference("listen", "127.0.0.1:5001", "[127.0.0.1:1, [::1]:2]"),
    )


def test_what_may_hold_a_secret_is_not_shown() -> None:
    other = config(
        ("${BLNK_MASTER_KEY}", "s3cret-key"), ("redis://127.0.0.1:6379/0", "redis://:s3cret@127.0.0.1/0")
    )
    found = differences(config(), other)
    assert found == (
        Difference("upstream.master_key", "from the environment", "not shown"),
        Difference("keys.store", "not shown", "not shown"),
    )
    assert "s3cret" not in repr(found)


@pytest.mark.parametrize(
    ("old", "new", "wider"),
    [
        ("deny", "accept", True),
        ("deny", "${MODE}", True),
        ("${MODE}", "accept", True),
        ("accept", "deny", False),
        ("accept", "${MODE}", False),
        ("${MODE}", "deny", False),
    ],
)
def test_accepting_the_master_key_is_wider(old: str, new: str, wider: bool) -> None:
    found = differences(master(old), master(new))
    assert [(one.path, one.widens) for one in found] == [("keys.master", wider)]


@pytest.mark.parametrize(
    ("old", "new", "wider"),
    [
        ((), (f'{KEY}1: "2001-01-02"',), True),
        ((f'{KEY}1: "2001-01-02"',), (f'{KEY}1: "2001-01-03"',), True),
        ((f'{KEY}1: "2001-01-02"',), (f'{KEY}2: "2001-01-02"',), True),
        ((f'{KEY}1: "2001-01-02"',), (f'{KEY}1: "${{DAY}}"',), True),
        ((f'{KEY}1: "2001-01-03"',), (f'{KEY}1: "2001-01-02"',), False),
        ((f'{KEY}1: "2001-01-02"',), (), False),
    ],
)
def test_letting_a_key_pass_longer_is_wider(old: tuple[str, ...], new: tuple[str, ...], wider: bool) -> None:
    found = differences(*(report_only(*pairs) if pairs else config() for pairs in (old, new)))
    assert [(one.path, one.widens) for one in found] == [("keys.report_only", wider)]


@pytest.mark.parametrize(
    ("old", "new", "wider"),
    [("deny", "allow", True), ("deny", "${MODE}", True), ("allow", "deny", False)],
)
def test_deciding_without_a_stamp_is_wider(old: str, new: str, wider: bool) -> None:
    found = differences(*(added(f"decide:\n  unstamped: {value}") for value in (old, new)))
    assert [(one.path, one.widens) for one in found] == [("decide.unstamped", wider)]


TLS = "tls: {certificate: c, key: k%s}"


@pytest.mark.parametrize(
    ("old", "new", "path", "wider"),
    [
        (TLS % ", client_ca: a", TLS % "", "tls.client_ca", True),
        (TLS % "", TLS % ", client_ca: a", "tls.client_ca", False),
        (TLS % ", client_ca: a", TLS % ", client_ca: '${CA}'", "tls.client_ca", True),
        ("trusted_proxies: [10.0.0.1]", "trusted_proxies: [10.0.0.2]", "trusted_proxies", True),
        ("trusted_proxies: [10.0.0.1, 10.0.0.2]", "trusted_proxies: [10.0.0.2]", "trusted_proxies", False),
        ("trusted_proxies: [10.0.0.0/8]", "trusted_proxies: [10.0.0.2]", "trusted_proxies", False),
        ("trusted_proxies: [10.0.0.0/8]", "trusted_proxies: ['::1']", "trusted_proxies", True),
        ("trusted_proxies: [10.0.0.1]", "trusted_proxies: ${PEERS}", "trusted_proxies", True),
        (
            "trusted_proxies: [10.0.0.1]",
            "proxy_protocol: true\ntrusted_proxies: [10.0.0.1]",
            "proxy_protocol",
            True,
        ),
        (
            "proxy_protocol: true\ntrusted_proxies: [10.0.0.1]",
            "trusted_proxies: [10.0.0.1]",
            "proxy_protocol",
            False,
        ),
    ],
)
def test_asking_for_less_of_clients_and_trusting_more_peers_is_wider(
    old: str, new: str, path: str, wider: bool
) -> None:
    found = differences(added(old), added(new))
    assert [(one.path, one.widens) for one in found] == [(path, wider)]


def test_dates_are_shown_as_days() -> None:
    (found,) = differences(config(), report_only(f'{KEY}1: "2001-01-02"'))
    assert (found.old, found.new) == ("{}", f'{{{KEY}1: "2001-01-02"}}')
